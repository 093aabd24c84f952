"""Training a network to give images back, and how well it does."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rbjax import prng
from rbjax.inputs import to_float
from rbjax.models.image_to_image import ImageToImage, Params
from rbjax.progress import Progress, progress_bar
from rbjax.typing import Array, Key

_BLOCK = 32


def fit(
    key: Key,
    network: ImageToImage,
    images: np.ndarray,
    *,
    num_steps: int,
    batch_size: int = 16,
    learning_rate: float = 1e-3,
) -> Params:
    """Trains a network by Adam, whose rate falls to 0 along a cosine.

    Args:
        key: one key; it draws the initial weights, the order and what the loss draws.
        network: to train.
        images: (N, H, W, C) uint8.
        num_steps: updates.
        batch_size: images an update, or N if there are fewer.
        learning_rate: the first one.

    Returns:
        The weights after the last step.
    """
    optimizer, size = _adam(learning_rate, num_steps), min(batch_size, len(images))
    params = network.init(prng.named(key, "init"), to_float(images[:1]))
    opt_state = optimizer.init(params)
    order, own = _batches(prng.named(key, "order"), len(images), size), prng.named(key, "step")
    with progress_bar(network.name) as tell:
        for number in range(num_steps):
            batch, key = images[next(order)], prng.fold_in(own, number)
            params, opt_state = _step(network, optimizer, params, opt_state, key, batch)
            tell(Progress("", number + 1, num_steps))
    return params


def psnr(network: ImageToImage, params: Params, images: np.ndarray) -> float:
    """Returns the peak signal-to-noise ratio of a network's reconstructions, in dB.

    `10 log10(1 / MSE)`, the error in [0, 1] units over all images, pixels and channels.

    Args:
        network: whose reconstructions.
        params: its weights.
        images: (N, H, W, C) uint8.
    """
    found = []
    for first in range(0, len(images), _BLOCK):
        rows = np.arange(first, first + _BLOCK) % len(images)
        found.append(np.asarray(_errors(network, params, images[rows]))[: len(images) - first])
    error = float(np.mean(np.concatenate(found), dtype=np.float64))
    return -10 * math.log10(max(error, 1e-12))


@functools.cache
def _adam(learning_rate: float, num_steps: int) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(learning_rate, num_steps))


@partial(jax.jit, static_argnums=(0, 1))
def _step(
    network: ImageToImage,
    optimizer: optax.GradientTransformation,
    params: Params,
    opt_state: optax.OptState,
    key: Key,
    batch: Array,
) -> tuple[Params, optax.OptState]:
    keys = prng.per_example(key, jnp.arange(len(batch)))
    gradient = jax.grad(network.loss)(params, to_float(batch), keys)
    updates, opt_state = optimizer.update(gradient, opt_state)
    return optax.apply_updates(params, updates), opt_state


@partial(jax.jit, static_argnums=0)
def _errors(network: ImageToImage, params: Params, images: Array) -> Array:
    images = to_float(images)
    output = jnp.clip(network.reconstruct(params, images), 0, 1)
    return jnp.mean((output - images) ** 2, axis=(1, 2, 3))


def _batches(key: Key, num_images: int, size: int) -> Iterator[np.ndarray]:
    """Yields rows without end; each epoch has an order of its own, and drops what is left."""
    epoch = 0
    while True:
        order = np.asarray(prng.permutation(prng.fold_in(key, epoch), num_images))
        yield from order[: num_images // size * size].reshape(-1, size)
        epoch += 1
