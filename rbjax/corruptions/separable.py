"""Linear maps of an image that act on its rows and on its columns, as two matrices.

Blurs, zooms and boxes are such maps. The matrices include the edges, depend on shapes
only, and are made by NumPy during tracing.
"""

from __future__ import annotations

import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from rbjax.typing import Array

Border = Literal["edge", "reflect", "symmetric"]
"""How an image is extended beyond its edge, in NumPy's words."""


def apply(image: Array, rows: np.ndarray, columns: np.ndarray) -> Array:
    """Returns `rows image columns^T`, every channel by itself.

    Args:
        image: (H, W, C).
        rows: (H', H).
        columns: (W', W).

    Returns:
        (H', W', C).
    """
    rows, columns = (np.asarray(matrix, image.dtype) for matrix in (rows, columns))
    highest = jax.lax.Precision.HIGHEST
    image = jnp.einsum("ih,hwc->iwc", rows, image, precision=highest)
    return jnp.einsum("jw,iwc->ijc", columns, image, precision=highest)


def apply_sum(image: Array, rows: np.ndarray, columns: np.ndarray) -> Array:
    """Returns the sum over k of `rows_k image columns_k^T`.

    Args:
        image: (H, W, C).
        rows: (K, H', H).
        columns: (K, W', W).

    Returns:
        (H', W', C).
    """
    # One by one: all at once, the products are copied in memory at twice the cost.
    terms = [apply(image, *pair) for pair in zip(rows, columns, strict=True)]
    return functools.reduce(jnp.add, terms)


def gaussian(
    size: int, sigma: float, *, truncate: float = 4.0, border: Border = "edge"
) -> np.ndarray:
    """Returns the matrix of a Gaussian blur of a line, as SciPy's `gaussian_filter` has it.

    w_i ~ exp(-i^2 / (2 sigma^2)), |i| <= int(truncate sigma + 1/2), summing to 1.

    Args:
        size: n, of the line.
        sigma: standard deviation, in pixels; below 1 / (2 truncate) nothing changes.
        truncate: where the weights end, in standard deviations.
        border: how the line is extended beyond its ends.

    Returns:
        (n, n) float64.
    """
    radius = int(truncate * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2) if radius else np.ones(1)
    return convolution(size, weights / weights.sum(), border=border)


def convolution(size: int, weights: np.ndarray, *, border: Border) -> np.ndarray:
    """Returns the matrix that correlates a line with an odd number of weights.

    Args:
        size: n, of the line.
        weights: (2 r + 1,), of the neighbours -r to r.
        border: how the line is extended beyond its ends.

    Returns:
        (n, n) float64.
    """
    radius = len(weights) // 2
    sources = np.pad(np.arange(size), radius, mode=border)
    matrix = np.zeros((size, size))
    for shift, weight in enumerate(weights):
        np.add.at(matrix, (np.arange(size), sources[shift : shift + size]), weight)
    return matrix


def zoom(size: int, factor: float) -> np.ndarray:
    """Returns the matrix that enlarges the middle of a line to the line's size.

    The middle ceil(n / f) pixels become m = round(f ceil(n / f)) by linear interpolation, ends on
    ends, of which the middle n are kept.

    Args:
        size: n, of the line.
        factor: f, at least 1.

    Returns:
        (n, n) float64.
    """
    part = int(np.ceil(size / factor))
    fine = round(part * factor)
    at = (np.arange(size) + (fine - size) // 2) * (part - 1) / max(fine - 1, 1)
    at += (size - part) // 2
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(size)))


def box(size: int, new_size: int) -> np.ndarray:
    """Returns the matrix that resizes a line by Pillow's box filter.

    A new pixel is the mean of the old ones whose centres lie within half a new pixel, or half an
    old one if that is larger, of its own.

    Args:
        size: n, of the line.
        new_size: m.

    Returns:
        (m, n) float64.
    """
    scale = size / new_size
    centres = (np.arange(new_size) + 0.5) * scale
    distance = (np.arange(size) + 0.5 - centres[:, None]) / max(scale, 1.0)
    member = ((distance > -0.5) & (distance <= 0.5)).astype(float)
    return member / member.sum(axis=1, keepdims=True)
