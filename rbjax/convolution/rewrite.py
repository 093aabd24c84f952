"""Puts the primitives of this package in the place of convolutions and pooling in a function.

Where a JAX has none of what it imports, `AVAILABLE` is False and `loop_safe` returns functions as
they are.
"""

from __future__ import annotations

import dataclasses
import operator
import weakref
from collections.abc import Callable
from typing import Any, cast

import jax
import numpy as np
from jax import lax
from jax.tree_util import Partial

from rbjax.inputs import is_tracing

try:
    from jax.extend import core as jaxprs

    from rbjax.convolution import pooling, primitives

    # The two are one class from some JAX on.
    _JAXPRS: tuple[type, ...] = (jaxprs.Jaxpr, getattr(jaxprs, "ClosedJaxpr", jaxprs.Jaxpr))
    _POOLS = {"reduce_window_max": pooling.max_pool_p, "reduce_window_sum": pooling.sum_pool_p}
    AVAILABLE = True
except (AttributeError, ImportError):
    AVAILABLE = False

# Calls and loops whose meaning is that of the jaxprs in their parameters. Not functions with a
# derivative rule of their own (`custom_jvp_call`, `custom_vjp_call`): it is theirs to keep.
_CALLS = frozenset(
    {"jit", "pjit", "closed_call", "core_call", "checkpoint", "remat", "remat2"}
    | {"scan", "while", "cond", "shard_map"}
)

_rewritten: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def loop_safe[F: Callable[..., Any]](fn: F) -> F:
    """Returns a function whose convolutions' gradients stay fast inside loops on CPU.

    Same values and derivatives of every order as `fn`, to float32 rounding. Rewritten are 2-D
    float32 and bfloat16 convolutions in NHWC/HWIO without groups and dilation, and maxima and sums
    of windows over height and width; everything else, and functions with a derivative rule of
    their own, run as they are. On a GPU or TPU, and called outside every transformation, `fn`
    itself is called.

    The backend is asked for at each call, not here, so that a function may be wrapped before JAX
    has started a backend or chosen its platform (`jax.config`, `jax.distributed.initialize`).

    Args:
        fn: a function of arrays and pytrees of them, or a `jax.tree_util.Partial`, which stays
            one. Other arguments (numbers, strings) are seen by `fn` as they are.

    Returns:
        A function of the same arguments for use under jit, grad, vmap, scan and so on; wrapping
        it again changes nothing, and wrapping equal functions gives equal ones.

    Source: Lavin and Gray 2016, arXiv 1509.09308 (the Winograd form of some 3x3 convolutions).
    """
    if isinstance(fn, Partial):
        return cast("F", Partial(loop_safe(fn.func), *fn.args, **fn.keywords))
    if isinstance(fn, _LoopSafe) or not AVAILABLE:
        return cast("F", fn)
    return cast("F", _LoopSafe(fn))


@dataclasses.dataclass(frozen=True)
class _LoopSafe:
    """A function of arrays that rewrites another one each time it is called.

    Equal for equal functions, so that a jitted caller does not trace it again.
    """

    fn: Callable[..., Any]

    __name__ = "loop_safe"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # An eager call is in no loop. If a function closes over what is traced, new arrays are too.
        if jax.default_backend() != "cpu" or not is_tracing(args, kwargs):
            return self.fn(*args, **kwargs)
        leaves, structure = jax.tree.flatten((args, kwargs))
        traced = [isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves]

        def fn(*arrays: jax.Array) -> Any:
            rest = iter(arrays)
            merged = [next(rest) if t else x for t, x in zip(traced, leaves, strict=True)]
            args, kwargs = jax.tree.unflatten(structure, merged)
            return self.fn(*args, **kwargs)

        arrays = [leaf for leaf, t in zip(leaves, traced, strict=True) if t]
        jaxpr, out = jax.make_jaxpr(fn, return_shape=True)(*arrays)
        rewritten = _rewrite(jaxpr)
        if rewritten is jaxpr:
            return self.fn(*args, **kwargs)
        return jax.tree.unflatten(jax.tree.structure(out), jaxprs.jaxpr_as_fun(rewritten)(*arrays))


def _rewrite(jaxpr: Any) -> Any:
    """Returns a jaxpr, open or closed, with its convolutions rewritten; itself if it has none.

    Remembered by the jaxpr's identity, so that a jitted function inside is compiled once.
    """
    if jaxpr not in _rewritten:
        inner = getattr(jaxpr, "jaxpr", jaxpr)
        eqns = list(inner.eqns)
        for number, eqn in enumerate(eqns):
            if eqn.primitive is lax.conv_general_dilated_p:
                x, w = (operand.aval for operand in eqn.invars)
                if primitives.supports(x, w, eqn.params):
                    params = {"shape": primitives.shape_of(x, w, eqn.params)}
                    eqns[number] = eqn.replace(primitive=primitives.forward_p, params=params)
            elif eqn.primitive.name in _POOLS:
                x, *others = (operand.aval for operand in eqn.invars)
                if not others and pooling.supports(x, eqn.params):
                    params = {"shape": pooling.shape_of(x, eqn.params)}
                    eqns[number] = eqn.replace(primitive=_POOLS[eqn.primitive.name], params=params)
            elif eqn.primitive.name in _CALLS:
                params = {name: _rewrite_parameter(value) for name, value in eqn.params.items()}
                if any(params[name] is not value for name, value in eqn.params.items()):
                    eqns[number] = eqn.replace(params=params)
        if all(map(operator.is_, eqns, inner.eqns)):
            _rewritten[jaxpr] = None
        elif inner is jaxpr:
            _rewritten[jaxpr] = jaxpr.replace(eqns=eqns)
        else:
            _rewritten[jaxpr] = jaxpr.replace(jaxpr=inner.replace(eqns=eqns))
    rewritten = _rewritten[jaxpr]
    return jaxpr if rewritten is None else rewritten


def _rewrite_parameter(value: Any) -> Any:
    """Returns an equation's parameter with the jaxprs in it rewritten; itself if it has none."""
    if isinstance(value, _JAXPRS):
        return _rewrite(value)
    if isinstance(value, tuple) and any(isinstance(v, _JAXPRS) for v in value):
        members = tuple(_rewrite_parameter(v) for v in value)
        return value if all(a is b for a, b in zip(members, value, strict=True)) else members
    return value
