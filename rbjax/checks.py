"""What a person may pass: checks that raise a `ValueError` of one line.

Each names the field, the value and what is allowed. Values inside `jit` are not known and are not
checked; shapes are always known and always checked.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


def is_traced(*trees: Any) -> bool:
    """Returns whether any leaf of any tree stands for a value that is not known yet."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(trees))


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
