"""Residual networks whose batch norm and ReLU come before each convolution."""

from __future__ import annotations

from typing import ClassVar, Literal

import flax.linen as nn
import jax.numpy as jnp

from rbjax.models.dropout import Dropout
from rbjax.models.head import Backbone
from rbjax.models.layers import Blocks, Layers, Width, block, check_blocks, global_average
from rbjax.typing import Array, Key

ShortcutInput = Literal["activated", "raw"]


class PreActResNet(Backbone):
    """Pre-activation residual network for CIFAR.

    A 3x3 stem, stages of blocks, each after the first at half the size, global average; no
    convolution has a bias. ResNet-18's shape has 11,171,146 parameters on 32x32x3 images of 10
    classes.

    Source: He et al., "Identity Mappings in Deep Residual Networks", 2016, arXiv:1603.05027, in
    the form of kuangliu/pytorch-cifar, which has no batch norm at the end.
    """

    min_size: ClassVar[int] = 1

    width: Width = 64
    """Channels of the first stage; they double from stage to stage."""
    blocks: Blocks = (2, 2, 2, 2)
    """Blocks of each stage."""
    shortcut: ShortcutInput = "activated"
    """What a 1x1 convolution takes past a block: its input "activated", by batch norm and ReLU, or
    "raw" (RobustBench's first block)."""
    final_norm: bool = False
    """Whether batch norm and ReLU follow the last block, as in the paper."""
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
        x = layers.conv(self.width, name="conv1")(x)
        for stage, count in enumerate(self.blocks):
            for index in range(count):
                stride = 2 if stage > 0 and index == 0 else 1
                name = f"layer{stage + 1}_{index}"
                made = block(PreActBlock, remat=self.remat)(
                    layers, self.width * 2**stage, stride, self.shortcut, name=name
                )
                x = made(x)
        if self.final_norm:
            x = nn.relu(layers.norm(name="bn")(x))
        return global_average(x)


class PreActBlock(nn.Module):
    """Batch norm, ReLU and a 3x3 convolution, twice, and a shortcut past them."""

    layers: Layers
    width: int
    stride: int
    shortcut: ShortcutInput = "activated"
    dropout: float = 0.0
    """Probability that a value between the convolutions becomes zero."""
    number: int = 0
    """Of the block, by which its dropout draws."""

    @nn.compact
    def __call__(self, x: Array, keys: Key | None = None) -> Array:
        """Returns the maps that follow from `x` (B, H, W, C)."""
        layers, past = self.layers, x
        y = nn.relu(layers.norm(name="bn1")(x))
        if self.stride != 1 or x.shape[-1] != self.width:
            past = y if self.shortcut == "activated" else x
            past = layers.conv(self.width, 1, stride=self.stride, name="shortcut")(past)
        y = layers.conv(self.width, stride=self.stride, name="conv1")(y)
        y = nn.relu(layers.norm(name="bn2")(y))
        if self.dropout > 0:
            y = Dropout(self.dropout, layer=self.number)(y, keys)
        return past + layers.conv(self.width, name="conv2")(y)
