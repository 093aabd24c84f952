"""Ways to compute a 2-D convolution and its two gradients, equal up to float32 rounding.

Notation, for x (N, H, W, C), w (A, B, C, O) and y (N, P, Q, O), strides s and low paddings p:

    y[n, i, j, o]  = sum_abc  x[n, s i + a - p, s j + b - p, c] w[a, b, c, o]

"XLA's own" is the plain convolution in the one layout that XLA's CPU backend hands to its fast
kernels wherever it stands; other layouts are brought to it only outside loops (jax-ml/jax issue
12868), which is what makes gradients inside loops slow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from rbjax.typing import Array

Pair = tuple[int, int]


class Shape(NamedTuple):
    """What a 2-D convolution is, apart from its operands' batch and channels."""

    strides: Pair
    padding: tuple[Pair, Pair]
    """(low, high) of height and of width; negative ones crop."""
    image_size: Pair
    kernel_size: Pair
    precision: Any

    @property
    def output_size(self) -> Pair:
        """Height and width of the output."""
        height, width = (
            (size + low + high - kernel) // stride + 1
            for size, (low, high), kernel, stride in zip(
                self.image_size, self.padding, self.kernel_size, self.strides, strict=True
            )
        )
        return height, width


Form = Callable[[Array, Array, Shape], Array]
"""(x, w, shape) -> y."""


def xla(x: Array, w: Array, shape: Shape) -> Array:
    """Returns y by XLA's own convolution."""
    padding: Any = shape.padding
    if any(edge < 0 for edges in padding for edge in edges):
        x, padding = fit(x, shape, extent(shape)), "VALID"
    return lax.conv_general_dilated(
        x,
        w,
        shape.strides,
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=shape.precision,
    )


def patches(x: Array, w: Array, shape: Shape) -> Array:
    """Returns y as one product of the patches (N P Q, A B C) with w."""
    columns = jnp.concatenate(shifts(x, shape), axis=-1)
    kernel = w.reshape(-1, w.shape[-1])
    return jnp.einsum("nijk,ko->nijo", columns, kernel, precision=shape.precision)


def products_first(x: Array, w: Array, shape: Shape) -> Array:
    """Returns y as one product of x with all taps, whose results are shifted and added.

    For few output channels: the product (N H W, C) by (C, A B O) is small, and XLA's own
    convolution leaves most of its lanes empty.
    Stride 1 only.
    """
    (top, _), (left, _) = shape.padding
    (height, width), (rows, columns) = shape.image_size, shape.kernel_size
    taps = jnp.einsum("nijc,abco->nijabo", x, w, precision=shape.precision)
    extent = (height + 2 * (rows - 1), width + 2 * (columns - 1))
    # The tap (a, b) of row i belongs to row i - a + top, here moved down by rows - 1.
    total = jnp.zeros((x.shape[0], *extent, w.shape[3]), x.dtype)
    for a in range(rows):
        for b in range(columns):
            high = (rows - 1 + a, columns - 1 + b)
            edges = [(rows - 1 - a, high[0], 0), (columns - 1 - b, high[1], 0)]
            total += lax.pad(
                taps[:, :, :, a, b], jnp.zeros((), x.dtype), [(0, 0, 0), *edges, (0, 0, 0)]
            )
    out_height, out_width = shape.output_size
    first_row, first_column = rows - 1 - top, columns - 1 - left
    edges = [
        (-first_row, first_row + out_height - extent[0], 0),
        (-first_column, first_column + out_width - extent[1], 0),
    ]
    return lax.pad(total, jnp.zeros((), x.dtype), [(0, 0, 0), *edges, (0, 0, 0)])


def planes(x: Array, w: Array, shape: Shape) -> Array:
    """Returns y channel by channel, each a sum of shifted images times a number.

    For images of one channel and few output channels: vectors run along the rows of the image,
    where those of XLA's own convolution run along the few channels.
    """
    shifted = [image[..., 0] for image in shifts(x, shape)]
    taps = w.reshape(len(shifted), -1)
    channels = [
        sum(image * taps[place, channel] for place, image in enumerate(shifted))
        for channel in range(w.shape[3])
    ]
    return jnp.stack(channels, axis=-1)


def winograd(x: Array, w: Array, shape: Shape) -> Array:
    """Returns y of a 3x3 convolution of stride 1 by F(2x2, 3x3): 16 products for 36.

    Examples are taken in blocks whose transformed tiles stay in the cache.

    Source: Lavin and Gray 2016, arXiv 1509.09308, section 4.1.
    """
    height, width = shape.output_size
    rows, columns = _num_tiles(shape)
    x = fit(x, shape, (2 * rows + 2, 2 * columns + 2))
    # One axis at a time, stacked in front: the kernel becomes (4, 4, C, O) ...
    kernel = _kernel_transform(w)
    kernel = _kernel_transform([kernel[:, b] for b in range(3)])

    def block_of(x: Array) -> Array:
        # ... and the tiles (4, 4, N, rows, columns, C).
        tiles = _image_tiles(x, rows, columns)
        mixed = jnp.einsum("banijc,baco->banijo", tiles, kernel, precision=shape.precision)
        y = _output_transform(mixed)
        y = _output_transform([y[:, a] for a in range(4)])
        return interleave(y)[:, :height, :width]

    size = _block_size(x.shape[0], rows * columns)
    if size == x.shape[0]:
        return block_of(x)
    y = lax.map(block_of, x.reshape(-1, size, *x.shape[1:]))
    return y.reshape(x.shape[0], *y.shape[2:])


def image_gradient(g: Array, w: Array, shape: Shape, form: Form) -> Array:
    """Returns the gradient of x: for each phase one convolution of g, of stride 1, by a form.

    The rows of x with (i + p) mod s = r see only the taps a = r + s u of the kernel, so that row
    s q + r - p of the gradient is sum_u g[q - u] w[r + s u]; the same for the columns. With
    stride 1 it is one convolution with the flipped kernel.
    """
    down, right = shape.strides
    first = [low // stride for (low, _), stride in zip(shape.padding, shape.strides, strict=True)]
    count = [
        -(-(size + low) // stride) - start
        for size, (low, _), stride, start in zip(
            shape.image_size, shape.padding, shape.strides, first, strict=True
        )
    ]

    def phase(taps: Array) -> Array:
        if 0 in taps.shape:
            return jnp.zeros((g.shape[0], *count, w.shape[2]), g.dtype)
        # Behind the barrier it is written once, not gathered by every product: a fifth of the time
        # where it is large.
        flipped = lax.optimization_barrier(jnp.flip(taps, (0, 1)).swapaxes(2, 3))
        lows = [kernel - 1 - start for kernel, start in zip(taps.shape, first, strict=False)]
        highs = [n + q - p for n, q, p in zip(count, first, g.shape[1:3], strict=True)]
        padding = ((lows[0], highs[0]), (lows[1], highs[1]))
        kernel_size = (taps.shape[0], taps.shape[1])
        return form(
            g, flipped, Shape((1, 1), padding, shape.output_size, kernel_size, shape.precision)
        )

    phases = [jnp.stack([phase(w[r::down, t::right]) for t in range(right)]) for r in range(down)]
    joined = interleave(jnp.stack(phases))
    top, left = (
        low % stride for (low, _), stride in zip(shape.padding, shape.strides, strict=True)
    )
    height, width = shape.image_size
    return joined[:, top : top + height, left : left + width]


def kernel_gradient_xla(x: Array, g: Array, shape: Shape) -> Array:
    """Returns the gradient of w by XLA's own convolution, with examples as channels."""
    gradient = lax.conv_general_dilated(
        fit(x, shape, extent(shape)).transpose(3, 1, 2, 0),
        g.transpose(1, 2, 0, 3),
        (1, 1),
        "VALID",
        rhs_dilation=shape.strides,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=shape.precision,
    )
    return gradient.transpose(1, 2, 0, 3)


def kernel_gradient_patches(x: Array, g: Array, shape: Shape) -> Array:
    """Returns the gradient of w as one product of the patches with g."""
    columns = jnp.concatenate(shifts(x, shape), axis=-1)
    gradient = jnp.einsum("nijk,nijo->ko", columns, g, precision=shape.precision)
    return gradient.reshape(*shape.kernel_size, x.shape[-1], g.shape[-1])


def kernel_gradient_winograd(x: Array, g: Array, shape: Shape) -> Array:
    """Returns the gradient of w by the transpose of F(2x2, 3x3), in blocks as `winograd`."""
    rows, columns = _num_tiles(shape)
    x = fit(x, shape, (2 * rows + 2, 2 * columns + 2))
    height, width = shape.output_size
    missing = [(0, 0), (0, 2 * rows - height), (0, 2 * columns - width), (0, 0)]
    g = jnp.pad(g, missing)

    def block_of(x: Array, g: Array) -> Array:
        tiles = _gradient_transform([g[:, a::2] for a in range(2)])
        tiles = _gradient_transform([tiles[:, :, :, b::2] for b in range(2)])
        images = _image_tiles(x, rows, columns)
        return jnp.einsum("banijc,banijo->baco", images, tiles, precision=shape.precision)

    size = _block_size(x.shape[0], rows * columns)
    if size == x.shape[0]:
        mixed = block_of(x, g)
    else:
        blocks = [a.reshape(-1, size, *a.shape[1:]) for a in (x, g)]
        first = block_of(blocks[0][0], blocks[1][0])
        mixed, _ = lax.scan(
            lambda total, block: (total + block_of(*block), None),
            first,
            (blocks[0][1:], blocks[1][1:]),
        )
    gradient = _kernel_gradient_transform(mixed)
    return _kernel_gradient_transform([gradient[:, a] for a in range(4)])


def extent(shape: Shape) -> Pair:
    """Returns the height and width of the padded image that the output sees."""
    height, width = (
        (output - 1) * stride + kernel
        for output, stride, kernel in zip(
            shape.output_size, shape.strides, shape.kernel_size, strict=True
        )
    )
    return height, width


def fit(x: Array, shape: Shape, extent: Pair, padding: float = 0) -> Array:
    """Pads x low as the convolution does, and pads or crops it high to an extent."""
    highs = [
        wanted - size - low
        for wanted, size, (low, _) in zip(extent, shape.image_size, shape.padding, strict=True)
    ]
    edges = [(low, high, 0) for (low, _), high in zip(shape.padding, highs, strict=True)]
    return lax.pad(x, jnp.asarray(padding, x.dtype), [(0, 0, 0), *edges, (0, 0, 0)])


def shifts(x: Array, shape: Shape, padding: float = 0) -> list[Array]:
    """Returns what each w[a, b] is multiplied with, (N, P, Q, C)."""
    x = fit(x, shape, extent(shape), padding)
    (rows, columns), (down, right) = shape.output_size, shape.strides
    return [
        x[:, a : a + (rows - 1) * down + 1 : down, b : b + (columns - 1) * right + 1 : right]
        for a in range(shape.kernel_size[0])
        for b in range(shape.kernel_size[1])
    ]


def _block_size(num_examples: int, tiles: int) -> int:
    """Returns the largest divisor of num_examples with 1,024 tiles at most; all, if it has few."""
    sizes = range(1, min(num_examples, max(1, 1024 // tiles)) + 1)
    size = max(size for size in sizes if num_examples % size == 0)
    return num_examples if size * tiles < 128 else size


def _num_tiles(shape: Shape) -> Pair:
    """Returns the rows and columns of 2x2 tiles that cover the output."""
    height, width = shape.output_size
    return -(-height // 2), -(-width // 2)


def _image_tiles(x: Array, rows: int, columns: int) -> Array:
    """Returns the transformed 4x4 tiles of a padded image, (4, 4, N, rows, columns, C)."""
    tiles = _input_transform([x[:, a : a + 2 * rows : 2] for a in range(4)])
    return _input_transform([tiles[:, :, :, b : b + 2 * columns : 2] for b in range(4)])


def _input_transform(d: Sequence[Array]) -> Array:
    return jnp.stack([d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]])


def _kernel_transform(g: Sequence[Array] | Array) -> Array:
    ends = g[0] + g[2]
    return jnp.stack([g[0], (ends + g[1]) * 0.5, (ends - g[1]) * 0.5, g[2]])


def _output_transform(m: Sequence[Array] | Array) -> Array:
    return jnp.stack([m[0] + m[1] + m[2], m[1] - m[2] - m[3]])


def _gradient_transform(y: Sequence[Array]) -> Array:
    """The transpose of `_output_transform`."""
    return jnp.stack([y[0], y[0] + y[1], y[0] - y[1], -y[1]])


def _kernel_gradient_transform(k: Sequence[Array] | Array) -> Array:
    """The transpose of `_kernel_transform`."""
    middle = (k[1] + k[2]) * 0.5
    return jnp.stack([k[0] + middle, (k[1] - k[2]) * 0.5, middle + k[3]])


def interleave(grid: Array) -> Array:
    """Returns z[n, s i + a, t j + b, c] = grid[a, b, n, i, j, c] for a grid of s by t."""
    s, t, n, i, j, c = grid.shape
    return grid.transpose(2, 3, 0, 4, 1, 5).reshape(n, s * i, t * j, c)
