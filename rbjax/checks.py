"""What a person may pass: checks that raise a `ValueError` of one line.

Each names the field, the value and what is allowed.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np


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
