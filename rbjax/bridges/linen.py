"""Flax Linen: a module and its variables."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from rbjax import modules
from rbjax.bridges.asking import Asked, modes
from rbjax.closures import Closure
from rbjax.errors import a_type

_WHAT = "the Linen module"


def ask(module: Any, *weights: Any) -> Asked:
    """Returns how a Linen module is asked: by the running statistics, without dropout.

    Args:
        module: unbound; or bound to its variables.
        *weights: the variables; or the parameters alone.
    """
    if not weights and module.scope is not None:
        module, weights = module.unbind()[0], module.unbind()[1:]
    if len(weights) != 1 or not isinstance(weights[0], Mapping):
        given = ", ".join(map(a_type, weights)) or "nothing"
        raise ValueError(
            f"{_WHAT} {type(module).__name__} comes with {given} beside it; give "
            'wrap(module, variables), variables a dict such as {"params": ..., "batch_stats": ...}'
        )
    (variables,) = weights
    if "params" not in variables:
        variables = {"params": variables}
    # The function that `__call__` was before Flax wrapped it has its signature.
    written = inspect.unwrap(type(module).__call__)
    keywords = modes(written, _WHAT, leading=2)
    apply = modules.one_of_equals(module.apply)
    return Asked(Closure(apply, **keywords) if keywords else apply, _WHAT, (variables,))
