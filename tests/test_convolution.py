"""loop_safe computes what JAX computes, in every form, under every transformation."""

from __future__ import annotations

import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, PartitionSpec
from jax.tree_util import Partial

import rbjax.convolution as convolution
from rbjax.convolution import loop_safe, rewrite

NHWC = ("NHWC", "HWIO", "NHWC")


def conv(x, w, strides=(1, 1), padding: Any = "SAME", **options):
    options = {"dimension_numbers": NHWC, **options}
    return lax.conv_general_dilated(x, w, strides, padding, **options)


def normal(seed, shape, dtype="float32"):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def assert_close(actual, expected, tolerance=3e-6):
    """Compares pytrees up to a multiple of each array's largest value."""

    def compare(a, b):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(np.abs(b).max(), 1e-9))

    jax.tree.map(compare, actual, expected)


def count(fn, *args):
    """Returns how many of our convolutions a function's jaxpr has."""
    return str(jax.make_jaxpr(fn)(*args)).count("loop_safe_conv")


def network(weights, images):
    """Strided and plain convolutions, ReLU, max pooling, a dense layer."""
    x = jax.nn.relu(conv(images, weights["a"]))
    x = jax.nn.relu(conv(x, weights["b"], (2, 2)))
    x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return x.reshape(x.shape[0], -1) @ weights["c"]


WEIGHTS = {
    "a": 0.2 * normal(0, (3, 3, 3, 4)),
    "b": 0.2 * normal(1, (3, 3, 4, 4)),
    "c": 0.2 * normal(2, (16, 3)),
}
IMAGES = normal(3, (4, 8, 8, 3))


def total(fn, *args):
    return jnp.sum(jnp.sin(fn(*args)))


# (image size, kernel size, strides, padding)
GEOMETRIES = [
    ((6, 6), (3, 3), (1, 1), "SAME"),
    ((7, 6), (3, 3), (1, 1), "VALID"),
    ((7, 5), (3, 3), (2, 2), "SAME"),
    ((8, 8), (3, 3), (2, 2), ((1, 1), (1, 1))),
    ((8, 7), (3, 3), (2, 1), "VALID"),
    ((9, 9), (3, 3), (3, 3), ((0, 2), (1, 0))),
    ((6, 7), (1, 1), (1, 1), "VALID"),
    ((8, 7), (1, 1), (2, 2), "SAME"),
    ((6, 6), (2, 2), (1, 1), "SAME"),
    ((7, 7), (2, 2), (2, 2), ((0, 1), (1, 0))),
    ((6, 9), (5, 5), (1, 1), "SAME"),
    ((9, 8), (5, 5), (2, 2), ((2, 1), (0, 3))),
    ((6, 8), (1, 3), (1, 2), ((0, 0), (2, 2))),
    ((5, 5), (3, 2), (4, 3), ((1, 2), (0, 1))),
    ((6, 6), (3, 3), (1, 1), ((4, 0), (0, 5))),
    ((7, 8), (3, 3), (2, 2), ((-1, 4), (3, -2))),
    ((3, 3), (3, 3), (1, 1), "VALID"),
]

# Options that are left to JAX: (shapes of x and w, options)
UNTOUCHED = [
    ((2, 6, 6, 4), (3, 3, 2, 4), {"feature_group_count": 2}),
    ((2, 6, 6, 4), (3, 3, 1, 8), {"feature_group_count": 4, "strides": (2, 2)}),
    ((4, 6, 6, 2), (3, 3, 2, 4), {"batch_group_count": 2}),
    ((2, 7, 7, 2), (3, 3, 2, 3), {"rhs_dilation": (2, 2)}),
    ((2, 5, 5, 2), (3, 3, 2, 3), {"lhs_dilation": (2, 1), "padding": ((1, 1), (0, 1))}),
    ((2, 2, 6, 6), (3, 2, 3, 3), {"dimension_numbers": ("NCHW", "OIHW", "NCHW")}),
    ((2, 6, 2), (3, 2, 3), {"dimension_numbers": ("NHC", "HIO", "NHC"), "strides": (1,)}),
]


def test_every_geometry_gives_jax_values_and_gradients():
    def run(transform):
        def all_of_them(operands):
            outputs = []
            for (x, w, g), (_, _, strides, padding) in zip(operands, GEOMETRIES, strict=True):
                fn = transform(functools.partial(conv, strides=strides, padding=padding))
                y, pull = jax.vjp(fn, x, w)
                outputs.append((y, *pull(g)))
            return outputs

        return all_of_them

    operands = []
    for seed, (image, kernel, strides, padding) in enumerate(GEOMETRIES):
        x, w = normal(seed, (2, *image, 3)), normal(seed + 100, (*kernel, 3, 5))
        y = jax.eval_shape(functools.partial(conv, strides=strides, padding=padding), x, w)
        operands.append((x, w, normal(seed + 200, y.shape)))
    assert count(run(loop_safe), operands) == 3 * len(GEOMETRIES)
    assert_close(jax.jit(run(loop_safe))(operands), jax.jit(run(lambda fn: fn))(operands))


def test_what_is_not_rewritten_is_left_as_it_is():
    for x, w, options in UNTOUCHED:
        fn = functools.partial(conv, **options)
        operands = normal(0, x), normal(1, w)
        assert str(jax.make_jaxpr(loop_safe(fn))(*operands)) == str(jax.make_jaxpr(fn)(*operands))


def attack(weights, images, transform):
    """Three gradient steps inside a loop, on a function that closes over a traced value."""
    fn = transform(lambda x: network(weights, x))
    step = jax.grad(lambda x: total(fn, x))
    return lax.fori_loop(0, 3, lambda _, x: x - 0.01 * step(x), images)


def train(weights, images, transform):
    """Three gradient steps on the weights inside a scan."""
    fn = transform(network)

    def step(weights, images):
        gradient = jax.grad(lambda w: total(fn, w, images))(weights)
        return jax.tree.map(lambda w, g: w - 0.01 * g, weights, gradient), total(
            fn, weights, images
        )

    return lax.scan(step, weights, jnp.stack([images] * 3))


@pytest.mark.parametrize("loop", [attack, train])
def test_loops_give_the_same_numbers(loop):
    run = jax.jit(loop, static_argnums=2)
    assert count(functools.partial(loop, transform=loop_safe), WEIGHTS, IMAGES) >= 3
    assert_close(run(WEIGHTS, IMAGES, loop_safe), run(WEIGHTS, IMAGES, lambda fn: fn), 1e-5)


@pytest.mark.parametrize("loop", [attack, train])
def test_compiled_loops_have_the_one_fast_layout(loop):
    """What makes a convolution slow inside a loop is any layout but NHWC and HWIO."""

    def layouts(transform):
        compiled = jax.jit(loop, static_argnums=2).lower(WEIGHTS, IMAGES, transform).compile()
        text = str(compiled.as_text())
        assert "rhs_reversal" not in text or transform is not loop_safe
        return set(re.findall(r" convolution\(.*dim_labels=([^, ]*)", text))

    assert layouts(loop_safe) == {"b01f_01io->b01f"}
    assert len(layouts(lambda fn: fn)) > 1


def test_a_function_that_closes_over_what_is_differentiated():
    def loss(weights):
        return total(loop_safe(lambda x: network(weights, x)), IMAGES)

    assert count(jax.jit(jax.grad(loss)), WEIGHTS) >= 3


def test_derivatives_of_every_order_and_mode():
    def run(fn, x):
        scalar = functools.partial(total, fn)
        along = functools.partial(jax.jvp, scalar, (WEIGHTS, x))
        by_images = lambda w, x: jnp.vdot(jax.grad(scalar, 1)(w, x), IMAGES)
        by_weights = lambda w, x: jnp.vdot(jax.grad(scalar)(w, x)["a"], WEIGHTS["a"])
        return (
            along((WEIGHTS, x)),
            jax.grad(by_images, (0, 1))(WEIGHTS, x),
            jax.grad(by_weights, (0, 1))(WEIGHTS, x),
            jax.jvp(jax.grad(scalar, 1), (WEIGHTS, x), (WEIGHTS, x)),
            jax.jacrev(fn, 1)(WEIGHTS, x[:1]),
        )

    run = jax.jit(run, static_argnums=0)
    assert_close(run(loop_safe(network), IMAGES), run(network, IMAGES), 1e-5)


def test_vmap_over_images_and_over_weights():
    def one(fn, w, x):
        return fn(w, x[None])[0]

    def run(fn):
        one_ = functools.partial(one, fn)
        gradient = jax.grad(functools.partial(total, one_), (0, 1))
        stacked = jax.tree.map(lambda w: jnp.stack([w, 2 * w, -w, w]), WEIGHTS)
        return (
            jax.vmap(one_, (None, 0))(WEIGHTS, IMAGES),
            jax.vmap(gradient, (None, 0))(WEIGHTS, IMAGES),
            jax.vmap(gradient, (0, 0))(stacked, IMAGES),
            jax.vmap(gradient, (0, None))(stacked, IMAGES[0]),
            jax.vmap(functools.partial(fn, WEIGHTS), 4, 1)(jnp.stack([IMAGES, -IMAGES], 4)),
        )

    assert_close(jax.jit(lambda: run(loop_safe(network)))(), jax.jit(lambda: run(network))())


def test_calls_inside_a_function_are_rewritten_too():
    def fn(w, x):
        inner = functools.partial(conv, w=w)
        x = jax.checkpoint(inner)(x)
        x = jax.jit(inner)(x)
        x = lax.cond(x[0, 0, 0, 0] > 0, inner, lambda x: -x, x)
        return lax.scan(lambda x, _: (jnp.tanh(inner(x)), x.mean()), x, length=2)

    w, x = normal(0, (3, 3, 3, 3)), normal(1, (2, 5, 5, 3))
    assert count(loop_safe(fn), w, x) == 4
    assert "conv_general_dilated" not in str(jax.make_jaxpr(loop_safe(fn))(w, x))
    gradient = lambda fn: jax.jit(jax.grad(lambda w: fn(w, x)[0].sum()))(w)
    assert_close(gradient(loop_safe(fn)), gradient(fn), 1e-5)


def test_rules_of_custom_derivatives_are_kept():
    @jax.custom_vjp
    def straight_through(x, w):
        return conv(x, w)

    straight_through.defvjp(lambda x, w: (conv(x, w), w), lambda w, g: (3 * g, jnp.zeros_like(w)))
    x, w = normal(0, (1, 5, 5, 3)), normal(1, (3, 3, 3, 3))
    gradient = jax.grad(lambda x: loop_safe(straight_through)(x, w).sum())(x)
    np.testing.assert_array_equal(gradient, 3 * jnp.ones_like(x))

    def relu(x, w):
        return jax.nn.relu(conv(x, w))

    zeros = jnp.zeros_like(x)
    np.testing.assert_array_equal(jax.grad(lambda x: loop_safe(relu)(x, w).sum())(zeros), zeros)


def test_collectives_and_shard_map():
    def normalised(w, x):
        y = conv(x, w)
        return (y - lax.pmean(y.mean(), "data")) * w.sum()

    w, x = normal(0, (3, 3, 3, 2)), normal(1, (2, 2, 5, 5, 3))
    devices = jax.devices()[:2]
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,), devices=devices)

    def run(fn):
        step = jax.grad(functools.partial(total, fn))

        def mapped(w, x):
            return lax.pmean(step(w, x), "data")

        pmapped = jax.pmap(
            mapped, axis_name="data", in_axes=(None, 0), out_axes=None, devices=devices
        )
        specs = (PartitionSpec(), PartitionSpec("data"))
        sharded = jax.shard_map(step, mesh=mesh, in_specs=specs, out_specs=PartitionSpec())
        return pmapped(w, x), jax.jit(sharded)(w, x.reshape(-1, 5, 5, 3))

    assert_close(run(loop_safe(normalised)), run(normalised), 1e-5)


def test_bfloat16():
    x, w = normal(0, (2, 6, 6, 3), "bfloat16"), normal(1, (3, 3, 3, 4), "bfloat16")
    assert count(loop_safe(conv), x, w) == 1

    def run(fn):
        gradient = jax.grad(lambda x, w: fn(x, w).astype("float32").sum(), (0, 1))
        return jax.jit(lambda x, w: (fn(x, w), gradient(x, w)))(x, w)

    assert_close(run(loop_safe(conv)), run(conv), 1e-2)


def test_a_function_without_convolution_is_unchanged():
    def fn(x, y):
        return {"a": jnp.exp(x) @ y, "b": (x * 2.0, 1.5)}

    x, y = normal(0, (3, 4)), normal(1, (4, 2))
    assert str(jax.make_jaxpr(loop_safe(fn))(x, y)) == str(jax.make_jaxpr(fn)(x, y))
    actual, expected = jax.jit(loop_safe(fn))(x, y), jax.jit(fn)(x, y)
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def test_other_arguments_pytrees_and_weak_types():
    def fn(x, w, scale, *, stride, name):
        assert isinstance(scale, float)
        assert name == "here"
        y = conv(x, w, (stride, stride)) * scale
        return {"y": y, "rest": (y.sum(), 1.0 * scale)}

    fn_ = functools.partial(fn, scale=2.0, stride=2, name="here")
    safe = lambda x, w: loop_safe(fn)(x, w, 2.0, stride=2, name="here")
    operands = normal(0, (1, 5, 5, 2)), normal(1, (3, 3, 2, 2))
    assert_close(jax.jit(safe)(*operands), jax.jit(fn_)(*operands))
    weak = lambda fn: jax.tree.map(lambda s: s.weak_type, jax.eval_shape(fn, *operands))
    assert weak(safe) == weak(fn_)


def test_a_partial_stays_one_and_is_traced_once():
    traces = []

    @jax.jit
    def gradient(fn, images):
        traces.append(1)
        return jax.grad(lambda x: total(loop_safe(fn), x))(images)

    doubled = jax.tree.map(lambda w: 2 * w, WEIGHTS)
    safe = [loop_safe(Partial(network, weights)) for weights in (WEIGHTS, doubled)]
    assert [count(fn, IMAGES) for fn in safe] == [2, 2]
    assert jax.tree.structure(safe[0]) == jax.tree.structure(loop_safe(safe[1]))
    results = [gradient(fn, IMAGES) for fn in safe]
    assert len(traces) == 1
    assert not np.array_equal(*results)


def test_called_outside_every_transformation_it_is_the_function_itself():
    calls = []

    def fn(x):
        calls.append(x)
        return conv(x, WEIGHTS["a"])

    np.testing.assert_array_equal(loop_safe(fn)(IMAGES), fn(IMAGES))
    assert calls[0] is IMAGES


@pytest.mark.parametrize("backend", ["gpu", "tpu"])
def test_accelerators_run_the_function_itself(monkeypatch, backend):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    assert str(jax.make_jaxpr(loop_safe(network))(WEIGHTS, IMAGES)) == str(
        jax.make_jaxpr(network)(WEIGHTS, IMAGES)
    )


def test_on_another_platform_the_primitives_are_jax_own():
    def lowered(fn):
        gradient = jax.jit(jax.grad(functools.partial(total, fn), (0, 1)))
        text = gradient.trace(WEIGHTS, IMAGES).lower(lowering_platforms=("cuda",)).as_text()
        return sorted(
            line.split("stablehlo.convolution")[1].split("window", 1)[1]
            for line in text.splitlines()
            if "stablehlo.convolution" in line
        )

    assert lowered(loop_safe(network)) == lowered(network)


def test_without_the_internals_functions_stay_as_they_are(monkeypatch):
    monkeypatch.setattr(rewrite, "AVAILABLE", False)
    assert convolution.loop_safe(network) is network
