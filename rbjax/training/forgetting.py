"""Compiled training steps that nobody has any more, and pmap keeps."""

from __future__ import annotations

import contextlib
import importlib
import weakref
from collections.abc import Callable
from typing import Any


def let_go_with[Compiled: Callable[..., Any]](
    compiled: Compiled, function: Callable[..., Any]
) -> Compiled:
    """Returns what pmap made of a function, with which what it compiled is let go.

    pmap's cache holds functions weakly, and by each what was made of it, which holds the function:
    the programs of every training would stay in memory to the end (jax 0.12).

    Args:
        compiled: what `jax.pmap` returned.
        function: what it was given.
    """
    weakref.finalize(compiled, _forget, function)
    return compiled


def _forget(function: Callable[..., Any]) -> None:
    with contextlib.suppress(ImportError, AttributeError):  # another JAX
        module: Any = importlib.import_module("jax._src.pmap")
        module._cached_shard_map.evict_function(function)
