"""Perturbations: pure functions (key, image) -> image of one image in [0, 1].

Batches go through `jax.vmap`, chains through `compose`. A new one is a maker in a file of its own
and a line in `PERTURBATIONS`; the contract suite then covers it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rbjax import checks
from rbjax.perturbations.chain import compose
from rbjax.perturbations.noise import gaussian_noise, uniform_noise
from rbjax.perturbations.pixels import random_pixels
from rbjax.typing import Perturbation

__all__ = [
    "PERTURBATIONS",
    "compose",
    "create",
    "gaussian_noise",
    "random_pixels",
    "uniform_noise",
]

PERTURBATIONS: dict[str, Callable[..., Perturbation]] = {
    "random_pixels": random_pixels,
    "gaussian_noise": gaussian_noise,
    "uniform_noise": uniform_noise,
}
"""The makers by name."""


def create(name: str, **options: Any) -> Perturbation:
    """Returns a perturbation by name.

    Args:
        name: a name in `PERTURBATIONS`.
        **options: its maker's keywords.

    Returns:
        (key, image) -> image.

    Raises:
        ValueError: for an unknown name or option, or one out of range.
    """
    return checks.make(PERTURBATIONS, name, options, what="perturbation")
