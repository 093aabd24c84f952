"""Elastic transform: a random affine map, then a random smooth displacement of every pixel."""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp
import numpy as np

from rbjax import prng
from rbjax.corruptions import separable
from rbjax.typing import Array, Key

Beyond = Literal["reflect", "symmetric", "zero", "none"]
"""What is beyond an image's edge: the image mirrored at its last pixels or at its edge; zeros, to
which values fall off over a pixel; or zeros at once."""

_FAR = 2.0**15
"""Largest coordinate, so that they fit into integers with room to spare."""

_IMAGENET_SIDE = 244 / 224
"""ImageNet-C takes its sizes from 244 where its images have 224 pixels."""


def sample(image: Array, row: Array, column: Array, *, beyond: Beyond) -> Array:
    """Returns the image's values at arbitrary places, by linear interpolation.

    Args:
        image: (H, W, C).
        row: (...) coordinates, 0 at the first row's centre.
        column: (...) coordinates, 0 at the first column's centre.
        beyond: what is outside the image.

    Returns:
        (..., C).
    """
    height, width, channels = image.shape
    pixels = image.reshape(-1, channels)
    places = [jnp.clip(place, -_FAR, _FAR) for place in (row, column)]
    top, left = (jnp.floor(place).astype(jnp.int32) for place in places)
    down, across = (place - jnp.floor(place) for place in places)
    total = jnp.zeros((*row.shape, channels), image.dtype)
    for below in (0, 1):
        for beside in (0, 1):
            weight = (down if below else 1 - down) * (across if beside else 1 - across)
            inside = (top + below >= 0) & (top + below < height)
            inside &= (left + beside >= 0) & (left + beside < width)
            index = _fold(top + below, height, beyond) * width + _fold(left + beside, width, beyond)
            if beyond in ("zero", "none"):
                weight = jnp.where(inside, weight, 0.0)
            total += weight[..., None] * pixels[index]
    if beyond == "none":
        within = (row >= 0) & (row <= height - 1) & (column >= 0) & (column <= width - 1)
        total = jnp.where(within[..., None], total, 0.0)
    return total


def _fold(index: Array, size: int, beyond: Beyond) -> Array:
    """Returns an index inside the image, of the pixel that stands for one outside."""
    if beyond == "reflect":
        period = 2 * size - 2
        index = index % period
        return jnp.minimum(index, period - index)
    if beyond == "symmetric":
        period = 2 * size
        index = index % period
        return jnp.minimum(index, period - 1 - index)
    return jnp.clip(index, 0, size - 1)


def affine_places(shape: tuple[int, int], moved: Array) -> tuple[Array, Array]:
    """Returns where the pixels come from under the affine map that moves three points.

    The points are (x, y) = c + (s, s), c + (s, -s), c - (s, s), with c the half and s the third of
    the sides in whole pixels.

    Args:
        shape: (H, W).
        moved: (3, 2), by how much x and y of each point grow.

    Returns:
        Rows and columns, (H, W) each, in the image before the map.
    """
    height, width = shape
    # The published code counts the centre's first coordinate along the height: kept.
    centre, third = np.array([height // 2, width // 2]), min(shape) // 3
    points = centre + third * np.array([[1, 1], [1, -1], [-1, -1]])
    to_coefficients = np.linalg.inv(np.column_stack([points, np.ones(3)]))
    coefficients = jnp.asarray(to_coefficients, moved.dtype) @ (points + moved)
    (xx, xy), (yx, yy), (x0, y0) = coefficients
    determinant = xx * yy - xy * yx
    singular = determinant == 0
    inverse = jnp.where(singular, 0.0, 1 / jnp.where(singular, 1.0, determinant))
    y, x = jnp.meshgrid(jnp.arange(height) - y0, jnp.arange(width) - x0, indexing="ij")
    return inverse * (xx * y - xy * x), inverse * (yy * x - yx * y)


def elastic_transform(
    key: Key, image: Array, *, strength: float, sigma: float, reach: float, profile: str
) -> Array:
    """Returns the image stretched as a whole, and then in its small parts.

    Three points are moved at random, uniform in +-reach in both directions, and the affine map that
    does so is applied; then every pixel is taken from a place moved by the strength times a field
    of numbers uniform in +-1, blurred by a Gaussian of sigma that ends at 3 sigma. Beyond its edge
    the image is mirrored; in the profile "mnist" it is 0.

    Args:
        key: one key.
        image: (H, W, C).
        strength: of the field, as a share of the image's shorter side (in ImageNet-C, of 244 / 224
            of it).
        sigma: of the field's blur, likewise.
        reach: of the affine map, likewise.
        profile: one of `PROFILES`.

    Returns:
        (H, W, C).
    """
    height, width, _ = image.shape
    side = min(height, width) * (_IMAGENET_SIDE if profile == "imagenet" else 1.0)
    affine_key, field_key = prng.split(key)
    moved = prng.uniform(affine_key, (3, 2), image.dtype, -reach * side, reach * side)
    places = affine_places((height, width), moved)
    is_dark = profile == "mnist"
    image = sample(image, *places, beyond="zero" if is_dark else "reflect")
    if strength == 0:
        return image
    field = prng.uniform(field_key, (height, width, 2), image.dtype, -1.0, 1.0)
    rows, columns = (
        separable.gaussian(n, sigma * side, truncate=3, border="symmetric") for n in (height, width)
    )
    field = separable.apply(field, rows, columns) * (strength * side)
    row, column = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
    return sample(
        image,
        row + field[..., 0],
        column + field[..., 1],
        beyond="none" if is_dark else "symmetric",
    )
