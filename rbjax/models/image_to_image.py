"""A network that gives an image back, and can be distorted: what DeepAugment augments with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rbjax import prng
from rbjax.typing import Array, Key

Params = Any


class ImageToImage(NamedTuple):
    """Pure functions of one network; images are float32 (B, H, W, C) in [0, 1], of any size."""

    name: str
    init: Callable[[Key, Array], Params]
    """(key, images) -> weights; of the images only the shape matters."""
    reconstruct: Callable[[Params, Array], Array]
    """(weights, images) -> the images as the network gives them back; nothing random."""
    loss: Callable[[Params, Array, Key], Array]
    """(weights, images, keys (B,)) -> the mean loss to train it with."""
    distort_weights: Callable[[Key, Params], Params]
    """(key, weights) -> distorted weights, by a random draw of the published list; on the host,
    where each draw runs what it has drawn and nothing else."""
    distort: Callable[[Params, Array, Key], Array]
    """(weights, images, keys (B,)) -> the images through activations that are distorted, each
    image's by its own key."""


def of_module(
    name: str,
    module: nn.Module,
    entering: Callable[[Array], Array],
    *,
    error: Callable[[Array], Array],
    distort_weights: Callable[[Key, Params], Params],
) -> ImageToImage:
    """Returns the network of a module.

    Args:
        name: for messages.
        module: its call, `sampled(images, keys)` in training, and `distorted(images, keys)` each
            give images of at least the size of those that come in.
        entering: (images) -> what the module is given.
        error: (difference) -> error, whose mean is the loss.
        distort_weights: as in `ImageToImage`.
    """

    def apply(method: str, params: Params, images: Array, *keys: Key) -> Array:
        output: Any = module.apply({"params": params}, entering(images), *keys, method=method)
        return output[:, : images.shape[1], : images.shape[2]]

    def loss(params: Params, images: Array, keys: Key) -> Array:
        return jnp.mean(error(apply("sampled", params, images, keys) - images))

    return ImageToImage(
        name=name,
        init=lambda key, images: initialize(key, module, entering(images[:1])),
        reconstruct=partial(apply, "__call__"),
        loss=loss,
        distort_weights=distort_weights,
        distort=lambda params, images, keys: jnp.clip(
            apply("distorted", params, images, keys), 0, 1
        ),
    )


unset = partial(nn.initializers.zeros, dtype=jnp.float32)
"""Initial weights in a module, in place of which `initialize` gives some."""


def initialize(key: Key, module: nn.Module, images: Array) -> Params:
    """Returns a module's initial weights: kernels uniform in +-1 / sqrt(fan-in), biases 0.

    PyTorch's, with which the published networks began.  He's, 2.4 times as large, double the
    variance with each residual block: with them EDSR and the CAE gave CIFAR-10's mean image, 12 dB,
    after 400 steps; with these EDSR gives 26 dB after 150.

    They are one draw, cut up: a draw a layer takes a minute to compile on CPU.

    Args:
        key: one key.
        module: whose parameters are kernels (..., h, w, I, O), and biases of fewer axes.
        images: of which only the shape matters.

    Returns:
        The parameters.
    """
    form = jax.eval_shape(module.init, prng.check(key), images)["params"]
    leaves, structure = jax.tree.flatten(form)
    ends = np.cumsum([math.prod(leaf.shape) for leaf in leaves])
    parts = np.split(np.asarray(prng.uniform(key, (int(ends[-1]),), minval=-1.0)), ends[:-1])

    def weights(form: jax.ShapeDtypeStruct, part: np.ndarray) -> Array:
        is_kernel = len(form.shape) >= 4
        size = 1 / math.sqrt(math.prod(form.shape[-4:-1])) if is_kernel else 0.0
        return jnp.asarray(np.float32(size) * part.reshape(form.shape))

    return structure.unflatten(map(weights, leaves, parts))


def pad_to(images: Array, multiple: int, least: int = 0) -> Array:
    """Returns images continued by their last rows and columns.

    Args:
        images: (B, H, W, C).
        multiple: of which height and width become the next multiple.
        least: and at least this.

    Returns:
        (B, H', W', C); the first H rows and W columns are the image.
    """
    sizes = [max(-(-size // multiple) * multiple, least) for size in images.shape[1:3]]
    widths = [(0, new - old) for new, old in zip(sizes, images.shape[1:3], strict=True)]
    return jnp.pad(images, ((0, 0), *widths, (0, 0)), mode="edge")


def convolve(images: Array, kernels: Array) -> Array:
    """Returns the zero-padded convolution of (B, H, W, I) with (h, w, I, O)."""
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(images, kernels, (1, 1), "SAME", dimension_numbers=layout)


def choose(key: Key, numbers: Sequence[int], shape: Sequence[int] = ()) -> Array:
    """Returns numbers drawn uniformly from a list, with replacement."""
    return jnp.asarray(numbers)[prng.randint(key, shape, 0, len(numbers))]


def entry_of[T](entries: Mapping[str, T], key: Key) -> T:
    """Returns one of some entries, drawn uniformly; on the host."""
    return list(entries.values())[int(choose(key, range(len(entries))))]


def random_mask(key: Key, kernel: Array, *, is_sign: Array | bool) -> Array:
    """Returns a kernel of which half of the weights, drawn at random, are negated, or else 0."""
    mask = prng.bernoulli(key, shape=kernel.shape).astype(kernel.dtype)
    return kernel * jnp.where(is_sign, 2 * mask - 1, mask)


def negate_filters(key: Key, kernel: Array, *, count: int) -> Array:
    """Returns a kernel (..., O) of which filters are negated that are drawn with replacement."""
    filters = kernel.shape[-1]
    drawn = prng.randint(key, (count,), 0, filters)
    return kernel * jnp.ones(filters, kernel.dtype).at[drawn].set(-1)
