"""Flax modules: equal ones that are made anew are one function; one without weights is none."""

from __future__ import annotations

import functools
import sys
import types
from typing import Any

_MOST = 256


def lacks_variables(function: Any) -> bool:
    """Returns whether a function is a Linen module, or its `apply`, without variables."""
    linen: Any = sys.modules.get("flax.linen")
    module: Any = getattr(function, "__self__", function)
    if linen is None or not isinstance(module, linen.Module) or module.scope is not None:
        return False
    return module is function or getattr(function, "__func__", None) is linen.Module.apply


def one_of_equals(function: Any) -> Any:
    """Returns the `apply` of the first Linen module that is equal to this one's; else as it is.

    Bound methods of equal modules differ, and what is compiled for each would stay for ever. A
    module that is bound to variables is not known by its fields.
    """
    linen: Any = sys.modules.get("flax.linen")  # nobody has such a module who did not import it
    module: Any = getattr(function, "__self__", None)
    if linen is None or not isinstance(module, linen.Module) or module.scope is not None:
        return function
    if getattr(function, "__func__", None) is not linen.Module.apply:
        return function
    try:
        return _first(type(module), module)
    except TypeError:  # a field that cannot be hashed
        return function


@functools.lru_cache(_MOST)
def _first(kind: type, module: Any) -> types.MethodType:
    del kind  # that modules of two classes are equal is for the classes to say
    return module.apply
