"""Functions that differ in numbers alone: each keeps its own, and one program is compiled."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax.variants import variants

X = jnp.linspace(-1.0, 2.0, 7)
MATRICES = [np.diag(np.arange(7.0) + k).astype(np.float32) for k in range(3)]


def scaled(x, factor):
    return jax.jit(lambda x: factor * x + 1.0)(x)


def looped(x, factor):
    return jax.lax.fori_loop(0, 3, lambda _, x: factor * x, x)


def counted(functions):
    """The results of functions of `X`, the numbers of their arguments, and how many compiled."""
    compiled = []

    @jax.jit
    def call(fn, x):
        compiled.append(fn)
        return fn(x)

    made = variants(functions, X)
    bound = [one.bind(list(one.traces)) for one in made]
    results = [call(one, X) for one in bound]
    for fn, result in zip(functions, results, strict=True):
        np.testing.assert_array_equal(result, jax.jit(fn)(X))
    return [len(one.captured) for one in bound], len(compiled)


@pytest.mark.parametrize(
    ("function", "values", "num_arguments", "num_programs"),
    [
        (lambda x, k: k * x + 1.0, (2.0, 3.0, 2.0), 1, 1),
        (lambda x, k: k * x + 1.0, (2.0, 2.0), 0, 1),
        (lambda x, k: x + 0 * k, (0.0, -0.0), 1, 1),  # told apart by their bits
        (lambda x, k: jnp.where(x > k, x, k), (0.5, np.nan), 2, 1),
        (scaled, (2.0, 3.0), 1, 1),
        (lambda x, k: scaled(x, k) @ MATRICES[0], (2.0, 3.0), 1, 1),
        (lambda x, k: x * MATRICES[k].sum(0) + x @ MATRICES[0], (1, 2), 1, 1),
        (lambda x, k: k, (jnp.float32(1), jnp.float32(2)), 1, 1),
        (lambda x, k: jnp.where(jnp.arange(7) > k, x, 0.0), (1, 2), 1, 1),
        # Shapes, matrices, and what is inside a loop, are what a function does.
        (lambda x, k: x @ MATRICES[k], (1, 2), 0, 2),
        (lambda x, k: x[k:], (1, 2), 0, 2),
        (looped, (2.0, 3.0), 0, 2),
    ],
)
def test_numbers_that_differ_are_arguments(function, values, num_arguments, num_programs):
    functions = [functools.partial(function, k=k) for k in values]
    if function in (scaled, looped):
        functions = [functools.partial(function, factor=k) for k in values]
    assert counted(functions) == ([num_arguments] * len(values), num_programs)


def test_those_of_one_kind_are_found_among_others():
    arguments, num_programs = counted(
        [lambda x: 2.0 * x, jnp.sin, lambda x: 3.0 * x, lambda x: x + 2.0]
    )
    assert (arguments, num_programs) == ([1, 0, 1, 0], 3)


def test_equal_functions_of_two_calls_share_a_program():
    compiled = []

    @jax.jit
    def call(fn, x):
        compiled.append(fn)
        return fn(x)

    for values in ((2.0, 3.0), (4.0, 5.0)):
        for one in variants([functools.partial(scaled, factor=k) for k in values], X):
            call(one.bind(list(one.traces)), X)
    assert len(compiled) == 1
