from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from rbjax.models.dropout import Dropout
from rbjax.prng import per_example

KEYS = per_example(jax.random.key(0), jnp.arange(64))
ONES = jnp.ones((64, 10, 20))


def drop(keys: jax.Array | None, x: jax.Array = ONES, *, rate: float = 0.4, layer: int = 0):
    return np.asarray(Dropout(rate, layer).apply({}, x, keys))


def test_no_keys_no_dropout():
    np.testing.assert_array_equal(drop(None), ONES)
    np.testing.assert_array_equal(drop(KEYS, rate=0.0), ONES)


def test_share_of_zeros_and_mean():
    """12,800 values: the share's standard deviation is 0.0043, and 5 of them are allowed."""
    dropped = drop(KEYS)
    assert abs((dropped == 0).mean() - 0.4) < 0.022
    np.testing.assert_allclose(dropped[dropped != 0], 1 / 0.6, rtol=1e-6)


def test_examples_and_layers_draw_apart():
    masks = drop(KEYS) == 0
    assert len({mask.tobytes() for mask in masks}) == 64
    agreement = (masks == (drop(KEYS, layer=1) == 0)).mean()
    assert abs(agreement - (0.4**2 + 0.6**2)) < 0.022


def test_mask_follows_the_key():
    order = jnp.array([7, 3, 60])
    np.testing.assert_array_equal(drop(KEYS[order], ONES[:3]), drop(KEYS)[np.asarray(order)])


def test_dtype_is_kept():
    assert drop(KEYS, ONES.astype(jnp.bfloat16)).dtype == jnp.bfloat16
