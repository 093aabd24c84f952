"""Keys that are derived, never carried.

A random number belongs to an example and a draw, `fold_in(fold_in(base, example_id), draw)`, so
that a result does not depend on the batch size, the number of devices or the order of a dataset.
"""

from __future__ import annotations

import zlib

import jax
import jax.numpy as jnp

from rbjax.errors import spelled
from rbjax.typing import Array, Key

_KEY = "jax.random.key(0)"


def named(key: Key, name: str) -> Key:
    """Returns the stream of `key` that belongs to a name.

    Args:
        key: one key.
        name: what the stream is for, for example "augment".

    Returns:
        `fold_in(key, crc32(name))`.
    """
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def per_example(key: Key, example_ids: Array) -> Key:
    """Returns one key per example.

    Args:
        key: one key.
        example_ids: (B,) integers.

    Returns:
        (B,) keys, `fold_in(key, example_ids[i])`.
    """
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.asarray(example_ids))


def per_draw(keys: Key, draw: Array | int) -> Key:
    """Returns the keys of each example's draw.

    Args:
        keys: (B,) keys, one per example.
        draw: the draw's number, or (B,) of them.

    Returns:
        (B,) keys, `fold_in(keys[i], draw[i])`.
    """
    draw = jnp.broadcast_to(jnp.asarray(draw), keys.shape)
    return jax.vmap(jax.random.fold_in)(keys, draw)


def broadcast(key: Key, num_examples: int) -> Key:
    """Returns one key per example from one key, or keys as they are.

    Args:
        key: one key, or (num_examples,) keys.
        num_examples: B.

    Returns:
        (B,) keys; one key is folded with the row numbers 0 to B - 1.

    Raises:
        ValueError: if `key` is a raw uint32 array, or a batch of keys of another length.
    """
    check(key, num_examples)
    return key if key.ndim else per_example(key, jnp.arange(num_examples))


def check(key: Key, num_examples: int | None = None) -> None:
    """Refuses what is not one typed key, or one for each example where that is allowed.

    Args:
        key: one key, or (num_examples,) keys.
        num_examples: B; None: only one key is allowed.

    Raises:
        ValueError: for a seed, a raw uint32 array, or a batch of keys of another length.
    """
    if not hasattr(key, "dtype"):
        raise ValueError(f"key is {spelled(key)}; it must be a typed key, such as {_KEY}")
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        raise ValueError(
            f"key has dtype {key.dtype}; it must be a typed key: {_KEY}, "
            "or jax.random.wrap_key_data(key) for an old-style one"
        )
    if key.ndim and num_examples is None:
        raise ValueError(f"key has shape {key.shape}; it must be one key")
    if key.ndim and key.shape != (num_examples,):
        raise ValueError(
            f"key has shape {key.shape}; allowed: () or ({num_examples},), one per example"
        )
