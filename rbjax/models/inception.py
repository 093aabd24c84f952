"""Inception-v3, for CIFAR and for ImageNet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import flax.linen as nn
import jax.numpy as jnp

from rbjax.models.dropout import Dropout
from rbjax.models.head import Backbone
from rbjax.models.layers import (
    ConvNorm,
    Form,
    Layers,
    average_pool,
    block,
    global_average,
    max_pool,
    proportional,
)
from rbjax.options import Range
from rbjax.typing import Array, Key


class InceptionV3(Backbone):
    """Inception-v3, for CIFAR or for ImageNet.

    Five convolutions, modules of three kinds with a halving between them, global average, dropout
    of 0.5; each convolution has batch norm and ReLU and no bias. On ImageNet, made for 299 pixels:
    23,834,568 parameters, torchvision's 27,161,264 without its auxiliary classifier. The form for
    CIFAR leaves out the stem's stride and pools and has larger kernels after the first modules'
    pools: 22,133,738 on 32x32x3 images of 10 classes.

    Source: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2015,
    arXiv:1512.00567, as in torchvision; for CIFAR as in weiaicunzai/pytorch-cifar100.
    """

    form: Form = "cifar"
    """For which images: "cifar", about 32 pixels; "imagenet", about 299."""
    width_multiplier: Annotated[float, Range(above=0.0, high=100.0)] = 1.0
    """What the channels of every layer are multiplied by."""
    remat: bool = False
    """Whether the backward pass computes modules again, to save memory."""
    dtype: jnp.dtype = jnp.dtype("float32")
    axis_name: str | None = None

    @property
    def min_size(self) -> int:
        """Height and width that leave one pixel at the end."""
        return 9 if self.form == "cifar" else 75

    @nn.compact
    def __call__(self, x: Array, keys: Key | None = None, *, train: bool = False) -> Array:
        """Returns the averaged last maps (B, F) of normalised images `x` (B, H, W, C)."""
        is_cifar = self.form == "cifar"
        epsilon = 1e-5 if is_cifar else 1e-3
        layers = Layers(train, self.dtype, self.axis_name, epsilon=epsilon)
        x = self._stem(layers, x)
        for name, (kind, options) in _MODULES.items():
            module: Any = block(kind, remat=self.remat)
            x = module(layers, self.width_multiplier, is_cifar, **options, name=name)(x)
        return Dropout(0.5, layer=0)(global_average(x), keys)

    def _stem(self, layers: Layers, x: Array) -> Array:
        is_cifar = self.form == "cifar"

        def conv(x: Array, width: int, size: int, name: str, **options: Any) -> Array:
            width = proportional(width, self.width_multiplier)
            return ConvNorm(layers, width, size, name=name, **options)(x)

        first = {"padding": 1} if is_cifar else {"stride": 2, "padding": 0}
        x = conv(x, 32, 3, "Conv2d_1a_3x3", **first)
        x = conv(x, 32, 3, "Conv2d_2a_3x3", padding=1 if is_cifar else 0)
        x = conv(x, 64, 3, "Conv2d_2b_3x3")
        x = x if is_cifar else max_pool(x, 3, 2)
        x = conv(x, 80, 1, "Conv2d_3b_1x1")
        x = conv(x, 192, 3, "Conv2d_4a_3x3", padding=0)
        return x if is_cifar else max_pool(x, 3, 2)


class _Module(nn.Module):
    """Branches of convolutions beside each other."""

    layers: Layers
    factor: float
    """What channels are multiplied by."""
    is_cifar: bool

    def conv(self, name: str, width: int, size: int | tuple[int, int] = 1, **options: Any) -> Any:
        """Returns a convolution with batch norm and ReLU."""
        width = proportional(width, self.factor)
        return ConvNorm(self.layers, width, size, name=name, **options)


class _A(_Module):
    """1x1; 5x5; 3x3 twice; average pool."""

    pooled: int = 32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        conv = self.conv
        one = conv("branch1x1", 64)(x)
        five = _chain(x, conv("branch5x5_1", 48), conv("branch5x5_2", 64, 5))
        three = _chain(
            x,
            conv("branch3x3dbl_1", 64),
            conv("branch3x3dbl_2", 96, 3),
            conv("branch3x3dbl_3", 96, 3),
        )
        size = 3 if self.is_cifar else 1
        pool = conv("branch_pool", self.pooled, size)(average_pool(x, 3, 1, padding=1))
        return jnp.concatenate([one, five, three, pool], axis=-1)


class _B(_Module):
    """A halving: 3x3; 3x3 twice; max pool."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        conv = self.conv
        three = conv("branch3x3", 384, 3, stride=2, padding=0)(x)
        twice = _chain(
            x,
            conv("branch3x3dbl_1", 64),
            conv("branch3x3dbl_2", 96, 3),
            conv("branch3x3dbl_3", 96, 3, stride=2, padding=0),
        )
        return jnp.concatenate([three, twice, max_pool(x, 3, 2)], axis=-1)


class _C(_Module):
    """1x1; 7x7 in two parts; 7x7 in two parts twice; average pool."""

    between: int = 128

    @nn.compact
    def __call__(self, x: Array) -> Array:
        conv, width = self.conv, self.between
        flat, tall = (1, 7), (7, 1)
        first, second = (tall, flat) if self.is_cifar else (flat, tall)
        one = conv("branch1x1", 192)(x)
        seven = _chain(
            x,
            conv("branch7x7_1", width),
            conv("branch7x7_2", width, first),
            conv("branch7x7_3", 192, second),
        )
        twice = _chain(
            x,
            conv("branch7x7dbl_1", width),
            conv("branch7x7dbl_2", width, tall),
            conv("branch7x7dbl_3", width, flat),
            conv("branch7x7dbl_4", width, tall),
            conv("branch7x7dbl_5", 192, flat),
        )
        pool = conv("branch_pool", 192)(average_pool(x, 3, 1, padding=1))
        return jnp.concatenate([one, seven, twice, pool], axis=-1)


class _D(_Module):
    """A halving: 3x3; 7x7 in two parts and 3x3; a pool."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        conv = self.conv
        three = _chain(
            x, conv("branch3x3_1", 192), conv("branch3x3_2", 320, 3, stride=2, padding=0)
        )
        seven = _chain(
            x,
            conv("branch7x7x3_1", 192),
            conv("branch7x7x3_2", 192, (1, 7)),
            conv("branch7x7x3_3", 192, (7, 1)),
            conv("branch7x7x3_4", 192, 3, stride=2, padding=0),
        )
        pool = average_pool(x, 3, 2) if self.is_cifar else max_pool(x, 3, 2)
        return jnp.concatenate([three, seven, pool], axis=-1)


class _E(_Module):
    """1x1; 1x3 beside 3x1; the same after a 3x3; average pool."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        conv, flat, tall = self.conv, (1, 3), (3, 1)
        one = conv("branch1x1", 320)(x)
        three = conv("branch3x3_1", 384)(x)
        three = [conv("branch3x3_2a", 384, flat)(three), conv("branch3x3_2b", 384, tall)(three)]
        twice = _chain(x, conv("branch3x3dbl_1", 448), conv("branch3x3dbl_2", 384, 3))
        twice = [
            conv("branch3x3dbl_3a", 384, flat)(twice),
            conv("branch3x3dbl_3b", 384, tall)(twice),
        ]
        pool = conv("branch_pool", 192)(average_pool(x, 3, 1, padding=1))
        return jnp.concatenate([one, *three, *twice, pool], axis=-1)


def _chain(x: Array, *layers: Callable[[Array], Array]) -> Array:
    for layer in layers:
        x = layer(x)
    return x


_MODULES: dict[str, tuple[type[_Module], dict[str, int]]] = {
    "Mixed_5b": (_A, {"pooled": 32}),
    "Mixed_5c": (_A, {"pooled": 64}),
    "Mixed_5d": (_A, {"pooled": 64}),
    "Mixed_6a": (_B, {}),
    "Mixed_6b": (_C, {"between": 128}),
    "Mixed_6c": (_C, {"between": 160}),
    "Mixed_6d": (_C, {"between": 160}),
    "Mixed_6e": (_C, {"between": 192}),
    "Mixed_7a": (_D, {}),
    "Mixed_7b": (_E, {}),
    "Mixed_7c": (_E, {}),
}
