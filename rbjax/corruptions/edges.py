"""Edges, distances to them and equalised histograms of one 2-D image.

They are those of OpenCV and scikit-image: the same whole numbers for the same input. All are
jit- and vmap-able; growing an edge, which has no fixed number of steps, is a loop that ends when
nothing changes.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from rbjax.corruptions import separable
from rbjax.typing import Array

UNIT = 10_000
"""Of distances: so many are a pixel."""

_STEPS = (10_000, 14_000, 21_969)
"""OpenCV's lengths of a straight, a diagonal and a knight's step."""

_TANGENT = round(np.tan(np.pi / 8) * (1 << 15))
"""Of 22.5 degrees, in 1 / 32768."""


def smooth(image: Array, sigma: float, *, inside_only: bool = False) -> Array:
    """Returns the image blurred by a Gaussian that is cut off at 4 sigma, as scikit-image does.

    Args:
        image: (H, W).
        sigma: in pixels, at least 0.
        inside_only: whether pixels outside have no weight; if not, the last one is repeated.

    Returns:
        (H, W).
    """

    def blur(side: int) -> np.ndarray:
        if not inside_only:
            return separable.gaussian(side, sigma)
        radius = int(4 * sigma + 0.5)
        matrix = separable.gaussian(side + 2 * radius, sigma)[radius:, radius:][:side, :side]
        return matrix / matrix.sum(1, keepdims=True)

    return separable.apply(image[..., None], *map(blur, image.shape))[..., 0]


def sobel(image: Array) -> tuple[Array, Array]:
    """Returns the derivatives down the columns and along the rows, of the image's dtype.

    Differences of next-but-one neighbours, weighted (1, 2, 1) across; the last pixel is repeated
    beyond an edge.
    """
    padded = jnp.pad(image, 1, mode="edge")
    down, along = padded[2:] - padded[:-2], padded[:, 2:] - padded[:, :-2]
    return (
        down[:, :-2] + 2 * down[:, 1:-1] + down[:, 2:],
        along[:-2] + 2 * along[1:-1] + along[2:],
    )


def canny(image: Array, *, low: int, high: int) -> Array:
    """Returns the edges that OpenCV's `Canny` finds with a Sobel aperture of 3 and the L1 norm.

    A pixel whose |dx| + |dy| exceeds `low` and is the largest along the gradient, of four
    directions, may be an edge; it is one if it exceeds `high` or touches one.

    Args:
        image: (H, W) int32 in [0, 255].
        low: the lower threshold, at least 0.
        high: the upper one.

    Returns:
        (H, W) bool.

    Source:
        Canny 1986, "A computational approach to edge detection"; the rounding is OpenCV's.
    """
    dy, dx = sobel(image)
    size = jnp.abs(dx) + jnp.abs(dy)
    at = _neighbours(size)
    flat = jnp.abs(dx) * _TANGENT
    height = jnp.abs(dy) << 15
    is_flat = height < flat
    is_steep = height > flat + (jnp.abs(dx) << 16)
    alike = (dx ^ dy) >= 0
    before = jnp.where(alike, at(-1, -1), at(-1, 1))
    after = jnp.where(alike, at(1, 1), at(1, -1))
    largest = jnp.where(
        is_flat,
        (size > at(0, -1)) & (size >= at(0, 1)),
        jnp.where(
            is_steep,
            (size > at(-1, 0)) & (size >= at(1, 0)),
            (size > before) & (size > after),
        ),
    )
    weak = largest & (size > low)
    return grow(weak & (size > high), weak)


def interpolated_canny(image: Array, *, sigma: float, low: float, high: float) -> Array:
    """Returns the edges that scikit-image's `canny` finds.

    The image is smoothed (`smooth`, inside only); a pixel, not one of the border, whose gradient's
    norm is at least `low` and at least what lies before and behind it along the gradient
    (interpolated between two neighbours) may be an edge; it is one if it is at least `high` or
    touches one.

    Args:
        image: (H, W), floating.
        sigma: of the smoothing, in pixels.
        low: the lower threshold.
        high: the upper one.

    Returns:
        (H, W) bool.
    """
    dy, dx = sobel(smooth(image, sigma, inside_only=True))
    size = jnp.sqrt(dy**2 + dx**2)
    at = _neighbours(size)
    steep, flat = jnp.abs(dy), jnp.abs(dx)
    alike = (dy > 0) == (dx > 0)
    is_steep = jnp.where(alike, steep > flat, steep >= flat)
    share = jnp.minimum(steep, flat) / jnp.maximum(jnp.maximum(steep, flat), 1e-30)

    def beside(sign: int) -> Array:
        """Returns the interpolated neighbour along the gradient, on one side."""
        corner = jnp.where(alike, at(sign, sign), at(-sign, sign))
        straight = jnp.where(is_steep, jnp.where(alike, at(sign, 0), at(-sign, 0)), at(0, sign))
        return corner * share + straight * (1 - share)

    inner = jnp.zeros(image.shape, bool).at[1:-1, 1:-1].set(True)
    # Equal neighbours count as not larger; float32 would see half of such ties as larger.
    slack = size * (1 + 1e-6)
    largest = (beside(1) <= slack) & (beside(-1) <= slack)
    weak = inner & (size >= low) & largest
    return grow(weak & (size >= high), weak)


def grow(seeds: Array, allowed: Array) -> Array:
    """Returns all of `allowed` that is connected to a seed, over the eight neighbours.

    Args:
        seeds: (H, W) bool, a part of `allowed`.
        allowed: (H, W) bool.

    Returns:
        (H, W) bool.
    """

    def spread(state: tuple[Array, Array]) -> tuple[Array, Array]:
        grown, _ = state
        wider = grown
        for _ in range(4):  # fewer checks for changes
            padded = jnp.pad(wider, 1)
            rows = padded[:-2] | padded[1:-1] | padded[2:]
            wider = (rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:]) & allowed
        return wider, jnp.any(wider != grown)

    return jax.lax.while_loop(lambda state: state[1], spread, (seeds, jnp.any(seeds)))[0]


def chamfer_distance(zeros: Array, *, limit: int) -> Array:
    """Returns the distance to the nearest marked pixel as OpenCV's `distanceTransform` has it.

    DIST_L2 with a 5 x 5 mask: the shortest way by steps of length 1 (straight), 1.4 (diagonal) and
    2.1969 (a knight's), cut off at a limit. OpenCV adds them up in float32, rounding as it goes;
    here the sums are exact.

    Args:
        zeros: (H, W) bool, where the distance is 0.
        limit: the largest distance returned, in pixels, 1 to 1,000.

    Returns:
        (H, W) int32 in [0, UNIT limit]: divide by `UNIT` for pixels.
    """
    straight, diagonal, knight = _STEPS
    far = limit * UNIT
    width = zeros.shape[1]
    reach = [1 << k for k in range((min(limit, width) - 1).bit_length() + 1)]

    def moved(row: Array, columns: int) -> Array:
        if columns > 0:
            return jnp.pad(row, (columns, 0), constant_values=far)[:width]
        return jnp.pad(row, (0, -columns), constant_values=far)[-columns:]

    def step(rows: tuple[Array, Array], own: Array) -> tuple[tuple[Array, Array], Array]:
        second, first = rows
        row = jnp.minimum(own, first + straight)
        for sign in (-1, 1):
            row = jnp.minimum(row, moved(first, sign) + diagonal)
            row = jnp.minimum(row, moved(first, 2 * sign) + knight)
            row = jnp.minimum(row, moved(second, sign) + knight)
        for sign in (-1, 1):
            for columns in (k for k in reach if k < width):
                row = jnp.minimum(row, moved(row, sign * columns) + columns * straight)
        return (first, row), row

    nothing = jnp.full((width,), far, jnp.int32)
    own = jnp.where(zeros, 0, far).astype(jnp.int32)
    # Down and up again: a shortest way's steps can be put in an order that two passes follow.
    _, distance = jax.lax.scan(step, (nothing, nothing), own)
    _, distance = jax.lax.scan(step, (nothing, nothing), distance, reverse=True)
    return distance


def equalize_histogram(image: Array, *, num_values: int = 256) -> Array:
    """Returns the image with its levels spread out as OpenCV's `equalizeHist` does.

    A level v becomes round(255 (F(v) - F(v_0)) / (1 - F(v_0))), F the share of pixels at most v,
    v_0 the lowest level present; an image of one level stays as it is.

    Args:
        image: (H, W) int32 in [0, num_values).
        num_values: 2 to 256; a smaller one is faster.

    Returns:
        (H, W) int32 in [0, 255].
    """
    levels = jnp.arange(num_values)
    counts = jnp.sum(image[..., None] <= levels, axis=(0, 1))
    lowest = jnp.min(image)
    first = jnp.sum(image == lowest)
    rest = image.size - first
    scale = jnp.float32(255) / jnp.maximum(rest, 1).astype(jnp.float32)
    table = jnp.round((counts - first).astype(jnp.float32) * scale).astype(jnp.int32)
    table = jax.lax.optimization_barrier(table)  # or XLA counts again for every pixel looked up
    return jnp.where(rest == 0, image, jnp.take(table, image, mode="clip"))


def box_sum(image: Array) -> Array:
    """Returns the sums over 3 x 3 pixels; beyond an edge is the mirror image."""
    padded = jnp.pad(image, 1, mode="reflect")
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    return rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]


def _neighbours(size: Array):
    """Returns the function (down, right) -> every pixel's neighbour there; 0 outside."""
    padded = jnp.pad(size, 1)
    height, width = size.shape

    def at(down: int, right: int) -> Array:
        return padded[1 + down : 1 + down + height, 1 + right : 1 + right + width]

    return at
