"""What the schema says of one field."""

from __future__ import annotations

from typing import Any, NamedTuple


class Field(NamedTuple):
    """One field of the config."""

    kind: type
    default: Any
    meaning: str
    low: float | None = None
    high: float | None = None
    above: float | None = None
    """An open lower bound."""
    unit: str = ""
    choices: tuple[str, ...] | None = None
    only: tuple[str, ...] | None = None
    """The names in its group that the field belongs to; None is all of them."""
    optional: bool = False
    """Whether it may stay absent where it applies."""
    several: bool = False
    """Whether it may hold several names joined by "+"; the fields of each then apply."""
