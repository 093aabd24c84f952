"""Layers that the deep networks share, padded as PyTorch pads."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rbjax.models.initial import HE_NORMAL
from rbjax.options import Range
from rbjax.typing import Array

Form = Literal["cifar", "imagenet"]
"""What a network is made for: images of about 32 pixels, or photographs of about 224."""
Width = Annotated[int, Range(low=1, high=65536)]
"""Channels of a layer."""
Blocks = Annotated[tuple[int, ...], Range(low=1, high=1000)]
"""How many blocks each stage has."""


@dataclasses.dataclass(frozen=True)
class Layers:
    """Makes the layers of one network, in its dtype, for training or not.

    Source: momentum and epsilon of batch norm are PyTorch's defaults.
    """

    train: bool
    """Whether batch norm takes the batch's statistics."""
    dtype: jnp.dtype
    axis_name: str | None
    """The mapped axis over which batch norm averages in training."""
    epsilon: float = 1e-5
    """What batch norm adds to a variance."""
    kernel_init: Callable[..., Any] = HE_NORMAL

    def conv(
        self,
        width: int,
        size: int | tuple[int, int] = 3,
        *,
        name: str,
        stride: int = 1,
        padding: int | tuple[int, int] | None = None,
        use_bias: bool = False,
    ) -> Conv:
        """Returns a convolution, zero-padded alike on both sides whatever the stride.

        Args:
            width: channels of the output.
            size: height and width of the kernel, odd.
            name: of its parameters.
            stride: in both directions.
            padding: pixels on each side; None: half of the kernel, which keeps the size.
            use_bias: whether it has a bias.
        """
        kernel = _pair(size)
        rows, columns = (kernel[0] // 2, kernel[1] // 2) if padding is None else _pair(padding)
        return Conv(
            width,
            kernel,
            (stride, stride),
            ((rows, rows), (columns, columns)),
            use_bias=use_bias,
            dtype=self.dtype,
            kernel_init=self.kernel_init,
            name=name,
        )

    def norm(self, *, name: str) -> nn.BatchNorm:
        """Returns batch norm."""
        return nn.BatchNorm(
            use_running_average=not self.train,
            momentum=0.9,
            epsilon=self.epsilon,
            dtype=self.dtype,
            axis_name=self.axis_name,
            name=name,
        )


class Conv(nn.Conv):
    """A convolution that is computed by itself in bfloat16 on CPU.

    XLA for CPU (jaxlib 0.12.0.1) merges padded bfloat16 convolutions into one kernel whose numbers
    are wrong.  What it is compiled for decides, which need not be the default backend.
    """

    def __call__(self, inputs: Array) -> Array:
        """Returns the maps that follow from `inputs` (B, H, W, C)."""
        maps = super().__call__(inputs)
        if self.dtype != jnp.bfloat16:
            return maps
        return jax.lax.platform_dependent(
            maps, cpu=jax.lax.optimization_barrier, default=lambda maps: maps
        )


class ConvNorm(nn.Module):
    """Convolution, batch norm, ReLU."""

    layers: Layers
    width: int
    size: int | tuple[int, int] = 3
    stride: int = 1
    padding: int | tuple[int, int] | None = None
    use_bias: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Returns the maps that follow from `x` (B, H, W, C)."""
        conv = self.layers.conv(
            self.width,
            self.size,
            name="conv",
            stride=self.stride,
            padding=self.padding,
            use_bias=self.use_bias,
        )
        return nn.relu(self.layers.norm(name="bn")(conv(x)))


def block[M: nn.Module](module: type[M], *, remat: bool) -> type[M]:
    """Returns a block that keeps nothing for the backward pass but its input, if so asked.

    Args:
        module: the block's class.
        remat: whether the backward pass computes what is inside again.

    Source: Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016, arXiv:1604.06174.
    """
    return nn.remat(module) if remat else module


def check_blocks(blocks: Any) -> None:
    """Refuses what does not say how many blocks each stage has."""
    some = isinstance(blocks, tuple) and len(blocks) > 0
    if not some or not all(isinstance(count, int) and count > 0 for count in blocks):
        raise ValueError(f"blocks is {blocks}; allowed: positive integers, such as (2, 2, 2, 2)")


def max_pool(
    x: Array, size: int, stride: int, *, padding: int = 0, is_partial: bool = False
) -> Array:
    """Returns the largest value of each window of `x` (B, H, W, C).

    Args:
        x: the maps.
        size: height and width of the window.
        stride: in both directions.
        padding: pixels on each side, which are never the largest.
        is_partial: whether a last window that hangs over the edge counts (PyTorch's `ceil_mode`).
    """
    sides: Any = [(padding, padding + _overhang(n, size, stride, padding)) for n in x.shape[1:3]]
    if not is_partial:
        sides = [(padding, padding)] * 2
    return nn.max_pool(x, (size, size), (stride, stride), sides)


def average_pool(x: Array, size: int, stride: int, *, padding: int = 0) -> Array:
    """Returns the mean of each window of `x` (B, H, W, C); zeros of the padding count.

    Args:
        x: the maps.
        size: height and width of the window.
        stride: in both directions.
        padding: pixels on each side.
    """
    sides: Any = [(padding, padding)] * 2  # Flax's annotation of its pools knows only strings
    return nn.avg_pool(x, (size, size), (stride, stride), sides)


def global_average(x: Array) -> Array:
    """Returns the mean (B, C) float32 over the places of `x` (B, H, W, C)."""
    return jnp.mean(x, axis=(1, 2), dtype=jnp.float32)


def adaptive_average(x: Array, size: int) -> Array:
    """Returns means (B, size, size, C) over areas of `x` (B, H, W, C), whatever its size.

    Area i reaches from `floor(i H / size)` to `ceil((i + 1) H / size)`, as PyTorch's.
    """
    if x.shape[1:3] == (size, size):
        return x
    rows, columns = (jnp.asarray(_areas(n, size), x.dtype) for n in x.shape[1:3])
    return jnp.einsum("ih,bhwc,jw->bijc", rows, x, columns, precision=jax.lax.Precision.HIGHEST)


def proportional(width: int, factor: float) -> int:
    """Returns a share of a layer's channels, rounded, at least one."""
    return max(1, round(width * factor))


def _areas(length: int, size: int) -> np.ndarray:
    """Returns the matrix (size, length) of means."""
    index, place = np.arange(size)[:, None], np.arange(length)
    inside = (place >= index * length // size) & (place < -(-(index + 1) * length // size))
    return inside / inside.sum(axis=1, keepdims=True)


def _overhang(length: int, size: int, stride: int, padding: int) -> int:
    """Returns the pixels that the last window lacks, where it begins on a pixel."""
    left = length + 2 * padding - size
    count = -(-left // stride) + 1
    if (count - 1) * stride >= length + padding:
        count -= 1
    return max(0, (count - 1) * stride - left)


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return size if isinstance(size, tuple) else (size, size)
