"""Any JAX function's convolutions, with gradients that stay fast inside loops on CPU.

XLA's CPU backend runs the gradients of a convolution 10 to 30 times slower inside `fori_loop`,
`scan` and `while_loop` than outside (jax-ml/jax issue 12868). `loop_safe` traces a function and
puts a primitive of ours (`primitives`) in the place of each plain 2-D convolution, also in the
jitted, rematerialised and looped functions inside it. What it does not know it leaves as it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.tree_util import Partial

from rbjax.convolution import rewrite

__all__ = ["loop_safe"]


def loop_safe[F: Callable[..., Any]](fn: F) -> F:
    """Returns a function whose convolutions' gradients stay fast inside loops on CPU.

    Same values and derivatives of every order as `fn`, to float32 rounding. Rewritten are 2-D
    float32 and bfloat16 convolutions in NHWC/HWIO without groups and dilation; everything else,
    and functions with a derivative rule of their own, run as they are. On a GPU or TPU, and called
    outside every transformation, `fn` itself is called.

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
    if isinstance(fn, _LoopSafe) or not rewrite.AVAILABLE:
        return cast("F", fn)
    return cast("F", _LoopSafe(fn))


@dataclasses.dataclass(frozen=True)
class _LoopSafe:
    """A function of arrays that rewrites another one each time it is called.

    Equal for equal functions, so that a jitted caller does not trace it again.
    """

    fn: Callable[..., Any]

    @property
    def __name__(self) -> str:
        return getattr(self.fn, "__name__", type(self.fn).__name__)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        leaves, structure = jax.tree.flatten((args, kwargs))
        # An eager call is in no loop. If a function closes over what is traced, new arrays are too.
        is_traced = any(isinstance(leaf, Tracer) for leaf in leaves)
        if jax.default_backend() != "cpu" or not (is_traced or isinstance(jnp.zeros(()), Tracer)):
            return self.fn(*args, **kwargs)
        traced = [isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves]

        def fn(*arrays: jax.Array) -> Any:
            rest = iter(arrays)
            merged = [next(rest) if t else x for t, x in zip(traced, leaves, strict=True)]
            args, kwargs = jax.tree.unflatten(structure, merged)
            return self.fn(*args, **kwargs)

        arrays = [leaf for leaf, t in zip(leaves, traced, strict=True) if t]
        rewritten = rewrite.trace(fn, arrays)
        return self.fn(*args, **kwargs) if rewritten is None else rewritten()
