"""Densely connected networks, for CIFAR and for ImageNet."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from rbjax.models.head import Backbone
from rbjax.models.layers import (
    Blocks,
    Form,
    Layers,
    Width,
    average_pool,
    block,
    check_blocks,
    global_average,
    max_pool,
)
from rbjax.typing import Array, Key


class DenseNet(Backbone):
    """Densely connected network, for CIFAR or for ImageNet.

    A stem of `2 k` channels; blocks in which each layer (1x1 convolution of `4 k` channels, 3x3 of
    `k`) sees all before it; between blocks half the channels and half the size. The stem is a 3x3
    convolution for CIFAR; for ImageNet a 7x7 one of stride 2 and a max pool. On 32x32x3 images of
    10 classes DenseNet-121, -169 and -201 have 6,956,298, 12,493,322 and 18,104,330 parameters; on
    ImageNet 7,978,856, 14,149,480 and 20,013,928.

    Source: Huang et al., "Densely Connected Convolutional Networks", 2016, arXiv:1608.06993
    (DenseNet-BC); new channels come last, as in torchvision.
    """

    form: Form = "cifar"
    """For which images: "cifar", about 32 pixels; "imagenet", about 224."""
    growth_rate: Width = 32
    """Channels that each layer adds, k."""
    blocks: Blocks = (6, 12, 24, 16)
    """Layers of each block."""
    remat: bool = False
    """Whether the backward pass computes layers again: memory grows with the depth, not with its
    square."""
    dtype: jnp.dtype = jnp.dtype("float32")
    axis_name: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_blocks(self.blocks)

    @property
    def min_size(self) -> int:
        """Height and width that leave one pixel after the last halving."""
        halvings = 2 ** (len(self.blocks) - 1)
        return halvings if self.form == "cifar" else 4 * halvings - 3

    @nn.compact
    def __call__(self, x: Array, keys: Key | None = None, *, train: bool = False) -> Array:
        """Returns the averaged last maps (B, F) of normalised images `x` (B, H, W, C)."""
        layers = Layers(train, self.dtype, self.axis_name)
        x = self._stem(layers, x)
        for number, count in enumerate(self.blocks, start=1):
            if number > 1:
                x = nn.relu(layers.norm(name=f"transition{number - 1}_norm")(x))
                x = layers.conv(x.shape[-1] // 2, 1, name=f"transition{number - 1}_conv")(x)
                x = average_pool(x, 2, 2)
            maps = [x]
            for index in range(1, count + 1):
                made = block(_Layer, remat=self.remat)(
                    layers, self.growth_rate, name=f"block{number}_layer{index}"
                )
                maps.append(made(*maps))
            x = jnp.concatenate(maps, axis=-1)
        return global_average(nn.relu(layers.norm(name="norm5")(x)))

    def _stem(self, layers: Layers, x: Array) -> Array:
        width = 2 * self.growth_rate
        if self.form == "cifar":
            return layers.conv(width, name="conv0")(x)
        x = layers.conv(width, 7, stride=2, name="conv0")(x)
        return max_pool(nn.relu(layers.norm(name="norm0")(x)), 3, 2, padding=1)


class _Layer(nn.Module):
    """New channels from all before: batch norm, ReLU and a convolution, 1x1 and then 3x3.

    It joins what it is given itself, so that what is kept for the backward pass are the parts.
    """

    layers: Layers
    width: int

    @nn.compact
    def __call__(self, *maps: Array) -> Array:
        x = jnp.concatenate(maps, axis=-1)
        x = nn.relu(self.layers.norm(name="norm1")(x))
        x = self.layers.conv(4 * self.width, 1, name="conv1")(x)
        x = nn.relu(self.layers.norm(name="norm2")(x))
        return self.layers.conv(self.width, name="conv2")(x)
