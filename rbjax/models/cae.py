"""A compressive autoencoder (CAE) with a code of bits, and DeepAugment's distortions of it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rbjax import prng
from rbjax.models.image_to_image import (
    ImageToImage,
    Params,
    choose,
    convolve,
    initialize,
    pad_to,
)
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
        zeros = partial(nn.initializers.zeros, dtype=jnp.float32)  # `initialize` gives weights
        kernel = self.param("kernel", zeros, (2, 2, depth, self.features))
        bias = self.param("bias", zeros, (self.features,))
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

    def apply(params: Params, images: Array, *keys: Key, method: str = "__call__") -> Array:
        padded = pad_to(images, 4, _LEAST_SIZE)
        output: Any = module.apply({"params": params}, padded, *keys, method=method)
        return output[:, : images.shape[1], : images.shape[2]]

    def init(key: Key, images: Array) -> Params:
        return initialize(key, module, pad_to(images[:1], 4, _LEAST_SIZE))

    def loss(params: Params, images: Array, keys: Key) -> Array:
        return jnp.mean((apply(params, images, keys, method="sampled") - images) ** 2)

    def distort(params: Params, images: Array, keys: Key) -> Array:
        return jnp.clip(apply(params, images, keys, method="distorted"), 0, 1)

    return ImageToImage("CAE", init, apply, loss, distort_weights, distort)


# ---------------------------------------------------------------- the code


def sample_bits(key: Key, code: Array) -> Array:
    """Returns -1 or 1, of mean `code` where that is in [-1, 1]."""
    return jnp.where(prng.uniform(key, code.shape) <= (1 + code) / 2, 1.0, -1.0)


CODE_DISTORTIONS = (
    "scale",
    "zero",
    "negate",
    "permute channels",
    "flip five channels",
    "flip",
    "convolve with noise",
    "mix channels",
    "shift channels",
)
"""The published list in its order: after the bits are drawn, times 3 to 7; before, 20 % of the
places 0; 10 % negative; ten channels permuted; five channels, or all, mirrored in one axis or both;
convolved with the identity and noise in (-0.1, 0.1), with the identity and in half of the channels
one tap of another, or with a shift by up to a place."""


def distort_code(key: Key, code: Array, distortion: Array | int | None = None) -> Array:
    """Returns one image's bits, from a distorted code.

    Args:
        key: one key.
        code: (h, w, F) in [-1, 1].
        distortion: a place in `CODE_DISTORTIONS`; None: drawn.

    Returns:
        (h, w, F), -1 or 1, or what "scale" makes of them.
    """
    chosen, own, bits = prng.split(prng.named(key, "code"), 3)
    if distortion is None:
        distortion = prng.randint(chosen, (), 0, len(CODE_DISTORTIONS))
    branches = [partial(change, own, code) for change in (_keep, *_CHANGES)]
    sampled = sample_bits(bits, jax.lax.switch(distortion, branches))
    size, each = prng.split(own)
    sizes = 3 + 4 * prng.uniform(size) * prng.uniform(each, code.shape)
    scaled = (sampled + 1) * sizes - 1  # the bits are 0 and 1 where they are scaled
    return jnp.where(distortion == CODE_DISTORTIONS.index("scale"), scaled, sampled)


def _keep(key: Key, code: Array) -> Array:
    del key
    return code


def _zero(key: Key, code: Array) -> Array:
    return code * prng.bernoulli(key, 0.8, code.shape[:2])[..., None]


def _negate(key: Key, code: Array) -> Array:
    return jnp.where(prng.bernoulli(key, 0.9, code.shape[:2])[..., None], code, -code)


def _permute(key: Key, code: Array) -> Array:
    number = min(10, code.shape[-1])
    return code.at[..., :number].set(code[..., prng.permutation(key, number)])


def _flip_five(key: Key, code: Array) -> Array:
    axes, which = prng.split(key)
    # One that is drawn twice is mirrored twice.
    counts = jnp.zeros(code.shape[-1], int)
    counts = counts.at[prng.randint(which, (5,), 0, code.shape[-1])].add(1)
    return jnp.where(counts % 2 == 1, _flip(axes, code), code)


def _flip_all(key: Key, code: Array) -> Array:
    return _flip(prng.split(key)[0], code)


def _flip(key: Key, code: Array) -> Array:
    return jax.lax.switch(
        prng.randint(key, (), 0, 3),
        [lambda: code[::-1], lambda: code[:, ::-1], lambda: code[::-1, ::-1]],
    )


def _convolve(code: Array, taps: Array) -> Array:
    return convolve(code[None], taps)[0]


def _identity(code: Array) -> Array:
    number = code.shape[-1]
    return (
        jnp.zeros((3, 3, number, number), code.dtype)
        .at[1, 1]
        .set(jnp.eye(number, dtype=code.dtype))
    )


def _add_taps(key: Key, code: Array) -> Array:
    noise = 0.2 * (prng.uniform(key, (3, 3, *code.shape[-1:] * 2)) - 0.5)
    return _convolve(code, _identity(code) + noise)


def _mix(key: Key, code: Array) -> Array:
    whether, other, shift = prng.split(key, 3)
    number, channels = code.shape[-1], jnp.arange(code.shape[-1])
    rows, columns = prng.randint(shift, (2, number), 0, 3)
    source = prng.randint(other, (number,), 0, number)
    is_mixed = prng.bernoulli(whether, shape=(number,)).astype(code.dtype)
    taps = _identity(code)
    return _convolve(code, taps.at[rows, columns, source, channels].max(is_mixed))


def _shift(key: Key, code: Array) -> Array:
    redraw, shift = prng.split(key)
    number, channels = code.shape[-1], jnp.arange(code.shape[-1])
    rows, columns = prng.randint(shift, (2, number), 0, 3)
    # A channel shares the shift of the one before it, and one in five draws its own.
    starts = prng.bernoulli(redraw, 0.2, (number,)).at[0].set(True)
    latest = jax.lax.cummax(jnp.where(starts, channels, 0))
    taps = jnp.zeros((3, 3, number, number), code.dtype)
    return _convolve(code, taps.at[rows[latest], columns[latest], channels, channels].set(1))


_CHANGES = (
    _zero,
    _negate,
    _permute,
    _flip_five,
    _flip_all,
    _add_taps,
    _mix,
    _shift,
)


# ---------------------------------------------------------------- weights


def distort_weights(key: Key, params: Params) -> Params:
    """Returns weights with a random entry of `WEIGHT_DISTORTIONS` applied.

    Args:
        key: one key.
        params: of `CAE`.
    """
    chosen, own = prng.split(key)
    entries = list(WEIGHT_DISTORTIONS.values())
    return entries[int(choose(chosen, range(len(entries))))](own, params)


_Change = Callable[[Key, Array, Array], tuple[Array, Array]]
"""(key, kernel (h, w, I, O), bias (O,)) -> the same, distorted.  A transposed convolution's kernel
is (h, w, O, I): published filters are its first axis in PyTorch, which is its input's."""


def _in_one_of(layers: Sequence[int], change: _Change, key: Key, params: Params) -> Params:
    """Returns weights of which one layer is changed."""
    place, own = prng.split(key)
    number = int(choose(place, layers))
    kernel, bias = params[f"layer_{number}"]["kernel"], params[f"layer_{number}"]["bias"]
    if number == _TRANSPOSED:
        kernel, bias = change(own, jnp.swapaxes(kernel, 2, 3), bias)
        kernel = jnp.swapaxes(kernel, 2, 3)
    else:
        kernel, bias = change(own, kernel, bias)
    return {**params, f"layer_{number}": {"kernel": kernel, "bias": bias}}


def _reverse(key: Key, kernel: Array, bias: Array) -> tuple[Array, Array]:
    del key
    return kernel[..., ::-1], bias[::-1]


def _for_filters(count: int, change: Callable[[Array], Array]) -> _Change:
    """Returns a change of filters that are drawn with replacement, and of their biases."""

    def changed(key: Key, kernel: Array, bias: Array) -> tuple[Array, Array]:
        filters = kernel.shape[-1]
        times = np.bincount(prng.randint(key, (count,), 0, filters), minlength=filters)
        for time in range(times.max()):  # one that is drawn twice is changed twice
            kernel = jnp.where(times > time, change(kernel), kernel)
            own = bias[:filters]  # of the same number
            bias = bias.at[:filters].set(jnp.where(times > time, change(own), own))
        return kernel, bias

    return changed


def _scale(key: Key, kernel: Array, bias: Array) -> tuple[Array, Array]:
    size, each = prng.split(key)
    return kernel * (1 + 8 * prng.uniform(size) * prng.uniform(each, kernel.shape)), bias


def _mask(key: Key, kernel: Array, bias: Array) -> tuple[Array, Array]:
    which, each = prng.split(key)
    mask = prng.bernoulli(each, shape=kernel.shape).astype(kernel.dtype)
    return kernel * jnp.where(prng.bernoulli(which), mask, 2 * mask - 1), bias


def _rotate(key: Key, kernel: Array, bias: Array) -> tuple[Array, Array]:
    return jnp.rot90(kernel, int(choose(key, (1, 2, 3)))), bias


def _negate_fifth(key: Key, kernel: Array, bias: Array) -> tuple[Array, Array]:
    filters = kernel.shape[-1]
    drawn = prng.randint(key, (max(filters // 5, 1),), 0, filters)
    return kernel * jnp.ones(filters, kernel.dtype).at[drawn].set(-1), bias


def _scale_two(key: Key, params: Params) -> Params:
    for own in prng.split(key):
        params = _in_one_of(_LAYERS, _scale, own, params)
    return params


_TRANSPOSED = 10
_LAYERS = range(8, 14)

WEIGHT_DISTORTIONS: dict[str, Callable[[Key, Params], Params]] = {
    "reverse channels": partial(_in_one_of, range(11, 16), _reverse),
    "negate filters": partial(_in_one_of, _LAYERS, _for_filters(12, jnp.negative)),
    "zero filters": partial(_in_one_of, _LAYERS, _for_filters(25, jnp.zeros_like)),
    "negative gelu": partial(
        _in_one_of, range(10, 14), _for_filters(25, lambda x: -nn.gelu(x, approximate=False))
    ),
    "scale": _scale_two,
    "random mask": partial(_in_one_of, _LAYERS, _mask),
    "rotate": partial(_in_one_of, _LAYERS, _rotate),
    "negate a fifth": partial(_in_one_of, _LAYERS, _negate_fifth),
}
"""The published list in its order, of (key, weights).  Its ninth entry cannot be drawn there, and
the second layer whose channels it means to reverse is reversed twice."""
