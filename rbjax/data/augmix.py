"""AugMix: an image mixed with chains of random operations on its 8 bits, a whole batch at once."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rbjax import prng
from rbjax.data.operations import OPERATIONS, apply
from rbjax.data.words import Words, pack
from rbjax.typing import Array, Key

_MOST_DEPTH = 3
"""The longest chain where its length is drawn."""
_BLOCK = 32
"""Chains that one operation changes at a time on CPU: few, so that little is done in vain."""


def augmix(
    keys: Key,
    images: Array,
    *,
    severity: float = 3.0,
    width: int = 3,
    depth: int | None = None,
    alpha: float = 1.0,
    all_ops: bool = False,
) -> Array:
    """Returns an AugMix view of each image.

    `x + m sum_k w_k (chain_k(x) - x)`, w of Dirichlet(alpha, ..., alpha) and m of Beta(alpha,
    alpha).  A chain is operations drawn with replacement, each at a level uniform in [0.1,
    severity] and in one of two directions; they act on the image's 8 bits, exactly as Pillow's do.
    It serves any size and number of channels, and is meant for images after flips and crops.

    Args:
        keys: (B,) keys, one per example.
        images: (B, H, W, C) float in [0, 1]; chains are of the nearest 8 bits.
        severity: the largest level, in [0.1, 10]; the authors take 3 for CIFAR's images and 1 for
            ImageNet's.
        width: chains an image, at least 1.
        depth: operations a chain, at least 1; None: 1, 2 or 3, each as likely.
        alpha: of the two distributions, above 0.
        all_ops: whether color, contrast, brightness and sharpness are drawn too, which ImageNet-C
            measures; for images of 1 or 3 channels.

    Returns:
        (B, H, W, C) float32 in [0, 1].

    Raises:
        ValueError: for all operations of another number of channels.

    Source:
        Hendrycks et al. 2020, arXiv:1912.02781, algorithm 1; levels as in the authors' code.
    """
    channels = images.shape[-1]
    check_channels(channels, all_ops=all_ops)
    names = tuple(name for name, own in OPERATIONS.items() if all_ops or not own.corrupts)
    weights, calls = jax.vmap(
        lambda key: draw(
            key,
            num_operations=len(names),
            severity=severity,
            width=width,
            depth=depth,
            alpha=alpha,
        )
    )(keys)
    words = jax.vmap(pack)(images)
    num_chains = width * len(images)
    chains = jax.tree.map(lambda x: jnp.repeat(x, width, axis=0), words)
    calls = jax.tree.map(lambda x: x.reshape(num_chains, -1).T, calls)
    # A loop's next turn waits for the host where there is an accelerator: all chains in one.
    size = _BLOCK if jax.default_backend() == "cpu" else num_chains
    chains = _run(names, chains, calls, size)

    def mixed(channel: int) -> Array:
        levels = chains.levels(channel).reshape(len(images), width, *images.shape[1:3])
        moved = (levels - words.levels(channel)[:, None]).astype(jnp.float32)
        change = sum(weights[:, k, None, None] / 255 * moved[:, k] for k in range(width))
        return images[..., channel].astype(jnp.float32) + change

    return jnp.clip(jnp.stack([mixed(i) for i in range(channels)], axis=-1), 0.0, 1.0)


def check_channels(channels: int, *, all_ops: bool) -> None:
    """Refuses operations on colors of images that have none.

    Args:
        channels: of an image.
        all_ops: as `augmix`.

    Raises:
        ValueError: for all operations of other than 1 or 3 channels.
    """
    if all_ops and channels not in (1, 3):
        raise ValueError(
            f"all_ops is True and an image has {channels} channels; color and contrast are known "
            "of 1 or 3: leave it at False"
        )


class Calls(NamedTuple):
    """Which operation at which level and in which direction; an axis of chains, one of calls."""

    operation: Array
    """int32, its number; the number of operations: none."""
    level: Array
    sign: Array


def draw(
    key: Key, *, num_operations: int, severity: float, width: int, depth: int | None, alpha: float
) -> tuple[Array, Calls]:
    """Returns what an AugMix view of one image is made of.

    Args:
        key: one key.
        num_operations: of which are drawn.
        severity: as `augmix`, and the others.
        width: chains.
        depth: operations a chain; None: drawn.
        alpha: of the distributions.

    Returns:
        The weight of each chain, m w_k (width,), and its calls (width, depth or 3).
    """
    own, most = prng.named(key, "weights"), _MOST_DEPTH if depth is None else depth
    if alpha == 1:  # gamma variables that need no rejection
        sizes = jnp.log(prng.exponential(own, (width + 2,)))
    else:
        sizes = prng.log_gamma(own, alpha, (width + 2,))
    weights = jax.nn.sigmoid(sizes[0] - sizes[1]) * jax.nn.softmax(sizes[2:])
    number = prng.uniform(prng.named(key, "chains"), (width, 3 * most + 1))
    operation, level, sign = jnp.split(number[:, 1:], 3, axis=1)
    operation = jnp.floor(num_operations * operation).astype(jnp.int32)
    if depth is None:
        length = 1 + jnp.floor(most * number[:, :1]).astype(jnp.int32)
        operation = jnp.where(jnp.arange(most) < length, operation, num_operations)
    level = 0.1 + (severity - 0.1) * level
    return weights, Calls(operation, level, 2 * jnp.round(sign) - 1)


def _run(names: tuple[str, ...], chains: Words, calls: Calls, size: int) -> Words:
    """Applies each chain's calls, the n-th of all chains at a time.

    Under `vmap` a `switch` would run every operation on every chain.  Here the chains are sorted
    by their operation and changed in blocks, each of which takes one operation.

    Args:
        names: of the operations.
        chains: N images.
        calls: (calls, N).
        size: chains a block.
    """
    num_chains = calls.operation.shape[1]
    size = min(size, num_chains)
    changes = [jax.vmap(partial(apply, name)) for name in names]

    def step(carry: tuple[Words, Array], calls: Calls) -> tuple[tuple[Words, Array], None]:
        chains, places = carry
        order = jnp.argsort(calls.operation[places])
        chains, places = jax.tree.map(lambda x: x[order], (chains, places))
        operation, level, sign = (values[places] for values in calls)
        ends = jnp.searchsorted(operation, jnp.arange(len(names)), side="right")
        starts = jnp.concatenate([jnp.zeros_like(ends[:1]), ends[:-1]])
        last_blocks = jnp.cumsum((ends - starts + size - 1) // size)

        def block(number: Array, chains: Words) -> Words:
            kind = jnp.searchsorted(last_blocks, number, side="right")
            of_kind = number - jnp.where(kind > 0, last_blocks[kind - 1], 0)
            first = starts[kind] + size * of_kind
            start = jnp.minimum(first, num_chains - size)
            old, *inputs = jax.tree.map(
                lambda x: jax.lax.dynamic_slice_in_dim(x, start, size), (chains, level, sign)
            )
            new = jax.lax.switch(kind, changes, old, *inputs)
            row = start + jnp.arange(size)
            mine = ((row >= first) & (row < ends[kind]))[:, None, None]

            def put(chains: Array, new: Array, old: Array) -> Array:
                new = jnp.where(mine, new, old)
                return jax.lax.dynamic_update_slice_in_dim(chains, new, start, axis=0)

            return jax.tree.map(put, chains, new, old)

        return (jax.lax.fori_loop(0, last_blocks[-1], block, chains), places), None

    (chains, places), _ = jax.lax.scan(step, (chains, jnp.arange(num_chains)), calls)
    return jax.tree.map(lambda x: x[jnp.argsort(places)], chains)
