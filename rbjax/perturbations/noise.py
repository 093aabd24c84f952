"""Additive noise on every value of an image."""

from __future__ import annotations

import dataclasses

import jax

from rbjax import checks
from rbjax.perturbations.chain import Clipped
from rbjax.typing import Array, Key


@dataclasses.dataclass(frozen=True)
class _Gaussian:
    sigma: float

    def __call__(self, key: Key, image: Array) -> Array:
        return image + self.sigma * jax.random.normal(key, image.shape, image.dtype)


@dataclasses.dataclass(frozen=True)
class _Uniform:
    epsilon: float

    def __call__(self, key: Key, image: Array) -> Array:
        noise = jax.random.uniform(key, image.shape, image.dtype, minval=-1.0, maxval=1.0)
        return image + self.epsilon * noise


def gaussian_noise(*, sigma: float = 0.1) -> Clipped:
    """Returns the perturbation `clip(image + sigma z, 0, 1)`, z standard normal.

    Args:
        sigma: standard deviation, in pixel units.

    Returns:
        (key, image (H, W, C)) -> image.

    Raises:
        ValueError: if sigma is negative or not finite.
    """
    return Clipped(_Gaussian(checks.real("sigma", sigma)))


def uniform_noise(*, epsilon: float = 0.1) -> Clipped:
    """Returns the perturbation `clip(image + u, 0, 1)`, every value of u uniform in +-epsilon.

    Args:
        epsilon: half the width, in pixel units, at most 1.

    Returns:
        (key, image (H, W, C)) -> image.

    Raises:
        ValueError: if epsilon is not between 0 and 1.
    """
    return Clipped(_Uniform(checks.real("epsilon", epsilon, high=1.0)))
