"""Residual networks, for CIFAR and for ImageNet, and the small ones of the long-tail papers."""

from __future__ import annotations

from typing import ClassVar, Literal

import flax.linen as nn
import jax.numpy as jnp

from rbjax.models.head import Backbone
from rbjax.models.layers import (
    Blocks,
    Form,
    Layers,
    Width,
    block,
    check_blocks,
    global_average,
    max_pool,
)
from rbjax.typing import Array, Key

Shortcut = Literal["projection", "zeros"]


class ResNet(Backbone):
    """Residual network, for CIFAR or for ImageNet.

    A stem, stages of blocks, each after the first at half the size, global average; no convolution
    has a bias. In the form for CIFAR the stem is a 3x3 convolution, in that for ImageNet a 7x7 one
    of stride 2 and a max pool. On 32x32x3 images of 10 classes ResNet-18, -34 and -50 have
    11,173,962, 21,282,122 and 23,520,842 parameters, ResNet-32 464,154; on ImageNet ResNet-50 has
    25,557,032.

    Source: He et al., "Deep Residual Learning for Image Recognition", 2015, arXiv:1512.03385,
    table 1 and section 4.2; the stride of a bottleneck is its 3x3 convolution's, as in torchvision;
    ResNet-32 as in Cao et al. 2019, arXiv:1906.07413.
    """

    min_size: ClassVar[int] = 1

    form: Form = "cifar"
    """For which images: "cifar", about 32 pixels; "imagenet", about 224."""
    width: Width = 64
    """Channels of the first stage; they double from stage to stage."""
    blocks: Blocks = (2, 2, 2, 2)
    """Blocks of each stage."""
    block: Literal["basic", "bottleneck"] = "basic"
    """"basic": two 3x3 convolutions; "bottleneck": 1x1, 3x3 and 1x1, four times as wide."""
    shortcut: Shortcut = "projection"
    """Where the shape changes: a 1x1 "projection", or every other pixel and channels of "zeros"."""
    remat: bool = False
    """Whether the backward pass computes blocks again, to save memory."""
    dtype: jnp.dtype = jnp.dtype("float32")
    axis_name: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_blocks(self.blocks)

    @nn.compact
    def __call__(self, x: Array, keys: Key | None = None, *, train: bool = False) -> Array:
        """Returns the averaged last maps (B, F) of normalised images `x` (B, H, W, C)."""
        layers = Layers(train, self.dtype, self.axis_name)
        size, stride = (3, 1) if self.form == "cifar" else (7, 2)
        x = layers.conv(self.width, size, stride=stride, name="Conv_0")(x)
        x = nn.relu(layers.norm(name="BatchNorm_0")(x))
        if self.form == "imagenet":
            x = max_pool(x, 3, 2, padding=1)
        number = 0
        for stage, count in enumerate(self.blocks):
            for index in range(count):
                stride = 2 if stage > 0 and index == 0 else 1
                convs = _CONVOLUTIONS[self.block](self.width * 2**stage, stride)
                name = f"_Block_{number}"  # as ResNet-18's blocks have been called from the start
                made = block(Block, remat=self.remat)(layers, convs, self.shortcut, name=name)
                x, number = made(x), number + 1
        return global_average(x)


_CONVOLUTIONS = {
    "basic": lambda width, stride: ((width, 3, stride), (width, 3, 1)),
    "bottleneck": lambda width, stride: ((width, 1, 1), (width, 3, stride), (4 * width, 1, 1)),
}
"""Channels, kernel and stride of each convolution of a block."""


class Block(nn.Module):
    """Convolutions with batch norm, and a shortcut past them."""

    layers: Layers
    convolutions: tuple[tuple[int, int, int], ...]
    shortcut: Shortcut

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Returns the maps that follow from `x` (B, H, W, C)."""
        y = x
        for number, (width, size, stride) in enumerate(self.convolutions):
            y = nn.relu(y) if number else y
            y = self.layers.conv(width, size, stride=stride, name=f"Conv_{number}")(y)
            y = self.layers.norm(name=f"BatchNorm_{number}")(y)
        return nn.relu(self._past(x, y.shape[-1]) + y)

    def _past(self, x: Array, width: int) -> Array:
        """Returns the input in the shape of the output."""
        stride = max(stride for _, _, stride in self.convolutions)
        if stride == 1 and x.shape[-1] == width:
            return x
        if self.shortcut == "zeros":
            missing = width - x.shape[-1]
            sides = (missing // 2, missing - missing // 2)
            return jnp.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), sides))
        number = len(self.convolutions)
        x = self.layers.conv(width, 1, stride=stride, name=f"Conv_{number}")(x)
        return self.layers.norm(name=f"BatchNorm_{number}")(x)
