"""SqueezeNet, for CIFAR and for ImageNet."""

from __future__ import annotations

from typing import Annotated, Literal

import flax.linen as nn
import jax.numpy as jnp

from rbjax.models.dropout import Dropout
from rbjax.models.head import Backbone
from rbjax.models.initial import HE_NORMAL_FORWARD
from rbjax.models.layers import Form, Layers, block, global_average, max_pool, proportional
from rbjax.options import Range
from rbjax.typing import Array, Key

_FIRES = {
    "fire2": (16, 64),
    "fire3": (16, 64),
    "fire4": (32, 128),
    "fire5": (32, 128),
    "fire6": (48, 192),
    "fire7": (48, 192),
    "fire8": (64, 256),
    "fire9": (64, 256),
}
"""Channels of the squeezing convolution, and of each of the two that expand."""
_FIRST = {"cifar": (96, 3, 1), "1.0": (96, 7, 2), "1.1": (64, 3, 2)}
"""Channels, kernel and stride of the first convolution."""
_POOLED = {"cifar": ("fire4", "fire8"), "1.0": ("fire4", "fire8"), "1.1": ("fire3", "fire5")}
"""The modules that a max pool follows, besides the first convolution."""
_BYPASSED = ("fire3", "fire5", "fire7")
"""The modules around which the form for CIFAR has a shortcut."""
_LEAST = {"cifar": 8, "1.0": 21, "1.1": 17}


class SqueezeNet(Backbone):
    """SqueezeNet, for CIFAR or for ImageNet.

    A convolution, eight fire modules (1x1 that squeezes; 1x1 and 3x3 that expand), three max pools.
    In the form for CIFAR there is batch norm, and shortcuts past three modules; features are
    averaged, and the head follows: 734,986 parameters on 32x32x3 images of 10 classes. In that for
    ImageNet dropout of 0.5 follows the last module, and the head judges each place, a ReLU follows
    and the average: 1,248,424 parameters in version 1.0 and 1,235,496 in version 1.1.

    Source: Iandola et al., "SqueezeNet", 2016, arXiv:1602.07360; for CIFAR as in
    weiaicunzai/pytorch-cifar100, for ImageNet as in torchvision.
    """

    form: Form = "cifar"
    """For which images: "cifar", about 32 pixels; "imagenet", about 224."""
    version: Literal["1.0", "1.1"] = "1.0"
    """Of the form for ImageNet: 1.1 has a smaller first kernel and pools earlier."""
    width_multiplier: Annotated[float, Range(above=0.0, high=100.0)] = 1.0
    """What the channels of every layer are multiplied by."""
    remat: bool = False
    """Whether the backward pass computes modules again, to save memory."""
    dtype: jnp.dtype = jnp.dtype("float32")
    axis_name: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.form == "cifar" and self.version != "1.0":
            raise ValueError(
                f"version is {self.version!r}: belongs to form 'imagenet', and form is 'cifar'"
            )

    @property
    def min_size(self) -> int:
        """Height and width that leave one pixel after the last pool."""
        return _LEAST[self._which]

    @property
    def _which(self) -> str:
        return "cifar" if self.form == "cifar" else self.version

    @nn.compact
    def __call__(self, x: Array, keys: Key | None = None, *, train: bool = False) -> Array:
        """Returns the averaged last maps (B, F) of normalised images `x` (B, H, W, C).

        In the form for ImageNet it returns the maps place by place, (B, P, F).
        """
        is_cifar = self.form == "cifar"
        layers = Layers(train, self.dtype, self.axis_name, kernel_init=HE_NORMAL_FORWARD)
        width, size, stride = _FIRST[self._which]
        width, padding = proportional(width, self.width_multiplier), 1 if is_cifar else 0
        conv = layers.conv(width, size, stride=stride, padding=padding, use_bias=True, name="conv1")
        x = conv(x)
        x = self._pool(nn.relu(layers.norm(name="bn1")(x) if is_cifar else x))
        for name, widths in _FIRES.items():
            made = tuple(proportional(width, self.width_multiplier) for width in widths)
            y = block(_Fire, remat=self.remat)(layers, made, has_batch_norm=is_cifar, name=name)(x)
            x = y + x if is_cifar and name in _BYPASSED else y
            x = self._pool(x) if name in _POOLED[self._which] else x
        if is_cifar:
            return global_average(x)
        x = Dropout(0.5, layer=0)(x, keys)
        return x.reshape(x.shape[0], -1, x.shape[-1])

    def _pool(self, x: Array) -> Array:
        return max_pool(x, 2, 2) if self.form == "cifar" else max_pool(x, 3, 2, is_partial=True)


class _Fire(nn.Module):
    """A 1x1 convolution to few channels, and from those a 1x1 and a 3x3 beside each other."""

    layers: Layers
    widths: tuple[int, ...]
    has_batch_norm: bool

    @nn.compact
    def __call__(self, x: Array) -> Array:
        def conv(x: Array, width: int, size: int, name: str) -> Array:
            x = self.layers.conv(width, size, use_bias=True, name=name)(x)
            return nn.relu(self.layers.norm(name=f"{name}_bn")(x) if self.has_batch_norm else x)

        squeezed, expanded = self.widths
        x = conv(x, squeezed, 1, "squeeze")
        parts = conv(x, expanded, 1, "expand1x1"), conv(x, expanded, 3, "expand3x3")
        return jnp.concatenate(parts, axis=-1)
