"""Frost: a picture of ice in front of the image."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rbjax.corruptions import ice
from rbjax.corruptions.constants import Constants
from rbjax.perturbations.weather import LUMA
from rbjax.typing import Array, Key, Perturbation

Textures = np.ndarray | Array | Sequence[str | os.PathLike[str]]
"""(T, h, w, 3) uint8, or floating in [0, 1]; or paths of picture files."""

_SMALLEST_OWN = 128
"""Pixels a side that rbjax's own pictures have at least."""


@dataclasses.dataclass(frozen=True)
class _Pictures:
    """Pictures of several sizes, equal if their pixels are."""

    pixels: np.ndarray = dataclasses.field(compare=False, repr=False)
    """(T, h, w, 3) uint8; smaller ones fill the upper left part."""
    sides: tuple[tuple[int, int], ...]
    digest: str

    @staticmethod
    def of(pictures: Sequence[np.ndarray]) -> _Pictures:
        height = max(len(picture) for picture in pictures)
        width = max(picture.shape[1] for picture in pictures)
        pixels = np.zeros((len(pictures), height, width, 3), np.uint8)
        for kept, picture in zip(pixels, pictures, strict=True):
            kept[: len(picture), : picture.shape[1]] = picture
        sides = tuple((len(picture), picture.shape[1]) for picture in pictures)
        return _Pictures(pixels, sides, hashlib.sha256(pixels.tobytes()).hexdigest())


@dataclasses.dataclass(frozen=True)
class _Frost:
    image_weight: float
    frost_weight: float
    scale: float
    pictures: _Pictures | None

    def __call__(self, key: Key, image: Array) -> Array:
        height, width, channels = image.shape
        pixels, sides = self._pictures_for(height, width)
        for (tall, wide), number in zip(sides, range(len(sides)), strict=True):
            if tall < height or wide < width:
                raise ValueError(
                    f"textures[{number}] is {tall} x {wide} pixels at the scale {self.scale:g} of "
                    f"its profile; an image of {height} x {width} needs one at least as large"
                )
        which_key, row_key, column_key = jax.random.split(key, 3)
        which = jax.random.randint(which_key, (), 0, len(sides))
        # The published crop never starts at the last place there is.
        starts = jnp.asarray([(max(h - height, 1), max(w - width, 1)) for h, w in sides])[which]
        row = jax.random.randint(row_key, (), 0, starts[0])
        column = jax.random.randint(column_key, (), 0, starts[1])
        zero = jnp.zeros((), row.dtype)
        crop = jax.lax.dynamic_slice(
            jnp.asarray(pixels), (which, row, column, zero), (1, height, width, 3)
        )[0]
        frost = crop.astype(jnp.float32) / 255
        if channels != 3:
            frost = jnp.sum(frost * np.asarray(LUMA, np.float32), axis=-1, keepdims=True)
        return self.image_weight * image + self.frost_weight * frost

    def _pictures_for(self, height: int, width: int) -> tuple[np.ndarray, tuple[Any, ...]]:
        if self.pictures is not None:
            return self.pictures.pixels, self.pictures.sides
        side = max(_SMALLEST_OWN, 2 << (max(height, width) - 1).bit_length())
        own = ice.pictures(side, self.scale)
        return own, ((side, side),) * len(own)


def frost(constants: Constants, *, profile: str, textures: Textures | None = None) -> Perturbation:
    """Returns the corruption `a x + b ice`, ice a random place of a random picture.

    Without textures of your own the pictures are rbjax's (`rbjax.corruptions.ice`): the
    rights in the photographs that ImageNet-C uses are unclear, and nothing of them is in here.
    ImageNet-C's result is had with its first five photographs as textures, in their own size.

    Args:
        constants: (a, b, scale): textures are shrunk by the scale (bilinear, without smoothing).
        profile: one of `PROFILES`; all do the same.
        textures: pictures of ice, read once, now; at least one, as large as the images when
            shrunk.

    Returns:
        (key, image (H, W, C)) -> image; on other than three channels the ice is grey.

    Raises:
        ValueError: for textures of another shape, type or range, or a file that cannot be read.

    Source:
        Hendrycks and Dietterich 2019, arXiv 1903.12261.
    """
    del profile
    weight, strength, scale = constants
    if textures is None:
        return _Frost(weight, strength, scale, None)
    return _Frost(
        weight, strength, scale, _Pictures.of([_shrink(t, scale) for t in _read(textures)])
    )


def _read(textures: Textures) -> list[np.ndarray]:
    if isinstance(textures, str | os.PathLike):
        raise ValueError(f"textures is {str(textures)!r}; it must be a list of paths, or an array")
    if isinstance(textures, np.ndarray | jax.Array):
        return list(_of_array(np.asarray(textures)))
    if len(textures) == 0:
        raise ValueError("textures is empty; it must hold at least one path")
    return [_of_file(path) for path in textures]


def _of_array(textures: np.ndarray) -> np.ndarray:
    if textures.ndim != 4 or textures.shape[-1] != 3 or 0 in textures.shape:
        raise ValueError(f"textures has shape {textures.shape}; it must be (T, h, w, 3)")
    if textures.dtype == np.uint8:
        return textures
    if not np.issubdtype(textures.dtype, np.floating):
        raise ValueError(f"textures is of {textures.dtype}; it must be uint8, or floating")
    if not (textures.min() >= 0 and textures.max() <= 1):
        raise ValueError(
            f"textures has values from {textures.min():g} to {textures.max():g}; floating ones "
            "must be in [0, 1]"
        )
    return np.rint(255 * textures).astype(np.uint8)


def _of_file(path: Any) -> np.ndarray:
    from PIL import Image

    if not isinstance(path, str | os.PathLike):
        raise ValueError(f"textures holds {type(path).__name__}; it must hold paths")
    file = Path(path).expanduser()
    try:
        with Image.open(file) as picture:
            return np.asarray(picture.convert("RGB"))
    except FileNotFoundError:
        raise ValueError(f"textures holds {str(path)!r}, which does not exist") from None
    except OSError as error:
        raise ValueError(f"textures holds {str(path)!r}, not a picture: {error}") from None


def _shrink(picture: np.ndarray, scale: float) -> np.ndarray:
    """Returns a picture (h, w, 3) uint8 resized, each pixel interpolated between four."""
    if scale == 1:
        return picture
    shrunk = picture.astype(np.float64)
    for axis in (0, 1):
        size = shrunk.shape[axis]
        at = np.clip((np.arange(max(round(scale * size), 1)) + 0.5) / scale - 0.5, 0, size - 1)
        first = np.minimum(np.floor(at).astype(int), size - 1)
        share = (at - first).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        next_ones = np.take(shrunk, np.minimum(first + 1, size - 1), axis)
        shrunk = (1 - share) * np.take(shrunk, first, axis) + share * next_ones
    return np.rint(shrunk).astype(np.uint8)
