"""VGG, for CIFAR and for ImageNet."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from rbjax.models.dropout import Dropout
from rbjax.models.head import Backbone
from rbjax.models.layers import (
    Blocks,
    Form,
    Layers,
    Width,
    adaptive_average,
    block,
    check_blocks,
    global_average,
    max_pool,
)
from rbjax.typing import Array, Key

_MOST = 8
"""Channels stop doubling at so many times the first stage's."""
_PLACES = 7
"""Height and width of what ImageNet's dense layers are given."""


class VGG(Backbone):
    """VGG network, for CIFAR or for ImageNet.

    Stages of 3x3 convolutions with a bias and ReLU, a max pool after each. In the form for CIFAR
    the head follows the global average; in that for ImageNet two dense layers of 4096 with dropout
    of 0.5 come between. With batch norm, VGG-16 and -19 have 14,728,266 and 20,040,522 parameters
    on 32x32x3 images of 10 classes, 138,365,992 and 143,678,248 on ImageNet; without it
    138,357,544 and 143,667,240 there.

    Source: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
    Recognition", 2014, arXiv:1409.1556, configurations D and E; batch norm as in torchvision.
    """

    form: Form = "cifar"
    """For which images: "cifar", about 32 pixels; "imagenet", about 224."""
    width: Width = 64
    """Channels of the first stage; they double up to the fourth, and dense layers have 64 times as
    many."""
    blocks: Blocks = (2, 2, 3, 3, 3)
    """Convolutions of each stage."""
    has_batch_norm: bool = True
    """Whether batch norm follows each convolution."""
    remat: bool = False
    """Whether the backward pass computes stages again, to save memory."""
    dtype: jnp.dtype = jnp.dtype("float32")
    axis_name: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_blocks(self.blocks)

    @property
    def min_size(self) -> int:
        """Height and width that leave one pixel after the last pool."""
        return 2 ** len(self.blocks)

    @nn.compact
    def __call__(self, x: Array, keys: Key | None = None, *, train: bool = False) -> Array:
        """Returns what the head sees (B, F) of normalised images `x` (B, H, W, C)."""
        layers = Layers(train, self.dtype, self.axis_name)
        for stage, count in enumerate(self.blocks):
            width = self.width * min(2**stage, _MOST)
            made = block(_Stage, remat=self.remat)(
                layers, width, count, self.has_batch_norm, name=f"stage{stage + 1}"
            )
            x = made(x)
        if self.form == "cifar":
            return global_average(x)
        x = adaptive_average(x, _PLACES).reshape(x.shape[0], -1)
        for number in (1, 2):
            x = nn.relu(nn.Dense(64 * self.width, dtype=self.dtype, name=f"fc{number}")(x))
            x = Dropout(0.5, layer=number)(x, keys)
        return x


class _Stage(nn.Module):
    """Convolutions of one size, and a pool that halves it."""

    layers: Layers
    width: int
    count: int
    has_batch_norm: bool

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for number in range(1, self.count + 1):
            x = self.layers.conv(self.width, use_bias=True, name=f"conv{number}")(x)
            if self.has_batch_norm:
                x = self.layers.norm(name=f"bn{number}")(x)
            x = nn.relu(x)
        return max_pool(x, 2, 2)
