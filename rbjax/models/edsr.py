"""EDSR, a network for super-resolution."""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from rbjax import prng
from rbjax.models.edsr_distortions import (
    BODY_DISTORTIONS,
    distort_body,
    distort_head,
    distort_weights,
)
from rbjax.models.image_to_image import ImageToImage, convolve, of_module, pad_to, unset
from rbjax.typing import Array, Key

_LEVELS = 255.0
"""The network computes in 0..255: GELU and biases are not the same at another scale."""
_DISTORTED_AFTER = 5
"""Blocks before the body's activations are distorted."""


class EDSR(nn.Module):
    """Head, residual blocks (3x3, ReLU, 3x3) and a convolution with a skip, pixel shuffles, tail.

    1,517,571 parameters as published for scale 4: 16 blocks of 64 channels.

    Source: Lim et al. 2017, arXiv:1707.02921, the baseline; distortions of the activations as in
    hendrycks/imagenet-r, DeepAugment/EDSR_distort_imagenet.py (commit 3131cac).
    """

    channels: int
    mean: tuple[float, ...]
    """Per channel, in [0, 1] units: subtracted before, added after."""
    num_blocks: int = 16
    width: int = 64
    scale: int = 4
    """A power of 2."""

    @nn.compact
    def __call__(self, images: Array, keys: Key | None = None) -> Array:
        """Returns images (B, scale H, scale W, C) of images (B, H, W, C), both in [0, 1].

        Args:
            images: float32.
            keys: one an image, to distort its activations; None: as they are.
        """
        conv = partial(nn.Conv, kernel_size=(3, 3), param_dtype=jnp.float32)
        width, blocks = self.width, range(self.num_blocks)
        kernels = self.param("kernels", unset, (self.num_blocks, 2, 3, 3, width, width))
        biases = self.param("biases", unset, (self.num_blocks, 2, width))
        last = conv(width, name="after_blocks")

        def block(x: Array, i: int) -> Array:
            y = nn.relu(convolve(x, kernels[i, 0]) + biases[i, 0])
            return x + convolve(y, kernels[i, 1]) + biases[i, 1]

        mean = jnp.asarray(self.mean, jnp.float32)
        x = conv(width, name="head")(_LEVELS * (images - mean))
        layers = [*[partial(block, i=i) for i in blocks], last]
        if keys is None:
            y = x
            for layer in layers:
                y = layer(y)
        else:
            x = jax.vmap(distort_head)(keys, x)
            y = _distorted_body(layers, x, keys)
        x = x + y
        for doubling in range(self.scale.bit_length() - 1):
            x = _pixel_shuffle(conv(4 * width, name=f"upsample_{doubling}")(x))
        return conv(self.channels, name="tail")(x) / _LEVELS + mean

    def sampled(self, images: Array, keys: Key) -> Array:
        """Returns the same images, of which nothing is drawn."""
        del keys
        return self(images)

    def distorted(self, images: Array, keys: Key) -> Array:
        """Returns images through activations that are distorted, each image's by its own key."""
        return self(images, keys)


def _distorted_body(layers: list[Callable[[Array], Array]], x: Array, keys: Key) -> Array:
    """Returns what the body makes of `x`, with one distortion an image.

    As published, where layers are skipped each other one is given `x`, so that only the last one
    counts.
    """

    def draw(key: Key) -> tuple[Key, Array, Array]:
        chosen, skips, own = prng.split(prng.named(key, "body"), 3)
        distortion = prng.randint(chosen, (), 0, len(BODY_DISTORTIONS))
        # The first two are never skipped.
        return own, distortion, prng.randint(skips, (3,), min(2, len(layers) - 1), len(layers))

    own, distortions, skipped = jax.vmap(draw)(keys)
    skips = distortions == BODY_DISTORTIONS.index("skip")
    y = x
    for number, layer in enumerate(layers):
        if number == min(_DISTORTED_AFTER, len(layers) - 1):
            y = jax.vmap(distort_body)(own, y, distortions)
        stays = skips & jnp.any(skipped == number, axis=1)
        after = layer(jnp.where(skips[:, None, None, None], x, y))
        y = jnp.where(stays[:, None, None, None], y, after)
    return y


def _pixel_shuffle(x: Array) -> Array:
    """Returns (B, 2 H, 2 W, F) of (B, H, W, 4 F)."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height, width, 2, 2, channels // 4)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, 2 * height, 2 * width, channels // 4)


@functools.cache
def create(
    *,
    channels: int,
    mean: tuple[float, ...],
    num_blocks: int = 8,
    width: int = 64,
) -> ImageToImage:
    """Returns EDSR as a network that gives an image back: by a factor of 2, from half its size.

    The same object for the same arguments, so that what was compiled for it is found again.

    Args:
        channels: of the images.
        mean: per channel, in [0, 1] units.
        num_blocks: residual blocks, at least 2; 8, half of the published ones.
        width: channels inside.

    Returns:
        The network; its loss is the mean absolute error.

    Source:
        Hendrycks et al. 2021, arXiv:2006.16241, section 4 (DeepAugment); there the network is
        trained on other data, enlarges images of 128 pixels by 4, and is not trained again.
    """
    module = EDSR(channels, mean, num_blocks, width, scale=2)

    def halved(images: Array) -> Array:
        padded = pad_to(images, 2)
        batch, height, width, depth = padded.shape
        return jax.image.resize(padded, (batch, height // 2, width // 2, depth), "cubic")

    return of_module("EDSR", module, halved, error=jnp.abs, distort_weights=distort_weights)
