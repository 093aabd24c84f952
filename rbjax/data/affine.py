"""Reading an image of 8 bits along an affine map, as Pillow does: bit for bit."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from rbjax.data.rounding import times
from rbjax.typing import Array

Coefficients = tuple[Array | float, Array | float, Array | float]
"""(a, b, c) of `a x + b y + c`."""


def affine(levels: Array, to_x: Coefficients | None, to_y: Coefficients | None) -> Array:
    """Returns `out(x, y) = in(a x + b y + c, d x + e y + f)`, bilinear, black outside.

    A pixel's centre lies at + 0.5.

    Args:
        levels: (H, W, C) int32 in [0, 255].
        to_x: (a, b, c), floating; None: x stays as it is, and nothing is interpolated along it.
        to_y: (d, e, f), likewise.

    Returns:
        (H, W, C) int32.
    """
    height, width, channels = levels.shape
    with jax.enable_x64(True):
        x = jnp.arange(width, dtype=jnp.float64) + 0.5
        y = jnp.arange(height, dtype=jnp.float64)[:, None] + 0.5
        columns, along_x, inside_x = _source(x, y, to_x, x, width)
        rows, along_y, inside_y = _source(x, y, to_y, y, height)
        places = [[row * width + column for column in columns] for row in rows]
        # The barriers have the processor compute each once, not wherever a fused program reads it.
        places, along_x, along_y, inside = jax.lax.optimization_barrier(
            (places, along_x, along_y, inside_x & inside_y)
        )

        def moved(word: Array, shift: int) -> Array:
            above, *below = (
                _between([(word[place] >> shift) & 255 for place in line], along_x)
                for line in places
            )
            if len(places[0]) == 1:
                above = _between([above, *below], along_y)
            elif below:
                # Not exact in two halves here; a fused product differs by 1e-14 of a level.
                above = above + (below[0] - above) * along_y
            return jnp.where(inside, above.astype(jnp.int32), 0) << shift

        shifts = (0, 8, 16, 24)[:channels]
        words = [sum(moved(word, shift) for shift in shifts) for word in _words(levels)]
        words = jax.lax.optimization_barrier(jnp.stack(words, axis=-1))
        result = (words[..., None] >> jnp.array(shifts, jnp.int32)) & 255
    return result.reshape(height, width, -1)[..., :channels]


def _source(
    x: Array, y: Array, coefficients: Coefficients | None, centre: Array, size: int
) -> tuple[list[Array], Array, Array]:
    """The one or two places along an axis that are read, the second one's share, what is inside."""
    if coefficients is None:
        return [jnp.floor(centre).astype(jnp.int32)], jnp.zeros(()), jnp.bool(True)
    a, b, c = (jnp.asarray(number, jnp.float64) for number in coefficients)
    source = times(a, x) + times(b, y) + c
    first = jnp.floor(source - 0.5)
    near = [jnp.clip(first + i, 0, size - 1).astype(jnp.int32) for i in (0, 1)]
    return near, (source - 0.5) - first, (source >= 0) & (source < size)


def _between(levels: list[Array], share: Array) -> Array:
    """Between two levels, exactly; one level as it is."""
    first, *second = levels
    return first + times(share, second[0] - first) if second else first


def _words(levels: Array) -> list[Array]:
    """Pixels, each (H W,) int32: four channels in a word, so that they are read as one."""
    pixels = levels.reshape(-1, levels.shape[-1])
    return [
        functools.reduce(
            jnp.bitwise_or,
            (pixels[:, first + i] << 8 * i for i in range(min(4, pixels.shape[1] - first))),
        )
        for first in range(0, pixels.shape[1], 4)
    ]
