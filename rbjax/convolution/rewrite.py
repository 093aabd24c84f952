"""Puts the primitives of this package in the place of convolutions and pooling in a function.

This is the one file that handles jaxprs. Where a JAX has none of what it imports, `AVAILABLE` is
False and `loop_safe` returns functions as they are.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import lax

try:
    from jax.extend import core as jaxprs

    from rbjax.convolution import pooling, primitives

    # The two are one class from some JAX on.
    _JAXPRS: tuple[type, ...] = (jaxprs.Jaxpr, getattr(jaxprs, "ClosedJaxpr", jaxprs.Jaxpr))
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


def trace(fn: Callable[..., Any], arrays: Sequence[Any]) -> Callable[[], Any] | None:
    """Traces a function and rewrites its convolutions.

    Args:
        fn: a function of arrays.
        arrays: its arguments.

    Returns:
        A function that computes `fn(*arrays)`, or None if there is nothing to rewrite.
    """
    closed, out = jax.make_jaxpr(fn, return_shape=True)(*arrays)
    rewritten = _rewrite(closed)
    if rewritten is closed:
        return None
    return lambda: jax.tree.unflatten(
        jax.tree.structure(out), jaxprs.jaxpr_as_fun(rewritten)(*arrays)
    )


def _rewrite(jaxpr: Any) -> Any:
    """Returns a jaxpr, open or closed, with its convolutions rewritten; itself if it has none.

    Remembered by the jaxpr's identity, so that a jitted function inside is compiled once.
    """
    if jaxpr not in _rewritten:
        inner = getattr(jaxpr, "jaxpr", jaxpr)
        eqns = [_rewrite_equation(eqn) for eqn in inner.eqns]
        if all(new is old for new, old in zip(eqns, inner.eqns, strict=True)):
            _rewritten[jaxpr] = None
        elif inner is jaxpr:
            _rewritten[jaxpr] = jaxpr.replace(eqns=eqns)
        else:
            _rewritten[jaxpr] = jaxpr.replace(jaxpr=inner.replace(eqns=eqns))
    rewritten = _rewritten[jaxpr]
    return jaxpr if rewritten is None else rewritten


def _rewrite_equation(eqn: Any) -> Any:
    """Returns an equation with its convolutions rewritten; itself if it has none."""
    if eqn.primitive is lax.conv_general_dilated_p:
        x, w = (operand.aval for operand in eqn.invars)
        if not primitives.supports(x, w, eqn.params):
            return eqn
        shape = primitives.shape_of(x, w, eqn.params)
        return eqn.replace(primitive=primitives.forward_p, params={"shape": shape})
    if eqn.primitive is lax.reduce_window_max_p:
        if not pooling.supports(eqn.invars[0].aval, eqn.params):
            return eqn
        window = tuple(eqn.params["window_dimensions"][1:3])
        return eqn.replace(primitive=pooling.max_pool_p, params={"window": window})
    if eqn.primitive.name not in _CALLS:
        return eqn
    params = {name: _rewrite_parameter(value) for name, value in eqn.params.items()}
    if all(params[name] is value for name, value in eqn.params.items()):
        return eqn
    return eqn.replace(params=params)


def _rewrite_parameter(value: Any) -> Any:
    """Returns an equation's parameter with the jaxprs in it rewritten; itself if it has none."""
    if isinstance(value, _JAXPRS):
        return _rewrite(value)
    if isinstance(value, tuple) and any(isinstance(v, _JAXPRS) for v in value):
        members = tuple(_rewrite_parameter(v) for v in value)
        return value if all(a is b for a, b in zip(members, value, strict=True)) else members
    return value
