"""ResNet-18 in the form for 32x32 images."""

from __future__ import annotations

import functools
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from rbjax.models.head import Backbone
from rbjax.typing import Array, Key

_HE_NORMAL = nn.initializers.variance_scaling(2.0, "fan_out", "truncated_normal")


class _Block(nn.Module):
    """Two 3x3 convolutions and a shortcut, a 1x1 convolution where the shape changes."""

    width: int
    stride: int
    dtype: jnp.dtype
    axis_name: str | None

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        conv = functools.partial(nn.Conv, use_bias=False, dtype=self.dtype, kernel_init=_HE_NORMAL)
        norm = functools.partial(
            nn.BatchNorm,
            use_running_average=not train,
            momentum=0.9,
            dtype=self.dtype,
            axis_name=self.axis_name,
        )
        strides, padding = (self.stride, self.stride), ((1, 1), (1, 1))
        y = nn.relu(norm()(conv(self.width, (3, 3), strides, padding)(x)))
        y = norm()(conv(self.width, (3, 3), padding=padding)(y))
        if x.shape != y.shape:
            x = norm()(conv(self.width, (1, 1), strides)(x))
        return nn.relu(x + y)


class ResNet18(Backbone):
    """3x3 stem without pooling, four stages of two blocks, global average; the head follows.

    Widths 64, 128, 256, 512, the last three stages halve the size; convolutions have no bias.
    11,173,962 parameters on 32x32x3 images of 10 classes.

    Source: He et al., "Deep Residual Learning for Image Recognition", 2015, arXiv:1512.03385,
    table 1 (18 layers), with the stem that is usual for CIFAR.
    """

    min_size: ClassVar[int] = 8

    dtype: jnp.dtype = jnp.dtype("float32")
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, keys: Key | None = None, *, train: bool = False) -> Array:
        """Returns the averaged last maps (B, 512) of normalised images `x` (B, H, W, C)."""
        x = nn.Conv(64, (3, 3), use_bias=False, dtype=self.dtype, kernel_init=_HE_NORMAL)(x)
        norm = nn.BatchNorm(momentum=0.9, dtype=self.dtype, axis_name=self.axis_name)
        x = nn.relu(norm(x, use_running_average=not train))
        for stage, width in enumerate((64, 128, 256, 512)):
            for stride in (1 if stage == 0 else 2, 1):
                x = _Block(width, stride, self.dtype, self.axis_name)(x, train=train)
        return jnp.mean(x, axis=(1, 2), dtype=jnp.float32)
