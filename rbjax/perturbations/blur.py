"""Blur: every value becomes a weighted mean of its neighbours."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np

from rbjax import prng
from rbjax.options import Range, checked
from rbjax.perturbations.chain import Clipped
from rbjax.typing import Array, Key

_NO_BLUR = 1e-3
"""A sigma so small that every neighbour's weight is 0; 0 itself would divide by 0."""


def blur(image: Array, sigma: Array | float, *, radius: int) -> Array:
    """Returns the image convolved with a Gaussian; beyond an edge its last pixel goes on.

    w_i ~ exp(-i^2 / (2 sigma^2)), |i| <= radius, summing to 1, down the rows and then along them.
    Constants are preserved up to the edge, which `dm_pix.gaussian_blur` darkens; that one also
    gives NaN at sigma = 0, and per-image sigmas make a grouped convolution of it.

    Args:
        image: (H, W, C).
        sigma: standard deviation, in pixels, at least 0.
        radius: neighbours on each side, at least 0.

    Returns:
        (H, W, C), of the image's dtype.
    """
    offsets = np.arange(-radius, radius + 1)
    weights = jnp.exp(-0.5 * (offsets / jnp.maximum(sigma, _NO_BLUR)) ** 2)
    weights = (weights / jnp.sum(weights)).astype(image.dtype)
    height, width, _ = image.shape
    rows = jnp.pad(image, ((radius, radius), (0, 0), (0, 0)), mode="edge")
    image = sum((w * rows[i : i + height] for i, w in enumerate(weights)), jnp.zeros_like(image))
    columns = jnp.pad(image, ((0, 0), (radius, radius), (0, 0)), mode="edge")
    return sum(
        (w * columns[:, i : i + width] for i, w in enumerate(weights)), jnp.zeros_like(image)
    )


def motion_blur(image: Array, degrees: Array | float, *, radius: int, sigma: float) -> Array:
    """Returns the image smeared in one direction by one half of a Gaussian.

    out(y, x) = sum_i w_i image(y + ceil(i sin a - 1/2), x + ceil(i cos a - 1/2)),
    w_i ~ exp(-i^2 / (2 sigma^2)), i = 0 to 2 radius; beyond an edge its last pixel goes on.

    Args:
        image: (H, W, C).
        degrees: the direction a: 0 along the rows, 90 down the columns.
        radius: half the number of neighbours.
        sigma: the Gaussian's standard deviation, in pixels, above 0.

    Returns:
        (H, W, C), of the image's dtype.

    Source:
        The motion blur of Hendrycks and Dietterich 2019, arXiv 1903.12261 (ImageMagick's).
    """
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    weights /= weights.sum()
    angle = jnp.deg2rad(degrees)
    reach = 2 * radius
    down = jnp.ceil(steps * jnp.sin(angle) - 0.5).astype(jnp.int32) + reach
    right = jnp.ceil(steps * jnp.cos(angle) - 0.5).astype(jnp.int32) + reach
    padded = jnp.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    # Or XLA on CPU works the image out anew for every neighbour: 10 times slower in `snow`.
    padded = jax.lax.optimization_barrier(padded)
    blurred = jnp.zeros_like(image)
    for i, weight in enumerate(weights):
        neighbours = jax.lax.dynamic_slice(padded, (down[i], right[i], jnp.int32(0)), image.shape)
        blurred += float(weight) * neighbours
    return jax.lax.optimization_barrier(blurred)


@dataclasses.dataclass(frozen=True)
class _Blur:
    max_sigma: float

    def __call__(self, key: Key, image: Array) -> Array:
        sigma = prng.uniform(key, maxval=self.max_sigma)
        return blur(image, sigma, radius=math.ceil(4 * self.max_sigma))


@checked
def gaussian_blur(
    *, max_sigma: Annotated[float, Range(low=0.0, high=10.0, unit="pixels")] = 1.0
) -> Clipped:
    """Returns the perturbation that blurs by a Gaussian of random width.

    See `blur`: sigma is uniform in [0, max_sigma], the kernel ends at 4 max_sigma, the image goes
    on beyond an edge with its last pixel.

    Args:
        max_sigma: the largest standard deviation, in pixels, at most 10.

    Returns:
        (key, image (H, W, C)) -> image.

    Raises:
        ValueError: if max_sigma is not between 0 and 10.
    """
    return Clipped(_Blur(max_sigma))
