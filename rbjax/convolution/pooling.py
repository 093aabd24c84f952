"""Max pooling whose gradient is as fast as its value on CPU.

XLA scatters the gradient of a window's maximum to the place where it was found, one window after
another. Windows that do not overlap need no scatter: each value is compared with its maximum.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from rbjax.typing import Array

Window = tuple[int, int]


def _plain(x: Array, *, window: Window) -> Array:
    size = (1, *window, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, size, size, "VALID")


def _fold(x: Array, window: Window) -> Array:
    """Returns x (N, H, W, C) as (N, P, a, Q, b, C), cropped to whole windows."""
    rows, columns = x.shape[1] // window[0], x.shape[2] // window[1]
    x = x[:, : rows * window[0], : columns * window[1]]
    return x.reshape(x.shape[0], rows, window[0], columns, window[1], x.shape[3])


def _jvp(primals: tuple[Array], tangents: tuple[Array], *, window: Window) -> tuple[Array, Array]:
    """The tangent of the first of the largest values, which is XLA's choice too."""
    (x,), (dx,) = primals, tangents
    y = max_pool_p.bind(x, window=window)
    folded, tangent = _fold(x, window), _fold(dx, window)
    order = jnp.arange(window[0] * window[1], dtype=jnp.int8)
    order = order.reshape(1, 1, window[0], 1, window[1], 1)
    is_largest = folded == y[:, :, None, :, None, :]
    first = jnp.min(jnp.where(is_largest, order, order.size), axis=(2, 4), keepdims=True)
    dy = jnp.sum(jnp.where(order == first, tangent, 0), axis=(2, 4), dtype=y.dtype)
    return y, dy


def _batch(operands: tuple[Array], axes: tuple[int], *, window: Window) -> tuple[Array, int]:
    x = jnp.moveaxis(operands[0], axes[0], 0)
    joined = max_pool_p.bind(x.reshape(-1, *x.shape[2:]), window=window)
    return joined.reshape(*x.shape[:2], *joined.shape[1:]), 0


max_pool_p = Primitive("loop_safe_max_pool")
max_pool_p.def_impl(functools.partial(jax.jit, static_argnames="window")(_plain))


@max_pool_p.def_abstract_eval
def _abstract(x: Any, *, window: Window) -> Any:
    size = (x.shape[0], x.shape[1] // window[0], x.shape[2] // window[1], x.shape[3])
    return x.update(shape=size, weak_type=False)


mlir.register_lowering(max_pool_p, mlir.lower_fun(_plain, multiple_results=False))
ad.primitive_jvps[max_pool_p] = _jvp
batching.primitive_batchers[max_pool_p] = _batch


def supports(x: Any, params: dict[str, Any]) -> bool:
    """Returns whether a windowed maximum is one of these, from its operand and its options."""
    window, ones = params["window_dimensions"], (1,) * len(x.shape)
    return (
        len(x.shape) == 4
        and window[0] == window[3] == 1
        and 1 < window[1] * window[2] < 128  # places are counted in int8
        and params["window_strides"] == window
        and all(edges == (0, 0) for edges in params["padding"])
        and params["base_dilation"] == params["window_dilation"] == ones
        and x.dtype in ("float32", "bfloat16")
        and all(axis is None for axis in x.sharding.spec)
        and all(size >= width > 0 for size, width in zip(x.shape, window, strict=True))
    )
