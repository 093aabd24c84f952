"""Plain functions traced: which programs are equal, and that nothing of them is kept."""

from __future__ import annotations

import gc
import weakref

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax.captures import Compiled
from rbjax.programs import PlainFunction


@pytest.fixture(autouse=True, scope="module")
def _look_at_new_objects_alone():
    """Collecting what a whole session has left takes a second each time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


X = jnp.linspace(-1.0, 1.0, 8).reshape(2, 4)


def counted():
    """A compiled function of a function's values and gradients, and how often it was traced."""
    traces = []

    def run(fn, x):
        values = fn(x)
        traces.append(1)
        return values, jax.grad(lambda x: fn(x).sum())(x)

    return Compiled(jax.jit(run)), traces


def is_right(run, fn):
    for result, expected in zip(
        run(PlainFunction(fn), X), (fn(X), jax.grad(lambda x: fn(x).sum())(X)), strict=True
    ):
        np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-6)


def rules_of_derivatives(weights):
    """Derivatives of its own, forward and reverse, made anew each time."""

    @jax.custom_jvp
    def rectify(x):
        return jnp.maximum(x, 0.0)

    rectify.defjvp(lambda primals, tangents: (rectify(*primals), 3 * tangents[0]))

    @jax.custom_vjp
    def double(x):
        return 2 * x

    double.defvjp(lambda x: (2 * x, x), lambda x, g: (5 * g * jnp.cos(x),))
    return lambda x: double(rectify(x @ weights))


def loops_and_branches(weights):
    def fn(x):
        x = jax.lax.cond(x.sum() > weights[0, 0], lambda x: x @ weights, lambda x: -x @ weights, x)
        x, _ = jax.lax.scan(lambda x, _: (jnp.tanh(x) + weights[0], None), x, None, length=2)
        x = jax.checkpoint(lambda x: jnp.sin(x * weights[1]))(x)
        return x + jax.random.normal(jax.random.key(0), x.shape)

    return fn


def jitted_inside(weights):
    product = jax.jit(lambda x: x @ weights)
    both = jax.jit(lambda x: product(x) + weights[0])
    return lambda x: both(x) + jax.nn.relu(product(-x))


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.gelu(nn.Dense(5)(x))[:, :, None]
        x = nn.LayerNorm()(nn.MultiHeadDotProductAttention(1)(x)).reshape(len(x), -1)
        return nn.log_softmax(nn.Dense(3)(nn.swish(x)))


def flax_module(weights):
    variables = jax.tree.map(lambda w: w + weights[0, 0], Net().init(jax.random.key(0), X))
    return lambda x: Net().apply(variables, x)


def constants(weights):
    """Some in arrays of NumPy."""
    shift = np.asarray(weights)[0]
    return lambda x: (x @ weights - shift) / np.float32(2)


MAKERS = [rules_of_derivatives, loops_and_branches, jitted_inside, flax_module, constants]


@pytest.mark.parametrize("make", MAKERS)
def test_equal_programs_with_other_arrays_are_compiled_once(make):
    run, traces = counted()
    kept = []
    for scale in (1.0, 2.0, -1.0):
        weights = scale * jnp.linspace(0.0, 1.0, 12).reshape(4, 3)
        fn = make(weights)
        is_right(run, fn)
        kept.append(weakref.ref(weights))
    assert len(traces) == 1
    del weights, fn
    gc.collect()
    assert all(reference() is None for reference in kept)


def other_rules(weights):
    @jax.custom_jvp
    def rectify(x):
        return jnp.maximum(x, 0.0)

    rectify.defjvp(lambda primals, tangents: (rectify(*primals), 4 * tangents[0]))
    return lambda x: 2 * rectify(x @ weights)


def captured_rule(weights):
    """What the rule itself captures is part of the program."""
    factor = 10.0 * weights[0, 1]

    @jax.custom_vjp
    def double(x):
        return 2 * x

    double.defvjp(lambda x: (2 * x, None), lambda _, g: (factor * g,))
    return lambda x: double(x @ weights)


@pytest.mark.parametrize(
    "makers",
    [
        [lambda w: lambda x: x @ w, lambda w: lambda x: x @ w + 1.0],
        [lambda w: lambda x: x @ w + 1.0, lambda w: lambda x: x @ w + 2.0],
        [lambda w: lambda x: x @ w * 0.0, lambda w: lambda x: x @ w * -0.0],
        [lambda w: lambda x: x @ w - w[0], lambda w: lambda x: w[0] - x @ w],
        [lambda w: lambda x: jnp.sin(x @ w), lambda w: lambda x: jnp.cos(x @ w)],
        [lambda w, a=a: lambda x: jnp.cumsum(x @ w, axis=a) for a in (0, 1)],
        [rules_of_derivatives, other_rules],
        [captured_rule, lambda w: captured_rule(w.at[0, 1].add(1.0))],
        [jitted_inside, lambda w: lambda x: x @ w],
    ],
)
def test_other_programs_are_compiled_by_themselves(makers):
    run, traces = counted()
    weights = jnp.linspace(0.0, 1.0, 12).reshape(4, 3)
    for make in makers:
        is_right(run, make(weights))
    assert len(traces) == 2


def test_a_function_is_traced_for_the_shapes_it_is_called_with():
    """Also where it depends on them, and in a loop of batches with one trace for each shape."""
    shapes = []

    def fn(x):
        shapes.append(x.shape)
        return x.sum(axis=1) * (2 if x.shape[0] > 1 else 3)

    run = Compiled(jax.jit(lambda fn, x: (fn(x), fn(x[:1]))))
    for _ in range(2):
        plain, shapes[:] = PlainFunction(fn), []
        for scale in (1.0, 2.0):
            both, one = run(plain, scale * X)
            np.testing.assert_allclose(both, 2 * scale * X.sum(axis=1), atol=1e-6)
            np.testing.assert_allclose(one, 3 * scale * X[:1].sum(axis=1), atol=1e-6)
        assert shapes == [(2, 4), (1, 4)]


def test_a_jitted_function_gives_the_answer_of_the_moment():
    state = {"weights": jnp.ones((4, 3))}
    fn = jax.jit(lambda x: x @ state["weights"])
    run, traces = counted()
    run(PlainFunction(fn), X)
    state["weights"] = 2 * jnp.ones((4, 3))
    np.testing.assert_allclose(run(PlainFunction(fn), X)[0], X @ state["weights"], atol=1e-6)
    assert len(traces) == 1


@pytest.mark.parametrize("through", ["number", "helper"])
def test_a_rule_that_reads_another_global_is_another_program(through, monkeypatch):
    @jax.custom_vjp
    def identity(x):
        return x

    rules = {"number": lambda _, g: (FACTOR * g,), "helper": lambda _, g: (times_array(g),)}
    identity.defvjp(lambda x: (x, None), rules[through])
    run, _ = counted()
    is_right(run, lambda x: identity(x).sum(axis=1))
    monkeypatch.setitem(globals(), "FACTOR", -1.0)
    monkeypatch.setitem(globals(), "ARRAY", -jnp.ones(4))
    gradient = run(PlainFunction(lambda x: identity(x).sum(axis=1)), X)[1]
    np.testing.assert_array_equal(gradient, -jnp.ones_like(X))


KEPT: dict = {}
FACTOR, ARRAY = 1.0, jnp.ones(4)


def times_array(g):
    return g * ARRAY


def test_what_a_function_keeps_of_its_trace_is_refused():
    class Counting:
        total = jnp.zeros(())

        def __call__(self, x):
            self.total = self.total + x.sum()
            return x

    def reading(x):
        before = KEPT.get("total", 0.0)
        KEPT["total"] = x.sum()
        return x + before

    class Raising:
        def __call__(self, x):
            raise type("TraceContextError", (Exception,), {})

    run, _ = counted()
    with pytest.raises(ValueError, match=r"keeps a value of its trace in 'total'; pass state"):
        run(PlainFunction(Counting()), X)
    run(PlainFunction(reading), X)  # what it keeps where one does not look, it reads afterwards
    with pytest.raises(ValueError, match="logits_fn reads a value of a trace that is over; pass"):
        run(PlainFunction(reading), X)
    with pytest.raises(ValueError, match=r"changes its own state .* after model\.eval\(\)"):
        run(PlainFunction(Raising()), X)


@pytest.mark.parametrize("compile", [jax.jit, lambda run: jax.pmap(run, in_axes=(None, 0))])
def test_an_equal_function_serves_another_shape_after_the_first_is_gone(compile):
    run = Compiled(compile(lambda fn, x: fn(X) + x.sum()))
    for factor, size in ((2.0, 3), (3.0, 5), (5.0, 3)):
        weights = factor * jnp.ones(())
        fn = lambda x, weights=weights: x * weights
        found = run(PlainFunction(fn), jnp.ones((1, size)))
        np.testing.assert_allclose(np.reshape(found, X.shape), factor * X + size, rtol=1e-6)
        del fn
        gc.collect()
