"""Keys that are derived, never carried, and the numbers that are drawn from them.

A random number belongs to an example and a draw, `fold_in(fold_in(base, example_id), draw)`, so
that a result does not depend on the batch size, the number of devices or the order of a dataset.

Every key is one of threefry: what other generators draw under `vmap` depends on the place in the
batch. `check` turns a person's key into one, and every function here goes through it. Numbers are
float32 and int32 whatever `jax_enable_x64` says, so that they are the same ones.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rbjax.errors import spelled
from rbjax.typing import Array, Key

Shape = Sequence[int]

_KEY = "jax.random.key(0)"
_GENERATOR = "threefry2x32"
_CONVERTED = ("rbg", "unsafe_rbg")
"""Generators whose keys are two of threefry's."""


def key(seed: int) -> Key:
    """Returns the key of a seed, `jax.random.key(seed, impl="threefry2x32")`."""
    return jax.random.key(seed, impl=_GENERATOR)


def check(key: Key, num_examples: int | None = None) -> Key:
    """Returns one typed key, or one for each example where that is allowed, as threefry's.

    A key that "rbg" or "unsafe_rbg" makes of a seed becomes the key of that seed, so that
    `JAX_DEFAULT_PRNG_IMPL` moves no number; so do those that "rbg" splits off or folds into. Their
    halves are equal; of others, which "unsafe_rbg" has, the second is folded into the first.

    Args:
        key: one key, or (num_examples,) keys.
        num_examples: B; None: only one key is allowed.

    Raises:
        ValueError: for a raw uint32 array, a batch of keys of another length, or another generator.
    """
    key = _as_threefry(key)
    if key.ndim and num_examples is None:
        raise ValueError(f"key has shape {key.shape}; it must be one key")
    if key.ndim and key.shape != (num_examples,):
        raise ValueError(
            f"key has shape {key.shape}; allowed: () or ({num_examples},), one per example"
        )
    return key


def from_data(data: Array) -> Key:
    """Returns the keys whose `jax.random.key_data` is data, (..., 2) uint32: of a stored state.

    Example:
        >>> key = rbjax.prng.key(3)
        >>> rbjax.prng.from_data(jax.random.key_data(key)) == key
        Array(True, dtype=bool)
    """
    return jax.random.wrap_key_data(data, impl=_GENERATOR)


def with_data(key: Key, data: Array) -> Key:
    """Returns keys of a key's own generator whose `jax.random.key_data` is data.

    Example:
        >>> key = rbjax.prng.key(3)
        >>> rbjax.prng.with_data(rbjax.prng.key(0), jax.random.key_data(key)) == key
        Array(True, dtype=bool)
    """
    return jax.random.wrap_key_data(data, impl=str(jax.random.key_impl(key)))


def _as_threefry(key: Key) -> Key:
    """Returns keys of any shape as keys of threefry."""
    dtype = getattr(key, "dtype", None)
    if dtype == _dtype():
        return key
    if dtype is None:
        raise ValueError(f"key is {spelled(key)}; it must be a typed key, such as {_KEY}")
    if not jnp.issubdtype(dtype, jax.dtypes.prng_key):
        raise ValueError(
            f"key has dtype {dtype}; it must be a typed key: {_KEY}, "
            "or jax.random.wrap_key_data(key) for an old-style one"
        )
    name = str(jax.random.key_impl(key))
    if name not in _CONVERTED:
        raise ValueError(
            f"key is of the generator {name}; allowed: {_GENERATOR}, {', '.join(_CONVERTED)}"
        )

    def convert(words: Array) -> Key:
        own = jax.random.wrap_key_data(words[:2], impl=_GENERATOR)
        folded = jax.random.fold_in(jax.random.fold_in(own, words[2]), words[3])
        return jnp.where(jnp.all(words[:2] == words[2:]), own, folded)

    convert = functools.reduce(lambda f, _: jax.vmap(f), range(key.ndim), convert)
    return convert(jax.random.key_data(key))


@functools.cache
def _dtype() -> Any:
    return jax.eval_shape(lambda: key(0)).dtype


def fold_in(key: Key, number: Array | int) -> Key:
    """Returns `jax.random.fold_in(key, number)`.

    Example:
        >>> draws = [rbjax.prng.fold_in(rbjax.prng.key(0), draw) for draw in (1, 1, 2)]
        >>> draws[0] == draws[1], draws[0] == draws[2]
        (Array(True, dtype=bool), Array(False, dtype=bool))
    """
    return jax.random.fold_in(_as_threefry(key), number)


def split(key: Key, num: int = 2) -> Key:
    """Returns `jax.random.split(key, num)`."""
    return jax.random.split(_as_threefry(key), num)


def named(key: Key, name: str) -> Key:
    """Returns the stream of `key` that belongs to a name.

    Args:
        key: one key.
        name: what the stream is for, for example "augment".

    Returns:
        `fold_in(key, crc32(name))`.
    """
    return fold_in(key, zlib.crc32(name.encode()))


def per_example(key: Key, example_ids: Array) -> Key:
    """Returns one key per example.

    Args:
        key: one key.
        example_ids: (B,) integers.

    Returns:
        (B,) keys, `fold_in(key, example_ids[i])`.

    Example:
        >>> keys = rbjax.prng.per_example(rbjax.prng.key(0), jnp.array([5, 9, 5]))
        >>> keys.shape, bool(keys[0] == keys[2])
        ((3,), True)
    """
    return jax.vmap(fold_in, in_axes=(None, 0))(key, jnp.asarray(example_ids))


def per_draw(keys: Key, draw: Array | int) -> Key:
    """Returns the keys of each example's draw.

    Args:
        keys: (B,) keys, one per example.
        draw: the draw's number, or (B,) of them.

    Returns:
        (B,) keys, `fold_in(keys[i], draw[i])`.

    Example:
        >>> keys = rbjax.prng.per_draw(rbjax.prng.split(rbjax.prng.key(0), 2), 1)
        >>> keys.shape
        (2,)
    """
    draw = jnp.broadcast_to(jnp.asarray(draw), keys.shape)
    return jax.vmap(fold_in)(keys, draw)


def broadcast(key: Key, num_examples: int) -> Key:
    """Returns one key per example from one key, or keys as they are.

    Args:
        key: one key, or (num_examples,) keys.
        num_examples: B.

    Returns:
        (B,) keys; one key is folded with the row numbers 0 to B - 1.

    Raises:
        ValueError: as `check`.
    """
    key = check(key, num_examples)
    return key if key.ndim else per_example(key, jnp.arange(num_examples))


def uniform(
    key: Key,
    shape: Shape = (),
    dtype: Any = jnp.float32,
    minval: Array | float = 0.0,
    maxval: Array | float = 1.0,
) -> Array:
    """Returns numbers uniform in [minval, maxval).

    Example:
        >>> draws = rbjax.prng.uniform(rbjax.prng.key(0), (100,))
        >>> bool(draws.min() >= 0), bool(draws.max() < 1), draws.shape
        (True, True, (100,))
    """
    return jax.random.uniform(check(key), shape, dtype, minval, maxval)


def normal(key: Key, shape: Shape = (), dtype: Any = jnp.float32) -> Array:
    """Returns standard normal numbers."""
    return jax.random.normal(check(key), shape, dtype)


def truncated_normal(
    key: Key, shape: Shape = (), *, deviations: float = 2.0, dtype: Any = jnp.float32
) -> Array:
    """Returns standard normal numbers, drawn again where they exceed so many deviations."""
    return jax.random.truncated_normal(check(key), -deviations, deviations, shape, dtype)


def exponential(key: Key, shape: Shape = ()) -> Array:
    """Returns exponential numbers of mean 1."""
    return jax.random.exponential(check(key), shape, jnp.float32)


def beta(key: Key, a: float, b: float) -> Array:
    """Returns a number of the beta distribution."""
    return jax.random.beta(check(key), a, b, dtype=jnp.float32)


def log_gamma(key: Key, a: float, shape: Shape = ()) -> Array:
    """Returns logarithms of numbers of the gamma distribution."""
    return jax.random.loggamma(check(key), a, shape, jnp.float32)


def bits(key: Key, shape: Shape = ()) -> Array:
    """Returns random words, uint32."""
    return jax.random.bits(check(key), shape, jnp.uint32)


def randint(key: Key, shape: Shape, minval: Array | int, maxval: Array | int) -> Array:
    """Returns whole numbers uniform in [minval, maxval), int32.

    Example:
        >>> draws = rbjax.prng.randint(rbjax.prng.key(0), (100,), 0, 3)
        >>> int(draws.min()), int(draws.max())
        (0, 2)
    """
    return jax.random.randint(check(key), shape, minval, maxval, jnp.int32)


def bernoulli(key: Key, p: float = 0.5, shape: Shape = ()) -> Array:
    """Returns booleans, true with probability p."""
    return jax.random.bernoulli(check(key), np.float32(p), shape)


def rademacher(key: Key, shape: Shape = ()) -> Array:
    """Returns signs, -1 or 1 in float32."""
    return 2 * bernoulli(key, shape=shape).astype(jnp.float32) - 1


def permutation(key: Key, length: int) -> Array:
    """Returns the numbers 0 to length - 1 in a random order."""
    return jax.random.permutation(check(key), length)
