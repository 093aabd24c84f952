"""Pooling whose gradient is as fast as its value on CPU.

XLA scatters the gradient of a window's maximum to the place where it was found, one window after
another, and sums overlapping windows value by value. Here a maximum remembers its place, and both
gradients are sums of shifted maps (`windows`).

    max_pool(x) = y        pick(place, x') = y'  <->  put(place, y') = x'
    sum_pool(x) = y                                   spread(y') = x'
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from rbjax.convolution import windows
from rbjax.convolution.forms import Shape
from rbjax.typing import Array


def _xla(x: Array, *, shape: Shape, start: float, join: Any) -> Array:
    """Returns windows joined as XLA does it."""
    padding: Any = ((0, 0), *shape.padding, (0, 0))
    sizes, strides = ((1, *sides, 1) for sides in (shape.kernel_size, shape.strides))
    return lax.reduce_window(x, start, join, sizes, strides, padding)


def _make(
    name: str, fast: Callable, *, is_back: bool = False, plain: Callable | None = None
) -> Primitive:
    """Returns a primitive of maps, perhaps after their places, that mapped axes join as examples.

    Args:
        name: of the primitive.
        fast: (*operands, shape) -> maps.
        is_back: whether it gives maps of the image's size.
        plain: the same on other platforms than CPU; None: `fast` is.
    """
    primitive = Primitive(name)

    @functools.partial(jax.jit, static_argnames="shape")
    def run(*operands: Array, shape: Shape) -> Array:
        return primitive.bind(*operands, shape=shape)

    def abstract(*operands: Any, shape: Shape) -> Any:
        x = operands[-1]
        size = shape.image_size if is_back else shape.output_size
        return x.update(shape=(x.shape[0], *size, x.shape[3]), weak_type=False)

    def batch(operands: tuple[Array, ...], axes: tuple[Any, ...], *, shape: Shape) -> Any:
        [count] = {
            x.shape[axis] for x, axis in zip(operands, axes, strict=True) if axis is not None
        }
        leading = (
            jnp.broadcast_to(x, (count, *x.shape)) if axis is None else jnp.moveaxis(x, axis, 0)
            for x, axis in zip(operands, axes, strict=True)
        )
        result = primitive.bind(*(x.reshape(-1, *x.shape[2:]) for x in leading), shape=shape)
        return result.reshape(count, -1, *result.shape[1:]), 0

    primitive.def_impl(run)
    primitive.def_abstract_eval(abstract)
    mlir.register_lowering(primitive, mlir.lower_fun(plain or fast, multiple_results=False))
    mlir.register_lowering(primitive, mlir.lower_fun(fast, multiple_results=False), platform="cpu")
    batching.primitive_batchers[primitive] = batch
    return primitive


max_pool_p = _make(
    "loop_safe_max_pool",
    windows.largest,
    plain=functools.partial(_xla, start=-jnp.inf, join=lax.max),
)
pick_p = _make("loop_safe_pick", windows.pick)
put_p = _make("loop_safe_put", windows.put, is_back=True)
sum_pool_p = _make(
    "loop_safe_sum_pool", windows.total, plain=functools.partial(_xla, start=0, join=lax.add)
)
spread_p = _make("loop_safe_spread", windows.spread, is_back=True)


def _max_pool_jvp(primals: tuple[Array], tangents: tuple[Array], *, shape: Shape) -> Any:
    """The tangent of the first of the largest values, which is XLA's choice too."""
    (x,), (dx,) = primals, tangents
    y = max_pool_p.bind(x, shape=shape)
    place = windows.first_largest(x, y, shape)
    return y, pick_p.bind(place, dx, shape=shape)


ad.primitive_jvps[max_pool_p] = _max_pool_jvp
for _primitive, _transpose in ((pick_p, put_p), (put_p, pick_p)):
    ad.defjvp(
        _primitive,
        None,
        lambda dx, place, x, *, shape, primitive=_primitive: primitive.bind(place, dx, shape=shape),
    )
    ad.primitive_transposes[_primitive] = lambda y, place, x, *, shape, transpose=_transpose: [
        None,
        transpose.bind(place, y, shape=shape),
    ]
for _primitive, _transpose in ((sum_pool_p, spread_p), (spread_p, sum_pool_p)):
    ad.deflinear2(
        _primitive,
        lambda y, x, *, shape, transpose=_transpose: [transpose.bind(y, shape=shape)],
    )


def supports(x: Any, params: dict[str, Any]) -> bool:
    """Returns whether pooling is one of these, from its operand and its options."""
    window, strides, padding = (
        params[name] for name in ("window_dimensions", "window_strides", "padding")
    )
    ones = (1,) * len(x.shape)
    return (
        len(x.shape) == 4
        and window[0] == window[3] == strides[0] == strides[3] == 1
        and 1 < window[1] * window[2] < 128  # places are counted in int8
        and padding[0] == padding[3] == (0, 0)
        and all(
            0 <= low < size and high >= 0 and length + low + high >= size
            for size, (low, high), length in zip(window, padding, x.shape, strict=True)
        )
        and params["base_dilation"] == params["window_dilation"] == ones
        and x.dtype in ("float32", "bfloat16")
        and all(axis is None for axis in x.sharding.spec)
        and 0 not in x.shape
    )


def shape_of(x: Any, params: dict[str, Any]) -> Shape:
    """Returns the static description of supported pooling."""
    window, strides, padding = (
        tuple(params[name][1:3]) for name in ("window_dimensions", "window_strides", "padding")
    )
    return Shape(strides, padding, x.shape[1:3], window, None)
