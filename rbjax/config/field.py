"""What the schema says of one field."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
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
    defaults: Mapping[str, Any] = MappingProxyType({})
    """The defaults of those names in its group that have others."""

    def default_for(self, names: tuple[str, ...]) -> Any:
        """Returns the default under a name, the first of several that has one of its own."""
        return next((self.defaults[name] for name in names if name in self.defaults), self.default)
