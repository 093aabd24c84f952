"""Ways to pool maps over windows, and back, whose inner loops run over the channels.

Notation as in `forms`: a window at (s i - p, s j - p) of `kernel_size` has the places (a, b).
Backwards, the rows of x with (i + p) mod s = r are seen by the places a = r + s u alone, so that
each such phase is a sum of shifted maps, and the phases are interleaved.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from rbjax.convolution import forms
from rbjax.convolution.forms import Shape
from rbjax.typing import Array

_NONE = -1
"""The place of a largest value where there is none: NaN equals nothing."""


def largest(x: Array, shape: Shape) -> Array:
    """Returns the largest value of each window, (N, P, Q, C)."""
    return _by_axis(x, shape, jnp.maximum, -jnp.inf)


def total(x: Array, shape: Shape) -> Array:
    """Returns the sum of each window, (N, P, Q, C)."""
    return _by_axis(x, shape, operator.add, 0)


def spread(g: Array, shape: Shape) -> Array:
    """Returns what `total` takes g back to, (N, H, W, C): each place gets its windows' values."""
    for axis in (0, 1):
        back = _back(shape, axis)
        padded = lax.pad(g, jnp.zeros((), g.dtype), _on_axis(axis, (back.low, back.high, 0)))
        phases = []
        for phase in range(shape.strides[axis]):
            places = range(phase, shape.kernel_size[axis], shape.strides[axis])
            parts = [_cut(padded, axis, back.start(place), back.count) for place in places]
            nothing = jnp.zeros_like(_cut(padded, axis, 0, back.count))
            phases.append(functools.reduce(operator.add, parts) if parts else nothing)
        joined = jnp.stack(phases, axis=axis + 2)
        lengths = (*joined.shape[: axis + 1], -1, *joined.shape[axis + 3 :])
        g = _cut(joined.reshape(lengths), axis, back.crop, shape.image_size[axis])
    return g


def first_largest(x: Array, y: Array, shape: Shape) -> Array:
    """Returns the first place of each window of x that holds y, its largest value, int8."""
    place = jnp.full(y.shape, _NONE, jnp.int8)
    shifts = forms.shifts(x, shape, -jnp.inf)
    for number in reversed(range(len(shifts))):
        place = jnp.where(shifts[number] == y, jnp.int8(number), place)
    return place


def pick(place: Array, x: Array, shape: Shape) -> Array:
    """Returns of each window of x the value at a place of it, (N, P, Q, C)."""
    shifts = forms.shifts(x, shape)
    zero = jnp.zeros((), x.dtype)
    return functools.reduce(
        operator.add, (jnp.where(place == number, v, zero) for number, v in enumerate(shifts))
    )


def put(place: Array, g: Array, shape: Shape) -> Array:
    """Returns what `pick` takes g back to, (N, H, W, C)."""
    rows, columns = (_back(shape, axis) for axis in (0, 1))
    edges = [(0, 0, 0), *((back.low, back.high, 0) for back in (rows, columns)), (0, 0, 0)]
    g = lax.pad(g, jnp.zeros((), g.dtype), edges)
    place = lax.pad(place, jnp.int8(_NONE), edges)

    def seen(x: Array, a: int, b: int) -> Array:
        x = _cut(x, 0, rows.start(a), rows.count)
        return _cut(x, 1, columns.start(b), columns.count)

    def phase(r: int, t: int) -> Array:
        result = jnp.zeros((g.shape[0], rows.count, columns.count, g.shape[3]), g.dtype)
        for a in range(r, shape.kernel_size[0], shape.strides[0]):
            for b in range(t, shape.kernel_size[1], shape.strides[1]):
                is_here = seen(place, a, b) == a * shape.kernel_size[1] + b
                result += jnp.where(is_here, seen(g, a, b), jnp.zeros((), g.dtype))
        return result

    down, right = shape.strides
    grid = jnp.stack([jnp.stack([phase(r, t) for t in range(right)]) for r in range(down)])
    x = _cut(forms.interleave(grid), 0, rows.crop, shape.image_size[0])
    return _cut(x, 1, columns.crop, shape.image_size[1])


def _by_axis(
    x: Array, shape: Shape, join: Callable[[Array, Array], Array], padding: float
) -> Array:
    """Joins the values of each window, those of its rows first."""
    x = forms.fit(x, shape, forms.extent(shape), padding)
    for axis, (size, stride) in enumerate(zip(shape.output_size, shape.strides, strict=True)):
        places = range(shape.kernel_size[axis])
        parts = [_cut(x, axis, place, size, stride) for place in places]
        x = functools.reduce(join, parts)
    return x


class _Back(NamedTuple):
    """How the phases of one axis lie over the maps of the outputs."""

    first: int
    count: int
    """Rows of a phase."""
    low: int
    """Rows of zeros that the outputs are padded with."""
    high: int
    stride: int
    crop: int
    """Rows of the interleaved phases that come before the image."""

    def start(self, place: int) -> int:
        """Returns the padded row that the first row of a phase gets from a place."""
        return self.first + self.low - place // self.stride


def _back(shape: Shape, axis: int) -> _Back:
    low, stride = shape.padding[axis][0], shape.strides[axis]
    first = low // stride
    count = -(-(shape.image_size[axis] + low) // stride) - first
    before = max(0, (shape.kernel_size[axis] - 1) // stride - first)
    after = max(0, first + count - shape.output_size[axis])
    return _Back(first, count, before, after, stride, low % stride)


def _cut(x: Array, axis: int, start: int, count: int, stride: int = 1) -> Array:
    """Returns some rows (axis 0) or columns (axis 1) of maps (N, H, W, C)."""
    end = start + (count - 1) * stride + 1
    return lax.slice_in_dim(x, start, end, stride, axis=axis + 1)


def _on_axis(axis: int, edges: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    return [edges if number == axis + 1 else (0, 0, 0) for number in range(4)]
