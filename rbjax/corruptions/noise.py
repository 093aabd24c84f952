"""Noise: Gaussian, shot, impulse and speckle, of every value by itself."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from rbjax import perturbations, prng
from rbjax.typing import Array, Key

_TAIL = 6.0
"""Deviations below the mean where the sum over a Poisson distribution starts; 1e-9 lies below."""

_FROM_ZERO = 64.0
"""Up to this mean the sum starts at P(0), which float32 still holds."""

_BELOW_ONE = 1 - 4e-6
"""Keeps a uniform number below a sum of probabilities that float32 leaves short of 1."""


def poisson(key: Key, mean: Array, *, largest: float) -> Array:
    """Returns Poisson numbers, by inversion: the first k with u < P(0) + ... + P(k).

    What is left of u after the k-th term, in units of that term, is r_k = r_(k-1) k / mean - 1: so
    one number is carried, any kind of key works, and the cost is the same for all values.

    Args:
        key: one key.
        mean: any shape, in [0, largest].
        largest: the largest mean, at most 1e4.

    Returns:
        Whole numbers of the shape and dtype of `mean`. One in 250,000 would lie further in the
        upper tail.
    """
    first = jnp.where(mean <= _FROM_ZERO, 0.0, jnp.floor(mean - _TAIL * jnp.sqrt(mean)))
    # log P(first) by Stirling's series, whose terms do not cancel: a k log(mean) would cost digits.
    start = jnp.maximum(first, 1.0)
    excess = mean / start - 1
    stirling = 1 / (12 * start) - 1 / (360 * start**3) + 0.5 * jnp.log(2 * jnp.pi * start)
    log_term = jnp.where(first == 0, -mean, start * (jnp.log1p(excess) - excess) - stirling)
    uniform = prng.uniform(key, mean.shape, mean.dtype) * _BELOW_ONE
    rest = uniform * jnp.exp(-log_term) - 1
    inverse = 1 / jnp.maximum(mean, jnp.finfo(mean.dtype).tiny)

    def add_term(number: Array | int, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        rest, count = carry
        return rest * ((first + number) * inverse) - 1, count + (rest >= 0)

    small = min(largest, _FROM_ZERO)
    above = max(small + _TAIL * math.sqrt(small), 2 * _TAIL * math.sqrt(largest))
    num_terms = math.ceil(above + 10)
    # Or XLA on CPU draws the uniform numbers again for every eight terms: 3 times slower.
    first, rest, inverse = jax.lax.optimization_barrier((first, rest, inverse))
    _, count = jax.lax.fori_loop(1, num_terms + 1, add_term, (rest, jnp.zeros_like(mean)), unroll=8)
    return first + count


def gaussian_noise(key: Key, image: Array, *, sigma: float) -> Array:
    """Returns `image + sigma z`, z standard normal.

    Args:
        key: one key.
        image: (H, W, C) in [0, 1].
        sigma: in pixel units.

    Returns:
        (H, W, C).
    """
    return perturbations.gaussian_noise(sigma=sigma)(key, image)


def shot_noise(key: Key, image: Array, *, photons: float) -> Array:
    """Returns `Poisson(photons image) / photons`.

    Args:
        key: one key.
        image: (H, W, C) in [0, 1].
        photons: those that a white value stands for, at most 1e4.

    Returns:
        (H, W, C).
    """
    return poisson(key, image * photons, largest=photons) / photons


def impulse_noise(key: Key, image: Array, *, share: float) -> Array:
    """Returns the image with some values, not whole pixels, set to 0 or 1.

    Args:
        key: one key.
        image: (H, W, C) in [0, 1].
        share: of the values that are set, half of them to 1.

    Returns:
        (H, W, C).
    """
    return perturbations.impulse_noise(amount=share)(key, image)


def speckle_noise(key: Key, image: Array, *, sigma: float) -> Array:
    """Returns `image + sigma image z`, z standard normal.

    Args:
        key: one key.
        image: (H, W, C) in [0, 1].
        sigma: relative to the value.

    Returns:
        (H, W, C).
    """
    return image + sigma * image * prng.normal(key, image.shape, image.dtype)
