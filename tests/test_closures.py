from __future__ import annotations

import jax
import jax.numpy as jnp

from rbjax.closures import Closure


def scale(x, *, factor, offset=0.0):
    return factor * x + offset


def test_equal_options_share_one_compilation():
    traced = []

    def call(fn, x):
        traced.append(1)
        return fn(x)

    run = jax.jit(call, static_argnums=0)
    assert run(Closure(scale, factor=2.0, offset=1.0), jnp.float32(3)) == 7
    assert run(Closure(scale, offset=1.0, factor=2.0), jnp.float32(4)) == 9
    assert len(traced) == 1
    assert run(Closure(scale, factor=3.0), jnp.float32(3)) == 9
    assert len(traced) == 2


def test_other_functions_and_options_are_not_equal():
    first = Closure(scale, factor=2.0)
    assert first == Closure(scale, factor=2.0)
    assert hash(first) == hash(Closure(scale, factor=2.0))
    assert first != Closure(scale, factor=2.5)
    assert first != Closure(scale, factor=2.0, offset=0.0)
    assert first != Closure(max, factor=2.0)
    assert repr(first) == "scale(factor=2.0)"
