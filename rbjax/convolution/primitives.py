"""A convolution and its two gradients as three primitives that are each other's transposes.

They are one trilinear form, so the family is closed under differentiation of any order, forward
and reverse: the transpose of each with respect to either operand is one of the other two.

    forward(x, w) = y        image_gradient(g, w) = x'        kernel_gradient(x, g) = w'

On CPU each is lowered to the form that is fastest for its shape, on every other platform to what
JAX itself would run.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from rbjax.convolution import choice, forms
from rbjax.convolution.forms import Shape
from rbjax.typing import Array


def _plain_image_gradient(g: Array, w: Array, shape: Shape) -> Array:
    x = jax.ShapeDtypeStruct((g.shape[0], *shape.image_size, w.shape[2]), g.dtype)
    return jax.linear_transpose(lambda x: forms.xla(x, w, shape), x)(g)[0]


def _plain_kernel_gradient(x: Array, g: Array, shape: Shape) -> Array:
    w = jax.ShapeDtypeStruct((*shape.kernel_size, x.shape[3], g.shape[3]), x.dtype)
    return jax.linear_transpose(lambda w: forms.xla(x, w, shape), w)(g)[0]


def _make(name: str, size: Callable, plain: Callable, fast: Callable) -> Primitive:
    """Returns a primitive of two operands and a static `shape`, without derivatives."""
    primitive = Primitive(name)

    @functools.partial(jax.jit, static_argnames="shape")
    def run(a: Array, b: Array, shape: Shape) -> Array:
        return primitive.bind(a, b, shape=shape)

    def abstract(a, b, *, shape: Shape):
        # `a` carries the axes of shard_map that it varies over; JAX has made `b` carry the same.
        return a.update(shape=size(a.shape, b.shape, shape), weak_type=False)

    def cpu(a: Array, b: Array, *, shape: Shape) -> Array:
        # XLA's CPU backend computes bfloat16 convolutions in float32 itself.
        return fast(a.astype("float32"), b.astype("float32"), shape=shape).astype(a.dtype)

    primitive.def_impl(run)
    primitive.def_abstract_eval(abstract)
    mlir.register_lowering(primitive, mlir.lower_fun(plain, multiple_results=False))
    mlir.register_lowering(primitive, mlir.lower_fun(cpu, multiple_results=False), platform="cpu")
    return primitive


forward_p = _make(
    "loop_safe_conv",
    lambda x, w, shape: (x[0], *shape.output_size, w[3]),
    forms.xla,
    choice.forward,
)
image_gradient_p = _make(
    "loop_safe_conv_image_gradient",
    lambda g, w, shape: (g[0], *shape.image_size, w[2]),
    _plain_image_gradient,
    choice.image_gradient,
)
kernel_gradient_p = _make(
    "loop_safe_conv_kernel_gradient",
    lambda x, g, shape: (*shape.kernel_size, x[3], g[3]),
    _plain_kernel_gradient,
    choice.kernel_gradient,
)

ad.defbilinear(
    forward_p,
    lambda y, x, w, *, shape: image_gradient_p.bind(y, w, shape=shape),
    lambda y, x, w, *, shape: kernel_gradient_p.bind(x, y, shape=shape),
)
ad.defbilinear(
    image_gradient_p,
    lambda x, g, w, *, shape: forward_p.bind(x, w, shape=shape),
    lambda x, g, w, *, shape: kernel_gradient_p.bind(x, g, shape=shape),
)
ad.defbilinear(
    kernel_gradient_p,
    lambda w, x, g, *, shape: image_gradient_p.bind(g, w, shape=shape),
    lambda w, x, g, *, shape: forward_p.bind(x, w, shape=shape),
)


def _batch_images(primitive: Primitive, plain: Callable) -> None:
    """Lets `vmap` join a mapped axis of the first operand alone to its examples."""

    def rule(operands, axes, *, shape: Shape):
        a, b = operands
        if axes[1] is not None:
            mapped = jax.vmap(functools.partial(plain, shape=shape), in_axes=axes)
            return mapped(a, b), 0
        a = jax.numpy.moveaxis(a, axes[0], 0)
        joined = primitive.bind(a.reshape(-1, *a.shape[2:]), b, shape=shape)
        return joined.reshape(*a.shape[:2], *joined.shape[1:]), 0

    batching.primitive_batchers[primitive] = rule


def _batch_plain(operands, axes, *, shape: Shape):
    """Maps the plain formula: gradients of the weights for each member of a batch."""
    mapped = jax.vmap(functools.partial(_plain_kernel_gradient, shape=shape), in_axes=axes)
    return mapped(*operands), 0


_batch_images(forward_p, forms.xla)
_batch_images(image_gradient_p, _plain_image_gradient)
batching.primitive_batchers[kernel_gradient_p] = _batch_plain


def supports(x, w, params: dict) -> bool:
    """Returns whether a convolution is one of these, from its operands' types and its options."""
    numbers = params["dimension_numbers"]
    return (
        (numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec)
        == ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))
        and params["feature_group_count"] == params["batch_group_count"] == 1
        and params["lhs_dilation"] == params["rhs_dilation"] == (1, 1)
        and x.dtype == w.dtype
        and x.dtype in ("float32", "bfloat16")
        and params["preferred_element_type"] in (None, x.dtype)
        and params.get("out_sharding") is None
        and all(axis is None for operand in (x, w) for axis in operand.sharding.spec)
        and 0 not in (*x.shape, *w.shape)
        and all(
            low + size + high >= kernel
            for (low, high), size, kernel in zip(
                params["padding"], x.shape[1:3], w.shape[:2], strict=True
            )
        )
    )


def shape_of(x, w, params: dict) -> Shape:
    """Returns the static description of a supported convolution."""
    return Shape(
        tuple(params["window_strides"]),
        tuple(params["padding"]),
        x.shape[1:3],
        w.shape[:2],
        params["precision"],
    )
