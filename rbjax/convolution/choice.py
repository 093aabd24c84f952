"""Which form computes a convolution fastest on CPU, from its shape alone.

Measured inside loops on two cores (experiments/benchmarks/README.md has the table). The thresholds
cost speed, never numbers.
"""

from __future__ import annotations

import math

from rbjax.convolution import forms
from rbjax.convolution.forms import Form, Shape
from rbjax.typing import Array

_WINOGRAD_CHANNELS = 64
_MANY_CHANNELS = 256
_FEW_PIXELS = 50
_FEW_CHANNELS = 4
_FEW_TAPS = 160
"""Of all output channels, where each is an operation of its own."""


def forward(x: Array, w: Array, *, shape: Shape) -> Array:
    """Returns y from x and w."""
    return forward_form(x.shape[0], w.shape, shape)(x, w, shape)


def image_gradient(g: Array, w: Array, *, shape: Shape) -> Array:
    """Returns the gradient of x from that of y and w."""
    return forms.image_gradient(g, w, shape, image_gradient_form(g.shape[0], w.shape, shape))


def kernel_gradient(x: Array, g: Array, *, shape: Shape) -> Array:
    """Returns the gradient of w from x and that of y."""
    return kernel_gradient_form(x.shape[3], shape)(x, g, shape)


def forward_form(num_examples: int, w: tuple[int, ...], shape: Shape) -> Form:
    """Returns the form for y, given the kernel's (A, B, C, O)."""
    if w[2] == 1 and math.prod(w) <= _FEW_TAPS and shape.strides == (1, 1):
        return forms.planes
    if _suits_winograd(num_examples, w, shape, least_tiles=32):
        return forms.winograd
    if _is_pointwise(shape) or _is_deep(w, shape):
        return forms.patches
    return forms.xla


def image_gradient_form(num_examples: int, w: tuple[int, ...], shape: Shape) -> Form:
    """Returns the form for each phase of the gradient of x, given the kernel's (A, B, C, O)."""
    # The gradient of x has the channels of an image, and g many more.
    if w[2] <= _FEW_CHANNELS and w[3] >= 4 * w[2] and w[0] * w[1] > 1:
        return forms.products_first
    # A kernel that changes in each turn is transposed and then transformed: many tiles pay for it.
    if _suits_winograd(num_examples, w, shape, least_tiles=max(w[2:]) // 2):
        return forms.winograd
    if _is_pointwise(shape) or (shape.strides == (1, 1) and _is_deep(w, shape)):
        return forms.patches
    return forms.xla


def kernel_gradient_form(channels: int, shape: Shape) -> Form:
    """Returns the form for the gradient of w, given the channels of x."""
    area = math.prod(shape.kernel_size)
    # One channel: XLA's own has one example in its batch.
    if _is_pointwise(shape) or channels * area <= 16:
        return forms.kernel_gradient_patches
    if _is_3x3(shape):
        return forms.kernel_gradient_winograd
    few = math.prod(shape.output_size) <= _FEW_PIXELS or shape.strides != (1, 1)
    if few and (area <= 9 or channels <= _FEW_CHANNELS):
        return forms.kernel_gradient_patches
    return forms.kernel_gradient_xla


def _is_pointwise(shape: Shape) -> bool:
    return shape.kernel_size == (1, 1)


def _is_3x3(shape: Shape) -> bool:
    """Returns whether F(2x2, 3x3) applies."""
    return (shape.strides, shape.kernel_size) == ((1, 1), (3, 3))


def _is_deep(w: tuple[int, ...], shape: Shape) -> bool:
    """Returns whether there are many channels on few pixels."""
    return math.prod(shape.output_size) <= _FEW_PIXELS and min(w[2:]) >= _MANY_CHANNELS


def _suits_winograd(
    num_examples: int, w: tuple[int, ...], shape: Shape, *, least_tiles: int
) -> bool:
    """Returns whether F(2x2, 3x3) applies and saves more products than it moves memory."""
    if not _is_3x3(shape):
        return False
    tiles = num_examples * math.prod(-(-size // 2) for size in shape.output_size)
    return min(w[2:]) >= _WINOGRAD_CHANNELS and tiles >= least_tiles
