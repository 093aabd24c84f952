"""AugMix's operations on one image: bit for bit what Pillow does to images of 8 bits.

Images are float in [0, 1] and hold k / 255; an operation works on the levels k, so its result holds
k / 255 again.  An image of uint8, which holds the levels themselves, becomes another of uint8; one
of `Words`, in which several operations in a row are fastest, another of `Words`.  Parameters may be
traced.  Outside the image is black.  Some operations need double precision, which they use whatever
JAX's setting.  Pillow's own result depends on whether it was compiled with fused multiply-adds;
this is the one without, as its wheels for x86-64 are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rbjax.data.affine import Coefficients, affine, shift
from rbjax.data.rounding import times, to_15_decimals
from rbjax.data.words import Words, by_channel, joined, pack, unpack
from rbjax.tables import lookup
from rbjax.typing import Array

Number = Array | float


def autocontrast[Image: Array | Words](image: Image) -> Image:
    """Returns the image with each channel stretched to the whole range.

    `int(k s + o)`, `s = 255 / (high - low)`, `o = -low s`; a channel of one level stays.

    Args:
        image: (H, W, C) in [0, 1].

    Returns:
        (H, W, C).
    """

    def stretch(levels: Array) -> Array:
        # A row after the other: a reduction over both axes at once is ten times as slow on CPU.
        once = jax.lax.optimization_barrier
        low, high = once([find(once(find(levels, axis=0))) for find in (jnp.min, jnp.max)])
        with jax.enable_x64(True):
            scale = 255.0 / (high - low).astype(jnp.float64)
            stretched = jnp.trunc(times(scale, levels) + times(scale, -low))
            stretched = jnp.clip(stretched, 0, 255).astype(jnp.int32)
        return jnp.where(high > low, stretched, levels)

    return _by_channel(image, stretch)


def equalize[Image: Array | Words](image: Image) -> Image:
    """Returns the image with each channel's histogram made as flat as a table of levels can.

    `(step // 2 + sum_{j < k} h_j) // step`, `step = (N - h_last) // 255`; a channel with a step of
    0 stays.

    Args:
        image: (H, W, C) in [0, 1].

    Returns:
        (H, W, C).
    """

    def flatten(levels: Array) -> Array:
        histogram = jnp.zeros(256, jnp.int32).at[levels.reshape(-1)].add(1)
        step = (levels.size - histogram[jnp.max(levels)]) // 255
        before = jnp.cumsum(histogram) - histogram
        table = jnp.minimum((step // 2 + before) // jnp.maximum(step, 1), 255)
        # A barrier, or each pixel would divide for itself.
        table = jax.lax.optimization_barrier(jnp.where(step > 0, table, jnp.arange(256)))
        return table.at[levels].get(mode="promise_in_bounds")

    return _by_channel(image, flatten)


def posterize[Image: Array | Words](image: Image, bits: Number) -> Image:
    """Returns the image with the highest bits of each level kept, the others 0.

    Args:
        image: (H, W, C) in [0, 1].
        bits: a whole number in [1, 8].

    Returns:
        (H, W, C).
    """
    low = jnp.left_shift(1, 8 - jnp.asarray(bits).astype(jnp.int32)) - 1
    return _by_channel(image, lambda levels: levels & ~low)


def solarize[Image: Array | Words](image: Image, threshold: Number) -> Image:
    """Returns the image with all levels from a threshold on inverted.

    Args:
        image: (H, W, C) in [0, 1].
        threshold: a level in [0, 256].

    Returns:
        (H, W, C).
    """
    return _by_channel(image, lambda levels: jnp.where(levels < threshold, levels, 255 - levels))


def rotate[Image: Array | Words](image: Image, degrees: Number) -> Image:
    """Returns the image turned about its centre, counter-clockwise, bilinear.

    Args:
        image: (H, W, C) in [0, 1].
        degrees: the angle.

    Returns:
        (H, W, C).
    """
    height, width, _ = image.shape
    with jax.enable_x64(True):
        degrees = jnp.asarray(degrees, jnp.float64)
        angle = -(degrees % 360.0) * (jnp.pi / 180.0)
        cos, sin = to_15_decimals(jnp.cos(angle)), to_15_decimals(jnp.sin(angle))
        # The centre stays: x = cos (x - w / 2) + sin (y - h / 2) + w / 2.
        right = times(cos, -width / 2) + times(sin, -height / 2) + width / 2
        down = times(-sin, -width / 2) + times(cos, -height / 2) + height / 2
        return _moved(image, (cos, sin, right), (-sin, cos, down))


def shear_x[Image: Array | Words](image: Image, slope: Number) -> Image:
    """Returns `out(x, y) = in(x + slope y, y)`, bilinear.

    Args:
        image: (H, W, C) in [0, 1].
        slope: columns per row.

    Returns:
        (H, W, C).
    """
    return _moved(image, to_x=(1.0, slope, 0.0))


def shear_y[Image: Array | Words](image: Image, slope: Number) -> Image:
    """Returns `out(x, y) = in(x, y + slope x)`, bilinear.

    Args:
        image: (H, W, C) in [0, 1].
        slope: rows per column.

    Returns:
        (H, W, C).
    """
    return _moved(image, to_y=(slope, 1.0, 0.0))


def translate_x[Image: Array | Words](image: Image, pixels: Number) -> Image:
    """Returns `out(x, y) = in(x + pixels, y)`, bilinear.

    Args:
        image: (H, W, C) in [0, 1].
        pixels: columns; the image moves to the left where they are positive. Whole ones of an
            integer dtype are not interpolated, which is faster.

    Returns:
        (H, W, C).
    """
    if jnp.issubdtype(jnp.asarray(pixels).dtype, jnp.integer):
        return _changed(image, lambda words: shift(words, jnp.asarray(pixels), 0))
    return _moved(image, to_x=(1.0, 0.0, pixels))


def translate_y[Image: Array | Words](image: Image, pixels: Number) -> Image:
    """Returns `out(x, y) = in(x, y + pixels)`, bilinear.

    Args:
        image: (H, W, C) in [0, 1].
        pixels: rows; the image moves up where they are positive. Whole ones of an integer dtype
            are not interpolated, which is faster.

    Returns:
        (H, W, C).
    """
    if jnp.issubdtype(jnp.asarray(pixels).dtype, jnp.integer):
        return _changed(image, lambda words: shift(words, 0, jnp.asarray(pixels)))
    return _moved(image, to_y=(0.0, 1.0, pixels))


def color[Image: Array | Words](image: Image, factor: Number) -> Image:
    """Returns the image between its grey version (factor 0) and itself (1), or beyond.

    Args:
        image: (H, W, C) in [0, 1], C 1 or 3.
        factor: at least 0.

    Returns:
        (H, W, C).

    Raises:
        ValueError: for another number of channels.
    """
    return _all_at_once(image, lambda levels: _blend(_luminance(levels), levels, factor))


def contrast[Image: Array | Words](image: Image, factor: Number) -> Image:
    """Returns the image between its mean grey (factor 0) and itself (1), or beyond.

    Args:
        image: (H, W, C) in [0, 1], C 1 or 3.
        factor: at least 0.

    Returns:
        (H, W, C).

    Raises:
        ValueError: for another number of channels.
    """

    def fade(levels: Array) -> Array:
        grey = _luminance(levels)
        mean = (2 * jnp.sum(grey) + grey.size) // (2 * grey.size)
        return _blend(mean, levels, factor)

    return _all_at_once(image, fade)


def brightness[Image: Array | Words](image: Image, factor: Number) -> Image:
    """Returns the image between black (factor 0) and itself (1), or beyond.

    Args:
        image: (H, W, C) in [0, 1].
        factor: at least 0.

    Returns:
        (H, W, C).
    """
    return _by_channel(image, lambda levels: _blend(0, levels, factor))


def sharpness[Image: Array | Words](image: Image, factor: Number) -> Image:
    """Returns the image between its smoothed version (factor 0) and itself (1), or beyond.

    Smoothed by ones around a 5, over 13; the pixels at the border stay.

    Args:
        image: (H, W, C) in [0, 1].
        factor: at least 0.

    Returns:
        (H, W, C).
    """

    def sharpen(levels: Array) -> Array:
        smooth = levels
        if min(levels.shape) > 2:
            total = jax.lax.reduce_window(levels, 0, jax.lax.add, (3, 3), (1, 1), "valid")
            total += 4 * levels[1:-1, 1:-1]
            smooth = levels.at[1:-1, 1:-1].set((2 * total + 13) // 26)
        return _blend(smooth, levels, factor)

    return _by_channel(image, sharpen)


class Operation(NamedTuple):
    """An operation, and how its parameter follows from AugMix's level."""

    run: Callable[..., Any]
    """image -> image, or (image, parameter) -> image."""
    parameter: Callable[[Number, Number, int], Array] | None = None
    """(level, sign, width of the image) -> parameter."""
    corrupts: bool = False
    """Whether it is left out by default, as it is similar to one of ImageNet-C's corruptions."""


def _whole(level: Number, most: float) -> Array:
    return jnp.trunc(jnp.asarray(level, jnp.float32) * most / 10)


def _share(level: Number, most: float) -> Array:
    return jnp.asarray(level, jnp.float32) * most / 10


def _shift(level: Number, sign: Number, width: int) -> Array:
    return (sign * _whole(level, width / 3)).astype(jnp.int32)


def _shear(level: Number, sign: Number, width: int) -> Array:
    return sign * _share(level, 0.3)


def _factor(level: Number, sign: Number, width: int) -> Array:
    return _share(level, 1.8) + 0.1


OPERATIONS: dict[str, Operation] = {
    "autocontrast": Operation(autocontrast),
    "equalize": Operation(equalize),
    "posterize": Operation(posterize, lambda level, sign, width: 4 - _whole(level, 4)),
    "rotate": Operation(rotate, lambda level, sign, width: sign * _whole(level, 30)),
    "solarize": Operation(solarize, lambda level, sign, width: 256 - _whole(level, 256)),
    "shear_x": Operation(shear_x, _shear),
    "shear_y": Operation(shear_y, _shear),
    "translate_x": Operation(translate_x, _shift),
    "translate_y": Operation(translate_y, _shift),
    "color": Operation(color, _factor, corrupts=True),
    "contrast": Operation(contrast, _factor, corrupts=True),
    "brightness": Operation(brightness, _factor, corrupts=True),
    "sharpness": Operation(sharpness, _factor, corrupts=True),
}


def apply[Image: Array | Words](name: str, image: Image, level: Number, sign: Number = 1) -> Image:
    """Returns an image after one of AugMix's operations.

    Args:
        name: a name in `OPERATIONS`.
        image: (H, W, C) in [0, 1], holding k / 255.
        level: AugMix's, in [0, 10]; drawn uniform from 0.1 to the severity there.
        sign: 1 or -1, for operations with two directions; the others ignore it.

    Returns:
        (H, W, C).

    Raises:
        ValueError: for an unknown name.

    Source: Hendrycks et al., "AugMix: A Simple Data Processing Method to Improve Robustness and
    Uncertainty", 2020, arXiv:1912.02781; the levels' meaning by its published code.
    """
    operation = lookup(OPERATIONS, name, what="operation")
    if operation.parameter is None:
        return operation.run(image)
    return operation.run(image, operation.parameter(level, sign, image.shape[1]))


def _luminance(levels: Array) -> Array:
    """(H, W, 1)."""
    channels = levels.shape[-1]
    if channels == 1:
        return levels
    if channels != 3:
        raise ValueError(f"image has {channels} channels; grey is known of 1 or 3")
    weighted = levels @ jnp.array([[19595], [38470], [7471]])
    return jnp.right_shift(weighted + 0x8000, 16)


def _blend(degenerate: Array | int, levels: Array, factor: Number) -> Array:
    """`degenerate + factor (levels - degenerate)` in single precision, cut off, in 0..255."""
    product = times(jnp.asarray(factor, jnp.float32), levels - degenerate)
    return jnp.clip(degenerate + product, 0, 255).astype(jnp.int32)


def _changed[Image: Array | Words](image: Image, change: Callable[[Words], Words]) -> Image:
    if isinstance(image, Words):
        return change(image)
    return unpack(change(pack(image)), image.dtype)


def _by_channel[Image: Array | Words](image: Image, change: Callable[[Array], Array]) -> Image:
    return _changed(image, lambda words: by_channel(change, words))


def _all_at_once[Image: Array | Words](image: Image, change: Callable[[Array], Array]) -> Image:
    def of_levels(words: Words) -> Words:
        levels = change(words.all_levels())
        return joined([levels[..., channel] for channel in range(words.channels)])

    return _changed(image, of_levels)


def _moved[Image: Array | Words](
    image: Image, to_x: Coefficients | None = None, to_y: Coefficients | None = None
) -> Image:
    return _changed(image, lambda words: affine(words, to_x, to_y))
