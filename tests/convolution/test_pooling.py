"""Pooling in a rewritten function: the same numbers, and no scatter."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from rbjax.convolution import loop_safe


def pool(x, window=(2, 2), strides=None, padding: Any = "VALID", *, kind="max"):
    strides = window if strides is None else strides
    start, join = {"max": (-jnp.inf, lax.max), "sum": (0.0, lax.add)}[kind]
    if not isinstance(padding, str):
        padding = ((0, 0), *padding, (0, 0))
    return lax.reduce_window(x, start, join, (1, *window, 1), (1, *strides, 1), padding)


# (size, window, strides, padding)
GEOMETRIES = [
    ((6, 8), (2, 2), (2, 2), "VALID"),
    ((7, 5), (2, 2), (2, 2), "VALID"),
    ((7, 8), (3, 2), (3, 2), "VALID"),
    ((8, 7), (3, 3), (2, 2), ((1, 1), (1, 1))),
    ((7, 7), (3, 3), (1, 1), "SAME"),
    ((6, 7), (5, 5), (2, 2), ((2, 2), (2, 2))),
    ((8, 6), (3, 3), (2, 2), ((0, 1), (0, 0))),  # a last window hangs over the edge
    ((7, 9), (2, 3), (3, 4), ((1, 2), (0, 3))),
    ((5, 6), (1, 4), (2, 1), ((0, 0), (3, 0))),
]


def tied(shape, dtype="float32"):
    """Returns images of a few values, so that most windows have several largest ones."""
    drawn = np.random.default_rng(0).integers(0, 3, shape)
    return jnp.asarray(drawn, dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["max", "sum"])
def test_values_and_gradients_are_those_of_xla(kind, dtype):
    """Also where values tie, and where rows are left over: the first of the largest has it all."""

    def of_all(transform):
        def run(images):
            results = []
            for x, (_, *geometry) in zip(images, GEOMETRIES, strict=True):
                fn = functools.partial(pool, kind=kind)
                y, pull = jax.vjp(lambda x, g=geometry, fn=fn: transform(fn)(x, *g), x)
                results.append((y, *pull(jnp.arange(y.size, dtype=dtype).reshape(y.shape) % 5)))
            return results

        return run

    images = [tied((2, *size, 3), dtype) for size, *_ in GEOMETRIES]
    fast, plain = jax.jit(of_all(loop_safe)), jax.jit(of_all(lambda fn: fn))
    assert str(jax.make_jaxpr(fast)(images)).count(f"loop_safe_{kind}_pool") == len(GEOMETRIES)
    jax.tree.map(np.testing.assert_array_equal, fast(images), plain(images))


def test_there_is_no_scatter():
    x = tied((2, 8, 8, 4))

    def lowered(transform):
        def loss(x):
            return pool(x).sum() + pool(x, (3, 3), (2, 2), "SAME").sum()

        return jax.jit(jax.grad(transform(loss))).lower(x).as_text()

    assert "select_and_scatter" not in lowered(loop_safe)
    assert "select_and_scatter" in lowered(lambda fn: fn)


@pytest.mark.parametrize("kind", ["max", "sum"])
def test_forward_mode_second_order_and_vmap(kind):
    x = jax.random.normal(jax.random.key(0), (3, 6, 6, 2))

    def cubes(x):
        overlapping = pool(x, (3, 3), (2, 2), "SAME", kind=kind)
        return jnp.sum(overlapping**3) + jnp.sum(pool(x, kind=kind) ** 3)

    def transformed(f):
        def jacobian(x):  # maps the cotangents alone
            return jax.jacrev(lambda x: jax.grad(f)(x)[0, 2:4, 2])(x)

        return [
            jax.jvp(f, (x,), (jnp.cos(x),)),
            jax.jvp(jax.grad(f), (x,), (jnp.cos(x),)),
            jax.vmap(jax.grad(f), in_axes=-1)(jnp.stack([x, -x], axis=-1)),
            jacobian(x),
        ]

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
        jax.jit(lambda: transformed(loop_safe(cubes)))(),
        jax.jit(lambda: transformed(cubes))(),
    )


def test_other_windows_are_left_as_they_are():
    """Windows of one value, over channels, dilated, and those that lie in the padding alone."""
    x = tied((2, 7, 7, 3))
    options = [
        {"window_dimensions": (1, 1, 1, 1), "window_strides": (1, 2, 2, 1)},
        {"window_dimensions": (1, 2, 2, 2), "window_strides": (1, 1, 1, 1)},
        {"window_dimensions": (1, 2, 2, 1), "window_dilation": (1, 2, 2, 1)},
        {"window_dimensions": (1, 2, 2, 1), "padding": ((0, 0), (2, 0), (0, 0), (0, 0))},
    ]
    for given in options:
        given = {"window_strides": (1, 1, 1, 1), "padding": "VALID", **given}

        def run(x, given=given):
            return lax.reduce_window(x, 0.0, lax.add, **given)

        assert "loop_safe" not in str(jax.make_jaxpr(loop_safe(run))(x))
