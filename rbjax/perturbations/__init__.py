"""Perturbations: pure functions (key, image) -> image of one image in [0, 1].

Batches go through `jax.vmap`, chains through `compose`, or by name through `create("fog+rain")`.
A new one is a maker in a file of its kind and a line in `PERTURBATIONS`; the contract suite then
covers it. An option has one meaning in all of them, since the members of a chain share their
options.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rbjax.perturbations.blur import gaussian_blur
from rbjax.perturbations.chain import compose
from rbjax.perturbations.diffeomorphism import diffeomorphism, gaussian_diffeomorphism
from rbjax.perturbations.geometric import rotation, shift
from rbjax.perturbations.noise import gaussian_noise, impulse_noise, uniform_noise
from rbjax.perturbations.photometric import brightness, contrast
from rbjax.perturbations.pixels import random_pixels
from rbjax.perturbations.weather import fog, rain, snow
from rbjax.tables import Table, is_made
from rbjax.typing import Perturbation

__all__ = [
    "PERTURBATIONS",
    "brightness",
    "compose",
    "contrast",
    "create",
    "diffeomorphism",
    "fog",
    "gaussian_blur",
    "gaussian_diffeomorphism",
    "gaussian_noise",
    "impulse_noise",
    "rain",
    "random_pixels",
    "rotation",
    "shift",
    "snow",
    "uniform_noise",
]

PERTURBATIONS: Table[Perturbation] = Table(
    "perturbation",
    {
        "random_pixels": random_pixels,
        "gaussian_noise": gaussian_noise,
        "uniform_noise": uniform_noise,
        "impulse_noise": impulse_noise,
        "gaussian_blur": gaussian_blur,
        "brightness": brightness,
        "contrast": contrast,
        "shift": shift,
        "rotation": rotation,
        "diffeomorphism": diffeomorphism,
        "snow": snow,
        "fog": fog,
        "rain": rain,
    },
    makes=(Callable, "a function (key, image)"),
)
"""The makers by name."""


def create(name: str | Callable[..., Any], **options: Any) -> Perturbation:
    """Returns a perturbation, or a chain of them, by name.

    Args:
        name: a name in `PERTURBATIONS` or `package.module:maker`, or several joined by "+": the
            members of a chain, the first one applied first; or a maker; or a perturbation, which is
            returned.
        **options: the maker's keywords; in a chain each goes to every member that has it.

    Returns:
        (key, image) -> image.

    Raises:
        ValueError: for an unknown name or option, or one out of range.
    """
    if not isinstance(name, str):
        if not callable(name) or not is_made(name, 2):
            return PERTURBATIONS.create(name, options)
        if options:
            raise ValueError(f"a perturbation that is made already has no options; got {options}")
        return name
    members = PERTURBATIONS.create_each(name, options)
    return members[0] if len(members) == 1 else compose(*members)
