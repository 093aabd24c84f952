"""What a person may pass: checks that raise a `ValueError` of one line.

Each names the field, the value and what is allowed. Values inside `jit` are not known and are not
checked; shapes are always known and always checked.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from rbjax.tables import lookup, nearest


def is_traced(*trees: Any) -> bool:
    """Returns whether any leaf of any tree stands for a value that is not known yet."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(trees))


def make[T](
    table: Mapping[str, Callable[..., T]], name: str, options: Mapping[str, Any], *, what: str
) -> T:
    """Returns `table[name](**options)`, with unknown and missing options named.

    Args:
        table: makers by name.
        name: the maker asked for.
        options: its keywords.
        what: what the table holds, for the messages.

    Returns:
        What the maker makes.

    Raises:
        ValueError: for an unknown name, an unknown option or an option that is missing.
    """
    maker = lookup(table, name, what=what)
    parameters = inspect.signature(maker).parameters
    for option in options:
        if option not in parameters:
            raise ValueError(
                f"{what} {name!r} has no option {option!r}; allowed: "
                f"{', '.join(parameters)}{nearest(option, parameters)}"
            )
    for option, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and option not in options:
            raise ValueError(f"{what} {name!r} needs its option {option!r}")
    return maker(**options)


def integer(field: str, value: Any, *, low: int, high: int | None = None) -> int:
    """Returns `value` as an int of at least `low`, and of at most `high` if there is one.

    Raises:
        ValueError: if it is not a whole number, or out of range.
    """
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):
        most = "" if high is None else f" and at most {high}"
        raise ValueError(f"{field} is {value!r}; it must be a whole number of at least {low}{most}")
    return int(value)


def real(field: str, value: Any, *, low: float = 0.0, high: float = math.inf) -> float:
    """Returns `value` as a finite float in [`low`, `high`].

    Raises:
        ValueError: if it is not a number, not finite or out of range.
    """
    numeric = isinstance(value, int | float | np.number | np.ndarray | jax.Array)
    if isinstance(value, bool) or not numeric or np.ndim(value) != 0:
        raise ValueError(f"{field} is {value!r}; it must be a number")
    number = float(value)
    if not math.isfinite(number) or not low <= number <= high:
        bounds = f"at least {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
        raise ValueError(f"{field} is {number!r}; it must be {bounds}")
    return number


def is_tracing() -> bool:
    """Returns whether this runs inside a transformation (`jit`, `grad`, `vmap`), on any values."""
    return is_traced(jnp.zeros(()))


def is_known(value: Any) -> bool:
    """Returns whether the values can be read here: not traced, and on this host."""
    return not isinstance(value, Tracer) and getattr(value, "is_fully_addressable", True)
