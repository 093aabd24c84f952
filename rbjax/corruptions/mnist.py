"""MNIST-C's own corruptions: changes of shape, lines, inverted stripes, and the edges alone.

Changes of shape are affine maps about the image's centre, black outside. The published numbers of
the strokes are for 28 x 28 pixels; other sizes keep distances from the border, widths and lengths.

Source: Mu and Gilmer 2019, arXiv 1906.02337.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from rbjax import prng
from rbjax.corruptions import edges
from rbjax.geometry import read_at
from rbjax.typing import Array, Key

Matrix = tuple[tuple[float, float], tuple[float, float]]

_REACH = 2.3
"""Rows from a line's middle at which its brightness would fall to minus infinity."""

_LENGTH = _HEIGHT = 2.0
"""Of a tooth of the zigzag: half its width and its height, in pixels."""


def warp(image: Array, matrix: Array) -> Array:
    """Returns the image read at `matrix (x, y)`, both from the centre, bilinear.

    Outside the image is black, and a place between the last pixel and the outside is a mix of both.

    Args:
        image: (H, W, C), floating.
        matrix: (2, 2), from the (x, y) of the result to that of the image.

    Returns:
        (H, W, C).
    """
    height, width, _ = image.shape
    centre = np.array([(width - 1) / 2, (height - 1) / 2], np.float32)
    x, y = np.meshgrid(np.arange(width) - centre[0], np.arange(height) - centre[1])
    places = np.stack([x, y], -1).astype(np.float32)
    exact = jax.lax.Precision.HIGHEST
    source = jnp.matmul(places, matrix.T, precision=exact) + centre
    return read_at(image, source[..., 1], source[..., 0])


def shear(key: Key, image: Array, *, angle: float) -> Array:
    """Returns the image sheared to the left or to the right.

    A pixel (x, y) of the result is the image's (x - sin(a) y, cos(a) y), from the centre: a shear
    that also stretches, as the library that MNIST-C was made with defined it.

    Args:
        key: one key.
        image: (H, W, C).
        angle: in radians; a is it or its negative, half the time each.

    Returns:
        (H, W, C).
    """
    left, right = (((1.0, -math.sin(a)), (0.0, math.cos(a))) for a in (-angle, angle))
    return warp_either(key, image, left, right)


def rotate(key: Key, image: Array, *, angle: float) -> Array:
    """Returns the image turned by an angle, to the left or to the right.

    Args:
        key: one key.
        image: (H, W, C).
        angle: in radians.

    Returns:
        (H, W, C).
    """
    left, right = (
        ((math.cos(a), -math.sin(a)), (math.sin(a), math.cos(a))) for a in (-angle, angle)
    )
    return warp_either(key, image, left, right)


def scale(key: Key, image: Array, *, share: float) -> Array:
    """Returns the image made smaller.

    Args:
        key: not used.
        image: (H, W, C).
        share: of the sides that is left, in (0, 1].

    Returns:
        (H, W, C).
    """
    del key
    return warp(image, jnp.asarray(((1 / share, 0.0), (0.0, 1 / share)), jnp.float32))


def warp_either(key: Key, image: Array, first: Matrix, second: Matrix) -> Array:
    """Returns the image under one of two maps, each half of the time; see `warp`."""
    choice = prng.randint(key, (), 0, 2)
    return warp(image, jnp.asarray((first, second), jnp.float32)[choice])


def translate(key: Key, image: Array, *, pixels: int) -> Array:
    """Returns the image moved to one of the four corners.

    Args:
        key: one key.
        image: (H, W, C).
        pixels: along each axis.

    Returns:
        (H, W, C).
    """
    padded = jnp.pad(image, ((pixels, pixels), (pixels, pixels), (0, 0)))
    right, down = 2 * pixels * prng.bernoulli(key, shape=(2,)).astype(jnp.int32)
    return jax.lax.dynamic_slice(padded, (down, right, jnp.int32(0)), image.shape)


def line(shape: tuple[int, int], start: Array, end: Array) -> Array:
    """Returns a bright line: clip(1 + log(1 - d / 2.3), 0, 1), d the rows from it.

    Args:
        shape: (H, W).
        start: (2,) its first column and row.
        end: (2,) its last; the line is in the columns from floor(first) to below ceil(last). One
            that ends in the column where it starts is not drawn.

    Returns:
        (H, W) float32 in [0, 1].
    """
    height, width = shape
    columns = jnp.arange(width, dtype=jnp.float32)
    rows = jnp.arange(height, dtype=jnp.float32)[:, None]
    run = end[0] - start[0]
    slope = (end[1] - start[1]) / jnp.where(run == 0, 1.0, run)
    distance = jnp.abs(rows - (slope * (columns - start[0]) + start[1]))
    # 1 - 1 / e of the reach is where the brightness is 0: beyond, log would only be clipped.
    inside = jnp.minimum(distance / _REACH, 1 - 1 / np.e)
    brightness = jnp.clip(jnp.log(1 - inside) + 1, 0.0, 1.0)
    drawn = (columns >= jnp.floor(start[0])) & (columns < jnp.ceil(end[0])) & (run != 0)
    return jnp.where(drawn, brightness, 0.0)


def zigzag_corners(first_row: Array, last_row: Array, *, width: int) -> Array:
    """Returns the corners of a zigzag from column 2 to column width - 3.

    Teeth of width 4 and height 2 to either side of a straight line, turned by its angle. Where a
    line has fewer teeth than the longest, its end is repeated.

    Args:
        first_row: scalar, the row where it starts.
        last_row: scalar, within 5 rows of it.
        width: of the image, W.

    Returns:
        (N, 2) columns and rows.
    """
    first_column, last_column = 2, width - 3
    run, tooth = last_column - first_column, 2 * _LENGTH
    most = int((math.hypot(run, 5) - _LENGTH) // tooth) + 1
    angle = jnp.arctan((last_row - first_row) / run)
    length = run / jnp.cos(angle)
    teeth = jnp.floor((length - _LENGTH) / tooth).astype(jnp.int32) + 1
    number = jnp.arange(most)
    heights = jnp.where(number % 2 == 0, jnp.float32(_HEIGHT), -_HEIGHT)
    corners = jnp.stack([(2 * number + 1) * _LENGTH, heights], axis=1).astype(jnp.float32)
    rest = length - tooth * jnp.floor(length / tooth)
    # The published end: half the last tooth's height over what is left of the length.
    last_height = heights[teeth - 1] / (2 * jnp.where(rest == 0, 1.0, rest))
    end = jnp.where(rest == 0, corners[teeth - 1], jnp.stack([length, last_height]))
    corners = jnp.where((number < teeth)[:, None], corners, end)
    corners = jnp.concatenate([jnp.zeros((1, 2), jnp.float32), corners, end[None]])
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    columns = cos * corners[:, 0] - sin * corners[:, 1] + first_column
    rows = sin * corners[:, 0] + cos * corners[:, 1] + first_row
    return jnp.stack([columns, rows], axis=1)


def stripe(key: Key, image: Array) -> Array:
    """Returns the image with its left and its right quarter inverted.

    Args:
        key: not used.
        image: (H, W, C).

    Returns:
        (H, W, C).
    """
    del key
    width = image.shape[1]
    column = np.arange(width)
    inverted = (column < width // 4) | (column >= width - width // 4)
    return jnp.where(inverted[:, None], 1 - image, image)


def dotted_line(key: Key, image: Array) -> Array:
    """Returns the image and a dotted `line` from the left to the right border.

    Its first and last row are uniform in 0 to H - 2; two columns in four are drawn.

    Args:
        key: one key.
        image: (H, W, C).

    Returns:
        (H, W, C).
    """
    height, width, _ = image.shape
    first, last = prng.randint(key, (2,), 0, height - 1).astype(jnp.float32)
    start = jnp.stack([jnp.float32(0), first])
    drawn = line((height, width), start, jnp.stack([jnp.float32(width - 1), last]))
    dots = (np.arange(width) // 2) % 2 == 1
    return image + jnp.where(dots, drawn, 0.0)[..., None]


def zigzag(key: Key, image: Array) -> Array:
    """Returns the image and a zigzag from the left to the right border.

    See `zigzag_corners` and `line`; the first row is uniform in 0 to H - 2, the last one -5 to 4
    rows from it.

    Args:
        key: one key.
        image: (H, W, C).

    Returns:
        (H, W, C).
    """
    height, width, _ = image.shape
    start_key, rise_key = prng.split(key)
    first = prng.randint(start_key, (), 0, height - 1)
    last = first + prng.randint(rise_key, (), -5, 5)
    corners = zigzag_corners(first.astype(jnp.float32), last.astype(jnp.float32), width=width)
    lines = jax.vmap(lambda a, b: line((height, width), a, b))(corners[:-1], corners[1:])
    return image + jnp.sum(lines, axis=0)[..., None]


def canny_edges(key: Key, image: Array) -> Array:
    """Returns the image's Canny edges, white.

    See `edges.interpolated_canny`, with sigma 1 and thresholds 0.1 and 0.2, of the channels' mean.

    Args:
        key: not used.
        image: (H, W, C).

    Returns:
        (H, W, C).
    """
    del key
    is_edge = edges.interpolated_canny(jnp.mean(image, axis=-1), sigma=1.0, low=0.1, high=0.2)
    return jnp.broadcast_to(is_edge[..., None], image.shape).astype(image.dtype)
