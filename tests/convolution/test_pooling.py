"""Max pooling in a rewritten function: the same numbers, and no scatter."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from rbjax.convolution import loop_safe


def pool(x, window=(2, 2), strides=None, padding="VALID"):
    strides = window if strides is None else strides
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, *window, 1), (1, *strides, 1), padding)


def tied(shape, dtype="float32"):
    """Returns images of a few values, so that most windows have several largest ones."""
    drawn = np.random.default_rng(0).integers(0, 3, shape)
    return jnp.asarray(drawn, dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("size", "window"), [((6, 8), (2, 2)), ((7, 5), (2, 2)), ((7, 8), (3, 2))])
def test_values_and_gradients_are_those_of_xla(size, window, dtype):
    """Also where values tie, and where rows are left over: the first of the largest has it all."""
    x, g = tied((2, *size, 3), dtype), jnp.arange(2 * 3, dtype=dtype).reshape(2, 1, 1, 3)

    def loss(fn):
        return jax.jit(
            jax.value_and_grad(lambda x: jnp.sum(fn(x, window) * (1 + g), dtype="float32"))
        )

    (value, gradient), plain = loss(fast_pool)(x), loss(pool)(x)
    np.testing.assert_array_equal(value, plain[0])
    np.testing.assert_array_equal(gradient, plain[1])


def fast_pool(x, window):
    return loop_safe(lambda x: pool(x, window))(x)


def test_there_is_no_scatter_and_it_is_fast_to_lower():
    x = tied((2, 8, 8, 4))
    text = jax.jit(jax.grad(lambda x: fast_pool(x, (2, 2)).sum())).lower(x).as_text()
    assert "select_and_scatter" not in text
    assert "select_and_scatter" in jax.jit(jax.grad(lambda x: pool(x).sum())).lower(x).as_text()


def test_forward_mode_second_order_and_vmap():
    x = jax.random.normal(jax.random.key(0), (3, 6, 6, 2))

    def squares(fn):
        return lambda x: jnp.sum(fn(x) ** 3)

    plain, fast = squares(pool), squares(lambda x: fast_pool(x, (2, 2)))
    for transform in (
        lambda f: jax.jvp(f, (x,), (jnp.cos(x),)),
        lambda f: jax.jvp(jax.grad(f), (x,), (jnp.cos(x),)),
        lambda f: jax.vmap(jax.grad(f))(jnp.stack([x, -x])),
    ):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
            jax.jit(lambda t=transform: t(fast))(),
            jax.jit(lambda t=transform: t(plain))(),
        )


@pytest.mark.parametrize(
    ("window", "strides", "padding"),
    [((3, 3), (2, 2), "VALID"), ((2, 2), (2, 2), "SAME"), ((1, 1), (1, 1), "VALID")],
)
def test_other_windows_are_left_as_they_are(window, strides, padding):
    """Those that overlap, are padded or hold one value."""
    x = tied((2, 7, 7, 3))

    def loss(x):
        return jnp.sum(pool(x, window, strides, padding) ** 2)

    assert "loop_safe" not in str(jax.make_jaxpr(loop_safe(loss))(x))
    np.testing.assert_array_equal(jax.grad(loop_safe(loss))(x), jax.grad(loss)(x))
