"""A compressive autoencoder (CAE) with a code of bits."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rbjax.models.cae_distortions import distort_code, distort_weights, sample_bits
from rbjax.models.image_to_image import ImageToImage, of_module, pad_to, unset
from rbjax.typing import Array, Key

_LEAST_SIZE = 12
"""Height and width below which the decoder's unpadded convolutions leave nothing."""


class CAE(nn.Module):
    """Two strided convolutions and three residual blocks to a code of bits, and mirrored back.

    21 layers, numbered as published, and 2,241,859 parameters on three channels.  Height and width
    are multiples of 4; the code has a quarter of each.

    Source: Theis et al. 2017, arXiv:1703.00395, in the form of hendrycks/imagenet-r,
    DeepAugment/CAE_Model (commit 3131cac).
    """

    channels: int
    width: int = 64
    code: int = 32
    """Bits at each place of the code."""

    def setup(self) -> None:
        """Makes the layers."""
        width = self.width

        def conv(number: int, features: int, size: int, padding: Any, stride: int = 1) -> nn.Conv:
            return nn.Conv(
                features,
                (size, size),
                (stride, stride),
                padding,
                name=f"layer_{number}",
            )

        strided = partial(conv, size=5, padding=((1, 2), (1, 2)), stride=2)
        self.encoder = [strided(0, width), strided(1, 2 * width)]
        inside = partial(conv, features=2 * width, size=3, padding=1)
        self.encoder_blocks = [[inside(n), inside(n + 1)] for n in (2, 4, 6)]
        self.to_code = conv(8, self.code, 5, 2)
        self.up_1 = [conv(9, width, 3, 0), _Doubling(2 * width, name="layer_10")]
        self.decoder_blocks = [[inside(n), inside(n + 1)] for n in (11, 13, 15)]
        self.up_2 = [conv(17, width // 2, 3, 0), _Doubling(4 * width, name="layer_18")]
        self.to_image = [conv(19, width // 4, 3, 0), conv(20, self.channels, 3, 0)]

    def encode(self, images: Array) -> Array:
        """Returns the code (B, H / 4, W / 4, code) in [-1, 1] before it becomes bits."""
        x = images
        for layer in self.encoder:
            x = nn.leaky_relu(layer(x))
        return nn.tanh(self.to_code(_residual(self.encoder_blocks, x)))

    def decode(self, code: Array) -> Array:
        """Returns images (B, H, W, C) in [-1, 1] of a code of -1 and 1."""
        before, double = self.up_1
        x = double(_pad(nn.leaky_relu(before(code)), 1))
        x = _residual(self.decoder_blocks, x)
        before, double = self.up_2
        x = double(_pad(nn.leaky_relu(before(x)), 1))
        before, last = self.to_image
        return nn.tanh(last(_pad(nn.leaky_relu(before(x)), 2, mode="reflect")))

    def __call__(self, images: Array) -> Array:
        """Returns images from the bits that are more probable, `sign(code)`."""
        return self.decode(jnp.where(self.encode(images) < 0, -1.0, 1.0))

    def sampled(self, images: Array, keys: Key) -> Array:
        """Returns images from random bits, with straight-through gradients."""
        code = self.encode(images)
        bits = jax.vmap(sample_bits)(keys, code)
        return self.decode(code + jax.lax.stop_gradient(bits - code))

    def distorted(self, images: Array, keys: Key) -> Array:
        """Returns images through a code that is distorted, each image's by its own key."""
        return self.decode(jax.vmap(distort_code)(keys, self.encode(images)))


class _Doubling(nn.Module):
    """A transposed convolution of 2x2 and stride 2: each place becomes four."""

    features: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        batch, height, width, depth = x.shape
        kernel = self.param("kernel", unset, (2, 2, depth, self.features))
        bias = self.param("bias", unset, (self.features,))
        y = jnp.einsum("bhwi,rcio->bhrwco", x, kernel) + bias
        return y.reshape(batch, 2 * height, 2 * width, self.features)


def _residual(blocks: Sequence[Sequence[Callable[[Array], Array]]], x: Array) -> Array:
    for first, second in blocks:
        x = x + second(nn.leaky_relu(first(x)))
    return x


def _pad(x: Array, size: int, mode: str = "constant") -> Array:
    return jnp.pad(x, ((0, 0), (size, size), (size, size), (0, 0)), mode=mode)


@functools.cache
def create(*, channels: int, width: int = 64) -> ImageToImage:
    """Returns the CAE as a network that gives an image back.

    The same object for the same arguments, so that what was compiled for it is found again.

    Args:
        channels: of the images.
        width: channels of the first layer, at least 4; the others are in proportion.

    Returns:
        The network; its loss is the mean squared error, its bits are drawn in training.

    Source:
        Hendrycks et al. 2021, arXiv:2006.16241, section 4 (DeepAugment); there the network is
        trained on other data, gets images of 512 pixels, and is not trained again.
    """
    module = CAE(channels, width)

    def padded(images: Array) -> Array:
        return pad_to(images, 4, _LEAST_SIZE)

    return of_module("CAE", module, padded, error=jnp.square, distort_weights=distort_weights)
