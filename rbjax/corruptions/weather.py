"""Weather: snow and fog, as ImageNet-C and its relatives make them; frost has its own file.

Fog shows one corner of a large map, whose smallest and largest values scale that corner, so all of
the map has to be drawn. The finest levels hold nearly all of its points and nearly none of its
height: their noise comes from a cheap hash, a byte a point, and the last level is reduced without
being put together.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from rbjax import prng
from rbjax.perturbations.weather import (
    add_fog,
    add_snow,
    diamond_square,
    interleave,
    snow_layer,
)
from rbjax.typing import Array, Key

_FINE = 32
"""Levels that start from a grid of this side or more have an amplitude below decay^-10 (0.035)."""

_BLOCK = 16
"""Maps that are drawn at a time on CPU: as many as fit into its cache. All at once take 5 times as
long for 256 images."""


def fog(key: Key, image: Array, *, thickness: float, decay: float, map_side: int) -> Array:
    """Returns the image behind a cloud.

    (x + c p) m / (m + c), m the image's largest value, p the upper left corner of a map by
    diamond-square: `cloud_corner` and `rbjax.perturbations.weather.add_fog`.

    Args:
        key: one key.
        image: (H, W, C) in [0, 1].
        thickness: c, at least 0.
        decay: at least 1; the larger, the smoother the cloud.
        map_side: of the map, in pixels, a power of two; larger images get a map that holds them.

    Returns:
        (H, W, C).

    Source:
        Hendrycks and Dietterich 2019, arXiv 1903.12261.
    """
    height, width, _ = image.shape
    side = max(map_side, 1 << (max(height, width) - 1).bit_length())
    clouds = cloud_corner(key, side, (height, width), decay=decay)
    return add_fog(image, clouds, thickness=thickness)


def snow(
    key: Key,
    image: Array,
    *,
    mean: float,
    std: float,
    zoom: float,
    threshold: float,
    radius: int,
    sigma: float,
    kept: float,
) -> Array:
    """Returns the image whitened and behind falling snow.

    k x + (1 - k) max(x, 1.5 grey + 0.5) + layer + layer turned by 180 degrees; the layer is normal
    noise, the middle of it enlarged, cut off below and smeared in a direction uniform in -135 to
    -45 degrees: `rbjax.perturbations.weather.snow_layer` and `add_snow`. The published code keeps
    the layer in 8 bits on the way, which moves it by at most 1 / 255.

    Args:
        key: one key.
        image: (H, W, C) in [0, 1].
        mean: of the noise.
        std: its standard deviation.
        zoom: how many times the noise is enlarged.
        threshold: what is below it is no flake.
        radius: of the motion blur, in pixels.
        sigma: of the motion blur, in pixels.
        kept: k, in [0, 1].

    Returns:
        (H, W, C).

    Source:
        Hendrycks and Dietterich 2019, arXiv 1903.12261.
    """
    height, width, _ = image.shape
    layer = snow_layer(
        key,
        (height, width),
        mean=mean,
        std=std,
        zoom=zoom,
        threshold=threshold,
        radius=radius,
        sigma=sigma,
    )
    return add_snow(image, layer, whiteness=1 - kept)


def cloud_corner(key: Key, size: int, shape: tuple[int, int], *, decay: float) -> Array:
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

    def one(key: Key) -> Array:
        noise = prng.uniform(key, (min(size, _FINE) ** 2 - 1,), minval=-1.0, maxval=1.0)
        seeds = prng.bits(prng.fold_in(key, 1), (2,))
        grid, amplitude, used = jnp.zeros((1, 1), jnp.float32), 1.0, 0
        for n in [1 << level for level in range(size.bit_length() - 1)]:
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
        rows, columns = [-(-side // 2) for side in shape]
        cut = interleave(*[part[:rows, :columns] for part in parts])[: shape[0], : shape[1]]
        return (cut - least) / (most - least)

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


def cheap_noise(seeds: Array, n: int) -> Array:
    """Returns (3, n, n) values uniform on 256 levels in (-1, 1): four from a word of a hash."""
    words = 3 * n * n // 4
    # Counters start at the number of words: every level has its own.
    counters = jnp.arange(words, 2 * words, dtype=jnp.uint32).reshape(3, 1, n // 4, n)
    word = _mix(_mix(counters ^ seeds[0]) + seeds[1])
    word = jax.lax.optimization_barrier(word)  # or each is computed four times
    shifts = np.arange(0, 32, 8, dtype=np.uint32).reshape(1, 4, 1, 1)
    values = ((word >> shifts) & 255).astype(jnp.int32)
    return (values.astype(jnp.float32) * (2 / 256) + (1 / 256 - 1)).reshape(3, n, n)


def _mix(word: Array) -> Array:
    """Returns the 32-bit words stirred: a bijection that flips half of the bits for each bit."""
    word = (word ^ (word >> 16)) * np.uint32(0x7FEB352D)
    word = (word ^ (word >> 15)) * np.uint32(0x846CA68B)
    return word ^ (word >> 16)
