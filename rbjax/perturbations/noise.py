"""Noise on the values of an image: additive, and impulses in their place."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import jax.numpy as jnp

from rbjax import prng
from rbjax.options import Range, Share, checked
from rbjax.perturbations.chain import Clipped
from rbjax.typing import Array, Key


@dataclasses.dataclass(frozen=True)
class _Gaussian:
    sigma: float

    def __call__(self, key: Key, image: Array) -> Array:
        return image + self.sigma * prng.normal(key, image.shape, image.dtype)


@dataclasses.dataclass(frozen=True)
class _Uniform:
    epsilon: float
    truncated: bool

    def __call__(self, key: Key, image: Array) -> Array:
        if self.truncated:
            low = jnp.maximum(image - self.epsilon, 0.0)
            high = jnp.minimum(image + self.epsilon, 1.0)
            return low + (high - low) * prng.uniform(key, image.shape, image.dtype)
        noise = prng.uniform(key, image.shape, image.dtype, minval=-1.0, maxval=1.0)
        return image + self.epsilon * noise


@dataclasses.dataclass(frozen=True)
class _Impulse:
    amount: float

    def __call__(self, key: Key, image: Array) -> Array:
        number = prng.uniform(key, image.shape)
        image = jnp.where(number < self.amount, jnp.ones_like(image), image)
        return jnp.where(number < self.amount / 2, jnp.zeros_like(image), image)


@checked
def gaussian_noise(
    *, sigma: Annotated[float, Range(low=0.0, unit="pixels in [0, 1]")] = 0.1
) -> Clipped:
    """Returns the perturbation `clip(image + sigma z, 0, 1)`, z standard normal.

    Args:
        sigma: standard deviation, in pixel units.

    Returns:
        (key, image (H, W, C)) -> image.

    Raises:
        ValueError: if sigma is negative or not finite.
    """
    return Clipped(_Gaussian(sigma))


@checked
def uniform_noise(
    *,
    epsilon: Annotated[float, Range(low=0.0, high=1.0, unit="pixels in [0, 1]")] = 0.1,
    truncated: bool = False,
) -> Clipped:
    """Returns the perturbation `clip(image + u, 0, 1)`, every value of u uniform in +-epsilon.

    Clipped, half of the draws leave a black value black. Truncated, a value is uniform in the part
    of [x - epsilon, x + epsilon] that lies in [0, 1], as PRBench's code draws it.

    Args:
        epsilon: half the width, in pixel units, at most 1.
        truncated: whether to draw inside [0, 1] rather than to clip.

    Returns:
        (key, image (H, W, C)) -> image.

    Raises:
        ValueError: if epsilon is not between 0 and 1.

    Source:
        PRBench, arXiv 2511.01724, for the truncated law.
    """
    return Clipped(_Uniform(epsilon, truncated))


@checked
def impulse_noise(*, amount: Share = 0.05) -> Clipped:
    """Returns the perturbation that sets values to 0 or 1 (salt and pepper).

    Each value, so each channel of a pixel by itself, as in scikit-image and ImageNet-C, becomes 0
    with probability amount / 2 and 1 with probability amount / 2.

    Args:
        amount: share of the values, at most 1.

    Returns:
        (key, image (H, W, C)) -> image.

    Raises:
        ValueError: if amount is not between 0 and 1.

    Source:
        Hendrycks and Dietterich 2019, arXiv 1903.12261, "impulse noise".
    """
    return Clipped(_Impulse(amount))
