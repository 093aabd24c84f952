"""Reading an image of 8 bits along an affine map, as Pillow does: bit for bit."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from rbjax.data.rounding import times
from rbjax.data.words import Words, joined
from rbjax.typing import Array

Coefficients = tuple[Array | float, Array | float, Array | float]
"""(a, b, c) of `a x + b y + c`."""


def affine(words: Words, to_x: Coefficients | None, to_y: Coefficients | None) -> Words:
    """Returns `out(x, y) = in(a x + b y + c, d x + e y + f)`, bilinear, black outside.

    A pixel's centre lies at + 0.5.

    Args:
        words: an image.
        to_x: (a, b, c), floating; None: x stays as it is, and nothing is interpolated along it.
        to_y: (d, e, f), likewise.

    Returns:
        The image.
    """
    height, width, channels = words.shape
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
        flat = [word.reshape(-1) for word in words.pixels]

        def read(place: Array) -> Words:
            pixels = [word.at[place].get(mode="promise_in_bounds") for word in flat]
            return Words(tuple(pixels), channels)

        corners = [[read(place) for place in line] for line in places]
        corners = jax.lax.optimization_barrier(corners)

        def moved(channel: int) -> Array:
            above, *below = (
                _between([corner.levels(channel) for corner in line], along_x) for line in corners
            )
            if to_x is None:
                above = _between([above, *below], along_y)
            elif below:
                # Not exact in two halves here; a fused product differs by 1e-14 of a level.
                above = above + (below[0] - above) * along_y
            return jnp.where(inside, above.astype(jnp.int32), 0)

        return joined([moved(channel) for channel in range(channels)])


def shift(words: Words, right: Array | int, down: Array | int) -> Words:
    """Returns `out(x, y) = in(x + right, y + down)`, black outside.

    Args:
        words: an image.
        right: whole columns; of either sign.
        down: whole rows, likewise.

    Returns:
        The image.
    """
    height, width, channels = words.shape
    start = (height + jnp.clip(down, -height, height), width + jnp.clip(right, -width, width))
    start = tuple(map(jnp.int32, start))

    def moved(word: Array) -> Array:
        padded = jnp.pad(word, ((height, height), (width, width)))
        return jax.lax.dynamic_slice(padded, start, (height, width))

    return Words(tuple(map(moved, words.pixels)), channels)


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
