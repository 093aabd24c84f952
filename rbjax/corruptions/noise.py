"""Noise: Gaussian, shot, impulse and speckle."""

from __future__ import annotations

import dataclasses

import jax

from rbjax.corruptions.constants import Constants
from rbjax.typing import Array, Key, Perturbation


@dataclasses.dataclass(frozen=True)
class _Gaussian:
    sigma: float

    def __call__(self, key: Key, image: Array) -> Array:
        return image + self.sigma * jax.random.normal(key, image.shape, image.dtype)


def gaussian_noise(constants: Constants, *, profile: str) -> Perturbation:
    """Returns the corruption `image + sigma z`, z standard normal for every value.

    Args:
        constants: (sigma,) in pixel units.
        profile: one of `PROFILES`; all do the same.

    Returns:
        (key, image (H, W, C)) -> image.
    """
    del profile
    return _Gaussian(*constants)
