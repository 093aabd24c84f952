"""Digital artefacts: large pixels and JPEG compression, of images of 8 bits."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from rbjax.corruptions import separable
from rbjax.typing import Array, Key

_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *[(99,) * 8] * 4,
)
"""Quantisation steps at quality 50, ITU-T T.81 annex K."""


def quantization(quality: int, *, chrominance: bool) -> np.ndarray:
    """Returns the steps of an 8 x 8 block's frequencies, as libjpeg scales them.

    Args:
        quality: 1 to 100.
        chrominance: whether for colour, not for luminance.

    Returns:
        (8, 8) float64, 1 to 255.
    """
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    table = np.array(_CHROMINANCE if chrominance else _LUMINANCE)
    return np.clip((table * scale + 50) // 100, 1, 255).astype(float)


def code_blocks(plane: Array, steps: np.ndarray) -> Array:
    """Returns what is left of one channel after its blocks' frequencies are rounded to steps.

    Args:
        plane: (H, W) in [0, 255], H and W multiples of 8.
        steps: (8, 8).

    Returns:
        (H, W), whole numbers in [0, 255].
    """
    height, width = plane.shape
    # The orthonormal cosine transform of 8 x 8 pixels, as a matrix (64, 64).
    frequency, place = np.arange(8)[:, None], np.arange(8)
    line = np.cos((2 * place + 1) * frequency * np.pi / 16) / 2
    line[0] = math.sqrt(1 / 8)
    cosines = np.asarray(np.kron(line, line), plane.dtype)
    flat_steps = np.asarray(steps.reshape(64), plane.dtype)
    blocks = plane.reshape(height // 8, 8, width // 8, 8).transpose(0, 2, 1, 3).reshape(-1, 64)
    highest = jax.lax.Precision.HIGHEST
    levels = jnp.matmul(blocks - 128, cosines.T, precision=highest) / flat_steps
    levels = jnp.sign(levels) * jnp.floor(jnp.abs(levels) + 0.5)
    blocks = jnp.matmul(levels * flat_steps, cosines, precision=highest)
    blocks = jnp.clip(jnp.floor(blocks + 128.5), 0, 255)
    blocks = blocks.reshape(height // 8, width // 8, 8, 8).transpose(0, 2, 1, 3)
    return blocks.reshape(height, width)


def _to_blocks(plane: Array, multiple_down: int, multiple_across: int) -> Array:
    """Returns the plane with its last row and column repeated up to the multiples."""
    height, width = plane.shape
    return jnp.pad(plane, ((0, -height % multiple_down), (0, -width % multiple_across)), "edge")


def _code_grey(plane: Array, quality: int) -> Array:
    height, width = plane.shape
    steps = quantization(quality, chrominance=False)
    return code_blocks(_to_blocks(plane, 8, 8), steps)[:height, :width]


def _code_chroma(plane: Array, quality: int) -> Array:
    height, width = plane.shape
    # Means of 2 x 2, halves rounded up in every second column and down in the others.
    even = _to_blocks(plane, 2, 16)
    tall, wide = even.shape[0] // 2, even.shape[1] // 2
    bias = np.asarray(1 + np.arange(wide) % 2, plane.dtype)
    half = jnp.floor((even.reshape(tall, 2, wide, 2).sum(axis=(1, 3)) + bias) / 4)
    coded = code_blocks(_to_blocks(half, 8, 8), quantization(quality, chrominance=True))
    # Beyond the last pixel the decoder repeats it, whatever the block has there.
    coded = coded[: (height + 1) // 2, : (width + 1) // 2]
    # Twice as many rows and columns: 9, 3, 3, 1 parts of the nearest four, in 16.
    near, padded = 3 * coded, jnp.pad(coded, ((1, 1), (0, 0)), mode="edge")
    rows = jnp.stack([near + padded[:-2], near + padded[2:]], axis=1).reshape(-1, coded.shape[1])
    near, padded = 3 * rows, jnp.pad(rows, ((0, 0), (1, 1)), mode="edge")
    pairs = jnp.stack([near + padded[:, :-2] + 8, near + padded[:, 2:] + 7], axis=2)
    return jnp.floor(pairs / 16).reshape(len(rows), -1)[:height, :width]


def code_colour(image: Array, quality: int) -> Array:
    """Returns an RGB image after JPEG: luminance at full, colour at half the resolution.

    Args:
        image: (H, W, 3), whole numbers in [0, 255].
        quality: 1 to 100.

    Returns:
        (H, W, 3), whole numbers in [0, 255].
    """
    red, green, blue = (image[..., channel] for channel in range(3))
    half_down = 0.5 - 2**-16  # as libjpeg's fixed point has it
    luma = jnp.floor(0.299 * red + 0.587 * green + 0.114 * blue + 0.5)
    to_blue = -0.168735892 * red - 0.331264108 * green + 0.5 * blue
    to_red = 0.5 * red - 0.418687589 * green - 0.081312411 * blue
    luma = _code_grey(luma, quality)
    to_blue = _code_chroma(jnp.floor(to_blue + 128 + half_down), quality) - 128
    to_red = _code_chroma(jnp.floor(to_red + 128 + half_down), quality) - 128
    green_part = jnp.floor(-0.344136286 * to_blue - 0.714136286 * to_red + 0.5)
    colours = (
        luma + jnp.floor(1.402 * to_red + 0.5),
        luma + green_part,
        luma + jnp.floor(1.772 * to_blue + 0.5),
    )
    return jnp.clip(jnp.stack(colours, axis=-1), 0, 255)


def pixelate(key: Key, image: Array, *, factor: float) -> Array:
    """Returns the image made small and large again by Pillow's box filter.

    Args:
        key: not used.
        image: (H, W, C) in [0, 1].
        factor: sides become int(factor side) in between, at least 1.

    Returns:
        (H, W, C), of 8 bits.
    """
    del key
    height, width, _ = image.shape
    small = [max(1, int(side * factor)) for side in (height, width)]
    image = jnp.round(255 * image)

    def half_up(image: Array) -> Array:
        return jnp.floor(image + (0.5 + 1e-4))  # float32 may leave a half short of itself

    # Each of the four passes ends in 8 bits, halves rounded up.
    for sides, new_sides in (((height, width), small), (small, (height, width))):
        rows, columns = map(separable.box, sides, new_sides)
        image = half_up(separable.apply(image, np.eye(sides[0]), columns))
        image = half_up(separable.apply(image, rows, np.eye(new_sides[1])))
    return image / 255


def jpeg_compression(key: Key, image: Array, *, quality: int) -> Array:
    """Returns the image written as JPEG and read again.

    As libjpeg does by default: YCbCr with colour at half the resolution, 8 x 8 cosine transforms,
    frequencies rounded to steps, and a triangle filter to enlarge the colour; coding what remains
    loses nothing. Images of other than three channels are coded channel by channel, as grey.

    Args:
        key: not used.
        image: (H, W, C) in [0, 1].
        quality: 1 to 100.

    Returns:
        (H, W, C), of 8 bits.

    Source:
        ITU-T Recommendation T.81, 1992.
    """
    del key
    levels = jnp.round(255 * image)
    if image.shape[-1] == 3:
        return code_colour(levels, quality) / 255
    code = jax.vmap(lambda plane: _code_grey(plane, quality), in_axes=2, out_axes=2)
    return code(levels) / 255
