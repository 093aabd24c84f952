"""Errors of rbjax's own, and how one names what was meant.

What a person gave wrong is a plain `ValueError`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LONGEST = 100


class TrainingStoppedError(RuntimeError):
    """Training ended early: the loss is not finite, or the run was asked to stop."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns "; did you mean 'x'?" for the known name nearest to a wrong one, or ""."""
    close = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def a_type(value: object) -> str:
    """Returns what a value is, for messages: "an int", "None"."""
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def spelled(value: object) -> str:
    """Returns a value for messages, in one line of at most 100 characters."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # an object whose `repr` fails, or a number of more digits than Python spells
        text = a_type(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]} ..."
