"""GoogLeNet in its forms for CIFAR."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import flax.linen as nn
import jax.numpy as jnp

from rbjax.models.dropout import Dropout
from rbjax.models.head import Backbone
from rbjax.models.layers import (
    ConvNorm,
    Layers,
    block,
    global_average,
    max_pool,
    proportional,
)
from rbjax.options import Range
from rbjax.typing import Array, Key

_MODULES = {
    "a3": (64, 96, 128, 16, 32, 32),
    "b3": (128, 128, 192, 32, 96, 64),
    "a4": (192, 96, 208, 16, 48, 64),
    "b4": (160, 112, 224, 24, 64, 64),
    "c4": (128, 128, 256, 24, 64, 64),
    "d4": (112, 144, 288, 32, 64, 64),
    "e4": (256, 160, 320, 32, 128, 128),
    "a5": (256, 160, 320, 32, 128, 128),
    "b5": (384, 192, 384, 48, 128, 128),
}
"""Channels as the paper's table 1 lists them: 1x1; 1x1, 3x3; 1x1, 5x5; 1x1 after the pool."""
_POOLED = ("b3", "e4")
"""The modules that a pool of stride 2 follows."""


class GoogLeNet(Backbone):
    """GoogLeNet for CIFAR, with batch norm.

    A stem, nine Inception modules, max pools after the second and the seventh, global average; a
    5x5 convolution is two of 3x3. 6,166,250 parameters on 32x32x3 images of 10 classes; 6,310,314
    with three convolutions in the stem.

    Source: Szegedy et al., "Going Deeper with Convolutions", 2014, arXiv:1409.4842, in the form of
    kuangliu/pytorch-cifar, or of weiaicunzai/pytorch-cifar100.
    """

    min_size: ClassVar[int] = 1

    stem: Literal["single", "triple"] = "single"
    """"single": one convolution of 192 channels (kuangliu); "triple": of 64, 64 and 192, a max
    pool, and dropout of 0.4 at the end (weiaicunzai)."""
    width_multiplier: Annotated[float, Range(above=0.0, high=100.0)] = 1.0
    """What the channels of every layer are multiplied by."""
    remat: bool = False
    """Whether the backward pass computes modules again, to save memory."""
    dtype: jnp.dtype = jnp.dtype("float32")
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, keys: Key | None = None, *, train: bool = False) -> Array:
        """Returns the averaged last maps (B, F) of normalised images `x` (B, H, W, C)."""
        layers, is_single = Layers(train, self.dtype, self.axis_name), self.stem == "single"
        for number, width in enumerate((192,) if is_single else (64, 64, 192), start=1):
            width = proportional(width, self.width_multiplier)
            x = ConvNorm(layers, width, use_bias=is_single, name=f"conv{number}")(x)
        if not is_single:
            x = max_pool(x, 3, 2, padding=1)
        for name, widths in _MODULES.items():
            made = tuple(proportional(width, self.width_multiplier) for width in widths)
            x = block(_Inception, remat=self.remat)(layers, made, name=name)(x)
            if name in _POOLED:
                x = max_pool(x, 3, 2, padding=1)
        x = global_average(x)
        return x if is_single else Dropout(0.4, layer=0)(x, keys)


class _Inception(nn.Module):
    """Convolutions of several sizes beside each other; each has a bias."""

    layers: Layers
    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        def conv(x: Array, width: int, size: int, name: str) -> Array:
            return ConvNorm(self.layers, width, size, use_bias=True, name=name)(x)

        one, before_three, three, before_five, five, pooled = self.widths
        b1 = conv(x, one, 1, "b1_1")
        b2 = conv(conv(x, before_three, 1, "b2_1"), three, 3, "b2_2")
        b3 = conv(conv(x, before_five, 1, "b3_1"), five, 3, "b3_2")
        b3 = conv(b3, five, 3, "b3_3")
        b4 = conv(max_pool(x, 3, 1, padding=1), pooled, 1, "b4_1")
        return jnp.concatenate([b1, b2, b3, b4], axis=-1)
