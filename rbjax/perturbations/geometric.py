"""Small shifts and rotations, black outside of the image."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated

import jax
import jax.numpy as jnp

from rbjax import prng
from rbjax.geometry import random_rotate
from rbjax.options import Range, checked
from rbjax.perturbations.chain import Clipped
from rbjax.typing import Array, Key


def translate(image: Array, offset: Array, *, reach: int) -> Array:
    """Returns the image moved by a fraction of pixels, bilinear, black where nothing came.

    Args:
        image: (H, W, C).
        offset: (2,) pixels down and to the right, in [-reach, reach].
        reach: whole pixels, at least 1.

    Returns:
        (H, W, C), of the image's dtype; for whole offsets the very pixels.
    """
    height, width, channels = image.shape
    whole = jnp.clip(jnp.floor(offset).astype(jnp.int32), -reach, reach - 1)
    down, right = (offset - whole).astype(image.dtype)
    padded = jnp.pad(image, ((reach, reach), (reach, reach), (0, 0)))
    # One row and one column more than the image has, to interpolate between.
    first_row, first_column = reach - 1 - whole
    size = (height + 1, width + 1, channels)
    window = jax.lax.dynamic_slice(padded, (first_row, first_column, jnp.int32(0)), size)
    rows = down * window[:-1] + (1 - down) * window[1:]
    return right * rows[:, :-1] + (1 - right) * rows[:, 1:]


@dataclasses.dataclass(frozen=True)
class _Shift:
    max_shift: float

    def __call__(self, key: Key, image: Array) -> Array:
        offset = prng.uniform(key, (2,), minval=-self.max_shift, maxval=self.max_shift)
        return translate(image, offset, reach=max(1, math.ceil(self.max_shift)))


@dataclasses.dataclass(frozen=True)
class _Rotation:
    max_degrees: float

    def __call__(self, key: Key, image: Array) -> Array:
        return random_rotate(key, image, max_degrees=self.max_degrees)


@checked
def shift(
    *, max_shift: Annotated[float, Range(low=0.0, high=1000.0, unit="pixels")] = 2.0
) -> Clipped:
    """Returns the perturbation that moves the image, down and to the right by random amounts.

    Both are uniform in +-max_shift and independent. They are fractions of pixels (bilinear), not
    whole ones: of those there are 25 within 2 pixels, too few for 250 different draws.

    Args:
        max_shift: the largest move, in pixels, at most 1,000.

    Returns:
        (key, image (H, W, C)) -> image, black where nothing came.

    Raises:
        ValueError: if max_shift is not between 0 and 1,000.
    """
    return Clipped(_Shift(max_shift))


@checked
def rotation(
    *, max_degrees: Annotated[float, Range(low=0.0, high=180.0, unit="degrees")] = 15.0
) -> Clipped:
    """Returns the perturbation that turns the image about its centre by a random angle.

    The angle is uniform in +-max_degrees; bilinear, see `rbjax.geometry.rotate`.

    Args:
        max_degrees: the largest angle, at most 180.

    Returns:
        (key, image (H, W, C)) -> image, black where nothing came.

    Raises:
        ValueError: if max_degrees is not between 0 and 180.
    """
    return Clipped(_Rotation(max_degrees))
