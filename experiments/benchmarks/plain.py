"""The benchmarks' two networks as a user might write them, on `lax.conv_general_dilated` alone."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from rbjax import prng
from rbjax.typing import Array, Key

Weights = dict[str, Array]

_STAGES = ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1))
"""Width and first stride of ResNet-18's blocks."""


def init_cnn(key: Key, *, width: int = 32) -> Weights:
    """Returns weights of two 3x3 convolutions and a dense layer, for 28x28x1 images."""
    shapes = {"conv1": (3, 3, 1, width), "conv2": (3, 3, width, width)}
    return _draw(key, {**shapes, "dense": (12 * 12 * width, 10)})


def cnn(weights: Weights, images: Array) -> Array:
    """Returns logits (B, 10) of images (B, 28, 28, 1)."""
    x = jax.nn.relu(_conv(images, weights["conv1"], padding="VALID"))
    x = jax.nn.relu(_conv(x, weights["conv2"], padding="VALID"))
    x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return x.reshape(x.shape[0], -1) @ weights["dense"]


def init_resnet18(key: Key) -> Weights:
    """Returns weights of a ResNet-18 with scales and offsets for batch norm, for 32x32x3 images."""
    shapes = {"stem": (3, 3, 3, 64), "dense": (512, 10)}
    channels = 64
    for block, (width, stride) in enumerate(_STAGES):
        shapes |= {f"{block}a": (3, 3, channels, width), f"{block}b": (3, 3, width, width)}
        if stride != 1:
            shapes[f"{block}c"] = (1, 1, channels, width)
        channels = width
    weights = _draw(key, shapes)
    for name, shape in shapes.items():
        if name != "dense":
            weights[f"{name}_scale"], weights[f"{name}_offset"] = (
                jnp.ones(shape[3]),
                jnp.zeros(shape[3]),
            )
    return weights


def resnet18(weights: Weights, images: Array) -> Array:
    """Returns logits (B, 10) of images (B, 32, 32, 3), normalisation folded into the weights."""

    def conv(x: Array, name: str, stride: int = 1) -> Array:
        edge = weights[name].shape[0] // 2
        y = _conv(x, weights[name], stride, [(edge, edge), (edge, edge)])
        return y * weights[f"{name}_scale"] + weights[f"{name}_offset"]

    x = jax.nn.relu(conv(images, "stem"))
    for block, (_, stride) in enumerate(_STAGES):
        y = jax.nn.relu(conv(x, f"{block}a", stride))
        shortcut = x if stride == 1 else conv(x, f"{block}c", stride)
        x = jax.nn.relu(conv(y, f"{block}b") + shortcut)
    return x.mean((1, 2)) @ weights["dense"]


def _conv(x: Array, w: Array, stride: int = 1, padding: str | list = "SAME") -> Array:
    return lax.conv_general_dilated(
        x, w, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _draw(key: Key, shapes: dict[str, tuple[int, ...]]) -> Weights:
    """Returns normal weights with variance 2 / fan-in."""
    keys = prng.split(key, len(shapes))
    return {
        name: prng.normal(k, shape) * (2.0 / jnp.prod(jnp.array(shape[:-1]))) ** 0.5
        for k, (name, shape) in zip(keys, shapes.items(), strict=True)
    }
