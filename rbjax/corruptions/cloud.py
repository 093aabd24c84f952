"""The clouds of ImageNet-C's fog, where only one corner of a large map is used.

The map's smallest and largest value scale that corner, so all of the map has to be drawn. The
finest levels hold nearly all of its points and nearly none of its height: their noise comes from a
cheap hash, a byte a point, and the last level is reduced without being put together.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from rbjax.perturbations.weather import diamond_square, interleave
from rbjax.typing import Array, Key

_FINE = 32
"""Levels that start from a grid of this side or more have an amplitude below decay^-10 (0.035)."""

_BLOCK = 16
"""Maps that are drawn at a time on CPU: as many as its cache holds. All at once take 5 times as
long for 256 images."""


def corner(key: Key, size: int, shape: tuple[int, int], *, decay: float) -> Array:
    """Returns the upper left part of a random cloud, by the diamond-square algorithm on a torus.

    `rbjax.perturbations.weather.plasma(key, size, decay=decay)[:height, :width]` for sizes up to
    32, the same draws; beyond, the same distribution but for the noise of the fine levels, which
    has 256 values (steps of at most 2.8e-4 of the first level's noise).

    Args:
        key: one key.
        size: the map's side, a power of two.
        shape: (H, W), at most the size.
        decay: at least 1; the larger, the smoother.

    Returns:
        (H, W) float32, scaled so that the whole map covers [0, 1].

    Source:
        Hendrycks and Dietterich 2019, arXiv 1903.12261, "fog".
    """
    one = functools.partial(_corner, size=size, shape=shape, decay=decay)
    if size <= _FINE:
        return one(key)
    draw = jax.custom_batching.custom_vmap(one)

    @draw.def_vmap
    def _(axis_size: int, in_batched: list[bool], keys: Key) -> tuple[Array, bool]:
        del axis_size, in_batched

        def in_blocks(keys: Key) -> Array:
            return jax.lax.map(one, keys, batch_size=_BLOCK)

        return jax.lax.platform_dependent(keys, cpu=in_blocks, default=jax.vmap(one)), True

    return draw(key)


def _corner(key: Key, *, size: int, shape: tuple[int, int], decay: float) -> Array:
    noise = jax.random.uniform(key, (min(size, _FINE) ** 2 - 1,), minval=-1.0, maxval=1.0)
    seeds = jax.random.bits(jax.random.fold_in(key, 1), (2,))
    grid, amplitude, used = jnp.zeros((1, 1)), 1.0, 0
    for n in (1 << level for level in range(size.bit_length() - 1)):
        if n < _FINE:
            of_level = noise[used : used + 3 * n * n].reshape(3, n, n)
        else:
            of_level = cheap_noise(seeds, n)
        parts = diamond_square(grid, amplitude * of_level)
        amplitude, used = amplitude / decay**2, used + 3 * n * n
        if 2 * n < size:
            grid = interleave(*parts)
    least = jnp.min(jnp.stack([jnp.min(part) for part in parts]))
    most = jnp.max(jnp.stack([jnp.max(part) for part in parts]))
    rows, columns = (-(-side // 2) for side in shape)
    cut = interleave(*(part[:rows, :columns] for part in parts))[: shape[0], : shape[1]]
    return (cut - least) / (most - least)


def cheap_noise(seeds: Array, n: int) -> Array:
    """Returns (3, n, n) values uniform on 256 levels in (-1, 1): four from a word of a hash."""
    words = 3 * n * n // 4
    # Counters start at the number of words: every level has its own.
    counters = jnp.arange(words, 2 * words, dtype=jnp.uint32).reshape(3, 1, n // 4, n)
    word = _mix(_mix(counters ^ seeds[0]) + seeds[1])
    word = jax.lax.optimization_barrier(word)  # or each is worked out four times
    shifts = np.arange(0, 32, 8, dtype=np.uint32).reshape(1, 4, 1, 1)
    values = ((word >> shifts) & 255).astype(jnp.int32)
    return (values.astype(jnp.float32) * (2 / 256) + (1 / 256 - 1)).reshape(3, n, n)


def _mix(word: Array) -> Array:
    """Returns the 32-bit words stirred: a bijection that flips half of the bits for each bit."""
    word = (word ^ (word >> 16)) * np.uint32(0x7FEB352D)
    word = (word ^ (word >> 15)) * np.uint32(0x846CA68B)
    return word ^ (word >> 16)
