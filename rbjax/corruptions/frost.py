"""Frost: a picture of ice in front of the image."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rbjax import prng
from rbjax.paths import expanded
from rbjax.perturbations.weather import LUMA
from rbjax.typing import Array, Key

Textures = np.ndarray | Array | Sequence[str | os.PathLike[str]]
"""(T, h, w, 3) uint8, or floating in [0, 1]; or paths of picture files."""

_SMALLEST_OWN = 128
"""The smallest side of rbjax's own pictures, in pixels."""


class _Kind(NamedTuple):
    colour: tuple[float, float, float]
    """The mean."""
    contrast: float
    """The standard deviation."""
    crystals: float
    """Their share of the variance; the clouds have the rest."""
    sharpness: float
    """At least 1; above it bright crystals stand out from a darker ground."""


_KINDS = (
    _Kind((0.32, 0.58, 0.65), 0.08, 0.5, 1.0),
    _Kind((0.79, 0.80, 0.84), 0.08, 0.7, 1.0),
    _Kind((0.70, 0.74, 0.80), 0.10, 0.7, 1.5),
    _Kind((0.54, 0.60, 0.65), 0.11, 0.7, 2.0),
    _Kind((0.44, 0.48, 0.53), 0.17, 0.8, 2.5),
)

_NUM_DIRECTIONS = 6
_LENGTH, _WIDTH, _PATCH = 12.0, 2.0, 60.0
"""Of a crystal and of a region of one direction, in pixels of a picture at scale 1."""


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Pictures of several sizes, equal if their pixels are."""

    pixels: np.ndarray = dataclasses.field(compare=False, repr=False)
    """(T, h, w, 3) uint8; smaller ones fill the upper left part."""
    sides: tuple[tuple[int, int], ...]
    digest: str

    @staticmethod
    def of(pictures: Sequence[np.ndarray]) -> Pictures:
        """Puts pictures (h, w, 3) uint8 of any sizes together."""
        height = max(len(picture) for picture in pictures)
        width = max(picture.shape[1] for picture in pictures)
        pixels = np.zeros((len(pictures), height, width, 3), np.uint8)
        for kept, picture in zip(pixels, pictures, strict=True):
            kept[: len(picture), : picture.shape[1]] = picture
        sides = tuple((len(picture), picture.shape[1]) for picture in pictures)
        return Pictures(pixels, sides, hashlib.sha256(pixels.tobytes()).hexdigest())

    def shrunk(self, scale: float) -> tuple[np.ndarray, tuple[tuple[int, int], ...]]:
        """Returns the pictures shrunk, (T, h', w', 3) uint8, and their new sides."""
        if scale == 1:
            return self.pixels, self.sides
        pairs = zip(self.pixels, self.sides, strict=True)
        pictures = []
        for pixels, (height, width) in pairs:
            shrunk = pixels[:height, :width].astype(np.float64)
            for axis in (0, 1):  # each pixel interpolated between two, along both axes
                size = shrunk.shape[axis]
                at = (np.arange(max(round(scale * size), 1)) + 0.5) / scale - 0.5
                at = np.clip(at, 0, size - 1)
                first = np.minimum(np.floor(at).astype(int), size - 1)
                share = (at - first).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
                second = np.take(shrunk, np.minimum(first + 1, size - 1), axis)
                shrunk = (1 - share) * np.take(shrunk, first, axis) + share * second
            pictures.append(np.rint(shrunk).astype(np.uint8))
        together = Pictures.of(pictures)
        return together.pixels, together.sides


def frost(
    key: Key,
    image: Array,
    *,
    image_weight: float,
    frost_weight: float,
    scale: float,
    textures: Pictures | None = None,
) -> Array:
    """Returns `a x + b ice`, ice a random place of a random picture.

    Without textures of your own the pictures are rbjax's (`ice_pictures`): the rights in the
    photographs that ImageNet-C uses are unclear, and nothing of them is in here. With its first
    five photographs as textures, in their own size, the result is ImageNet-C's.

    Args:
        key: one key.
        image: (H, W, C) in [0, 1].
        image_weight: a.
        frost_weight: b.
        scale: by which pictures are shrunk (bilinear, without smoothing).
        textures: pictures of ice (`read_textures`), at least as large as the images when shrunk.

    Returns:
        (H, W, C); on other than three channels the ice is grey.

    Raises:
        ValueError: for a texture that is smaller than the image.

    Source:
        Hendrycks and Dietterich 2019, arXiv 1903.12261.
    """
    height, width, channels = image.shape
    if textures is not None:
        pixels, sides = textures.shrunk(scale)
    else:
        side = max(_SMALLEST_OWN, 2 << (max(height, width) - 1).bit_length())
        pixels = ice_pictures(side, scale)
        sides = ((side, side),) * len(pixels)
    for number, (tall, wide) in enumerate(sides):
        if tall < height or wide < width:
            raise ValueError(
                f"textures[{number}] is {tall} x {wide} pixels at the scale {scale:g} of "
                f"its profile; an image of {height} x {width} needs one at least as large"
            )
    which_key, row_key, column_key = prng.split(key, 3)
    which = prng.randint(which_key, (), 0, len(sides))
    # The published crop never starts at the last possible place.
    starts = jnp.asarray([(max(h - height, 1), max(w - width, 1)) for h, w in sides])[which]
    row = prng.randint(row_key, (), 0, starts[0])
    column = prng.randint(column_key, (), 0, starts[1])
    zero = jnp.zeros((), row.dtype)
    start = (which, row, column, zero)
    crop = jax.lax.dynamic_slice(jnp.asarray(pixels), start, (1, height, width, 3))[0]
    ice = crop.astype(jnp.float32) / 255
    if channels != 3:
        ice = jnp.sum(ice * np.asarray(LUMA, np.float32), axis=-1, keepdims=True)
    return image_weight * image + frost_weight * ice


def read_textures(textures: Textures) -> Pictures:
    """Reads pictures of ice.

    Args:
        textures: (T, h, w, 3) uint8 or floating in [0, 1], or paths of picture files; one or more.

    Returns:
        Pictures, equal if their pixels are.

    Raises:
        ValueError: for textures of another shape, type or range, or a file that cannot be read.
    """
    from PIL import Image

    if isinstance(textures, str | os.PathLike):
        raise ValueError(f"textures is {str(textures)!r}; it must be a list of paths, or an array")
    if not isinstance(textures, np.ndarray | jax.Array):
        if len(textures) == 0:
            raise ValueError("textures is empty; it must hold at least one path")
        pictures = []
        for path in textures:
            if not isinstance(path, str | os.PathLike):
                raise ValueError(f"textures holds {type(path).__name__}; it must hold paths")
            where = f"textures holds {str(path)!r}"
            try:
                with Image.open(expanded(path, field="textures")) as picture:
                    pictures.append(np.asarray(picture.convert("RGB")))
            except FileNotFoundError:
                raise ValueError(f"{where}, which does not exist") from None
            except OSError as error:
                raise ValueError(f"{where}, not a picture: {error}") from None
        return Pictures.of(pictures)
    array = np.asarray(textures)
    if array.ndim != 4 or array.shape[-1] != 3 or 0 in array.shape:
        raise ValueError(f"textures has shape {array.shape}; it must be (T, h, w, 3)")
    if array.dtype != np.uint8:
        if not np.issubdtype(array.dtype, np.floating):
            raise ValueError(f"textures is of {array.dtype}; it must be uint8, or floating")
        if not (array.min() >= 0 and array.max() <= 1):
            raise ValueError(
                f"textures has values from {array.min():g} to {array.max():g}; floating ones must "
                "be in [0, 1]"
            )
        array = np.rint(255 * array).astype(np.uint8)
    return Pictures.of(list(array))


@functools.cache
def ice_pictures(side: int, scale: float) -> np.ndarray:
    """Returns five pictures of ice: rbjax's own, for users without photographs of frost.

    Each is made of two layers on a torus: clouds (noise whose spectrum falls as a power of
    frequency) and crystals (white noise smeared along one of six directions, the direction changing
    slowly from place to place). Mean colours and contrasts are near those of the five photographs
    that ImageNet-C uses; shapes and everything else are rbjax's own, so error rates under frost
    with these pictures are not those of ImageNet-C.

    Args:
        side: S, in pixels.
        scale: size of what is on them, in (0, 1]: 1 beside images of 224 pixels, less for smaller.

    Returns:
        (5, S, S, 3) uint8, the same at every call, read-only.
    """
    random = np.random.default_rng(20190301)
    down, right = np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None, :]
    radius = np.hypot(down, right)
    radius[0, 0] = np.inf
    pictures = []
    for kind in _KINDS:
        clouds = _standard(_filtered(random.normal(size=(side, side)), 1 / radius))
        crystals = _standard(_crystals(random, down, right, scale))
        if kind.sharpness > 1:  # a lognormal's bright tail: needles in front of a dark ground
            crystals = _standard(np.exp(0.4 * (kind.sharpness - 1) * crystals))
        height = np.sqrt(kind.crystals) * crystals + np.sqrt(1 - kind.crystals) * clouds
        picture = np.asarray(kind.colour) + kind.contrast * height[..., None]
        pictures.append(np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8))
    pixels = np.stack(pictures)
    pixels.setflags(write=False)
    return pixels


def _crystals(
    random: np.random.Generator, down: np.ndarray, right: np.ndarray, scale: float
) -> np.ndarray:
    """Returns streaks of six directions, at each place the one whose own slow noise is largest."""
    side = len(down)
    slow = np.exp(-2 * (np.pi * _PATCH * scale / 4) ** 2 * (down**2 + right**2))
    crystals, weights = [], []
    for direction in range(_NUM_DIRECTIONS):
        angle = np.pi * (direction + 0.5) / _NUM_DIRECTIONS
        along = np.cos(angle) * right + np.sin(angle) * down
        across = np.cos(angle) * down - np.sin(angle) * right
        length, width = _LENGTH * scale / 2, _WIDTH * scale / 2
        streaks = np.exp(-2 * np.pi**2 * ((length * along) ** 2 + (width * across) ** 2))
        noise = random.normal(size=(2, side, side))
        crystals.append(_standard(_filtered(noise[0], streaks)))
        weights.append(np.exp(3 * _standard(_filtered(noise[1], slow))))
    share = np.stack(weights) / np.sum(weights, axis=0)
    return np.sum(np.stack(crystals) * share, axis=0)


def _filtered(noise: np.ndarray, spectrum: np.ndarray) -> np.ndarray:
    return np.real(np.fft.ifft2(np.fft.fft2(noise) * spectrum))


def _standard(field: np.ndarray) -> np.ndarray:
    return (field - field.mean()) / field.std()
