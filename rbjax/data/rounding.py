"""Arithmetic rounded as in C, whatever the compiler fuses.

XLA may fuse a product with the sum after it and turns a division by a constant into a product;
each changes the last bit, which shows when a result is truncated to a whole level.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from rbjax.typing import Array

_LOW = 1e15 % 2**32
_HIGH = 1e15 - _LOW


def times(number: Array, small: Array | float) -> Array:
    """Returns number * small, rounded once, also where a sum follows.

    Args:
        number: float32 or float64.
        small: a whole number or half of one, of at most 11 bits for float32, 24 for float64, so
            that its product with either half of `number` is exact.

    Returns:
        Of the dtype of `number`.
    """
    upper, lower = _halves(number)
    small = jnp.asarray(small, number.dtype)
    return upper * small + lower * small


def to_15_decimals(number: Array) -> Array:
    """Returns the double nearest to a number's first 15 decimals.

    Args:
        number: float64 in [-1, 1].

    Returns:
        float64, as Python's `round(number, 15)`.
    """
    whole = jnp.round(number * 1e15)
    whole += jnp.round(_excess(number, whole))
    near = whole * 1e-15
    return near - _excess(near, whole) * 1e-15


def _excess(number: Array, whole: Array) -> Array:
    """`number * 1e15 - whole`, every product exact."""
    upper, lower = _halves(number)
    return (upper * _HIGH - whole) + upper * _LOW + lower * _HIGH + lower * _LOW


def _halves(number: Array) -> tuple[Array, Array]:
    """The upper half of a number's bits and the rest; their sum is exact."""
    double = number.dtype == jnp.float64
    mask = np.uint64(2**64 - 2**27) if double else np.uint32(2**32 - 2**12)
    bits = jax.lax.bitcast_convert_type(number, mask.dtype) & mask
    upper = jax.lax.bitcast_convert_type(bits, number.dtype)
    return upper, number - upper
