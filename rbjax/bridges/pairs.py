"""Haiku's and other pairs of pure functions, `init` and `apply`, with parameters and state."""

from __future__ import annotations

import inspect
from typing import Any

from rbjax.bridges.asking import KEYS, Asked, modes
from rbjax.closures import Closure
from rbjax.errors import a_type

_WHAT = "the pair's apply"


def is_pair(model: Any) -> bool:
    """Returns whether a model is a pair of `init` and `apply`, by name or by place."""
    if isinstance(model, tuple) and len(model) == 2 and all(map(callable, model)):
        return True
    return callable(getattr(model, "init", None)) and callable(getattr(model, "apply", None))


def ask(pair: Any, *weights: Any) -> Asked:
    """Returns how a pair is asked: `apply(params, [state,] [no key,] images)`.

    Args:
        pair: `(init, apply)`, of which `apply` gives (logits, state) if there is a state.
        *weights: parameters, and the state if there is one.
    """
    apply = pair.apply if hasattr(pair, "apply") else pair[1]
    if not callable(apply):
        raise ValueError(f"{_WHAT} is {a_type(apply)}; it must be a function (params, ..., images)")
    names = list(inspect.signature(apply).parameters)
    has_state = len(names) > 1 and names[1] in ("state", "states")
    wanted = "wrap(pair, params, state)" if has_state else "wrap(pair, params)"
    if len(weights) != 1 + has_state:
        raise ValueError(
            f"{_WHAT} is called with ({', '.join(names)}), and wrap with {len(weights)} beside the "
            f"pair; give {wanted}"
        )
    takes_key = len(names) > len(weights) and names[len(weights)] in KEYS
    leading = len(weights) + takes_key + 1
    keywords = modes(apply, _WHAT, leading=leading)
    options = {"apply": apply, "takes_key": takes_key, "has_state": has_state}
    call = Closure(_apply, **options, keywords=tuple(keywords.items()))
    return Asked(call, _WHAT, weights)


def _apply(
    *arguments: Any,
    apply: Any,
    takes_key: bool,
    has_state: bool,
    keywords: tuple[tuple[str, bool], ...],
) -> Any:
    *weights, images = arguments
    answer = apply(*weights, *([None] if takes_key else []), images, **dict(keywords))
    return answer[0] if has_state else answer
