"""Glass blur: pixels that change places with neighbours, one after the other, between two blurs."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from rbjax import prng
from rbjax.corruptions.blur import blur
from rbjax.inputs import truncate
from rbjax.typing import Array, Key


def shuffled(offsets: Array, *, max_shift: int) -> Array:
    """Returns where each pixel comes from after a pass of copies, last pixel first.

    Rows and columns run from H - s and W - s down to s + 1, s the largest shift; the pixel there
    becomes what its neighbour is by then. A neighbour further on has already been replaced, so a
    pixel's source is found by following neighbours to one that has not: for all pixels at once,
    each step doubling the distance.

    Args:
        offsets: (H, W, 2) integers in [-s, s - 1], rows and columns to the neighbour; those
            outside the rows and columns above are not used.
        max_shift: s, at least 1.

    Returns:
        (H W,) int32, indices into the flat image before the pass.
    """
    height, width, _ = offsets.shape
    row, column = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
    moves = (row > max_shift) & (row <= height - max_shift)
    moves &= (column > max_shift) & (column <= width - max_shift)
    here = row * width + column
    neighbour = here + offsets[..., 0] * width + offsets[..., 1]
    source = jnp.where(moves, neighbour, here).reshape(-1)
    continues = (source > here.reshape(-1)) & moves.reshape(-1)[source]

    def follow(state: tuple[Array, Array]) -> tuple[Array, Array]:
        source, continues = state
        return jnp.where(continues, source[source], source), continues & continues[source]

    source, _ = jax.lax.while_loop(lambda state: jnp.any(state[1]), follow, (source, continues))
    return source


def swapped(key: Key, shape: tuple[int, int], *, max_shift: int, num_passes: int) -> Array:
    """Returns which pixel each place holds after swaps with random neighbours.

    For rows from H - s down to s + 1 and columns from W - s down to s + 1, s the largest shift:
    with probability 1/2 the pixel changes places with the one -s to s - 1 rows and columns away.

    Args:
        key: one key.
        shape: (H, W).
        max_shift: s, at least 1.
        num_passes: how often all of it, at least 1.

    Returns:
        (H, W) int32, a permutation of 0 to H W - 1.
    """
    height, width = shape
    rows = np.arange(height - max_shift, max_shift, -1)
    columns = np.arange(width - max_shift, max_shift, -1)
    one_pass = (rows[:, None] * width + columns).ravel().astype(np.int32)
    places = jnp.asarray(np.tile(one_pass, num_passes))
    coin_key, move_key = prng.split(key)
    moves = prng.randint(move_key, (2, len(places)), -max_shift, max_shift)
    away = moves[0] * width + moves[1]
    others = places + jnp.where(prng.bernoulli(coin_key, shape=away.shape), away, 0)

    def swap(held: Array, pair: tuple[Array, Array]) -> tuple[Array, None]:
        place, other = pair
        here, there = held[place], held[other]
        return held.at[place].set(there).at[other].set(here), None

    start = jnp.arange(height * width, dtype=jnp.int32)
    held, _ = jax.lax.scan(swap, start, (places, others), unroll=8)
    return held.reshape(shape)


def glass_blur(
    key: Key, image: Array, *, sigma: float, max_shift: int, num_passes: int, profile: str
) -> Array:
    """Returns the image as seen through frosted glass: blurred, cut to 8 bits, shuffled, blurred.

    In a pass, from the last pixel to the first, each but those near the border takes the value of a
    neighbour, its offsets down and across uniform in -s to s - 1 (`shuffled`): what is written as
    a swap in the published code copies, because two views of one array exchange nothing. In the
    profile "mnist", whose images have two axes, it does swap (`swapped`), half of the time; and its
    blur is down the columns only, since the published code takes an image's rows for channels.

    Args:
        key: one key.
        image: (H, W, C) in [0, 1].
        sigma: of the blur, in pixels.
        max_shift: s, in pixels.
        num_passes: how often the pixels are shuffled.
        profile: one of `PROFILES`.

    Returns:
        (H, W, C).

    Source:
        Hendrycks and Dietterich 2019, arXiv 1903.12261; Mu and Gilmer 2019, arXiv 1906.02337.
    """
    height, width, channels = image.shape
    if profile == "mnist":
        held = swapped(key, (height, width), max_shift=max_shift, num_passes=num_passes)
        pixels = truncate(blur(image, sigma, vertical=True)).reshape(-1, channels)
        return blur(jnp.take(pixels, held, axis=0, mode="clip"), sigma, vertical=True)
    image = truncate(blur(image, sigma))
    for one_key in prng.split(key, num_passes):
        offsets = prng.randint(one_key, (height, width, 2), -max_shift, max_shift)
        source = shuffled(offsets, max_shift=max_shift)
        image = image.reshape(-1, channels)[source].reshape(image.shape)
    return blur(image, sigma)
