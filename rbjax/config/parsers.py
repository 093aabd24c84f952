"""How a value of each type is read from the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from absl import flags

from rbjax.config.numbers import parse_fraction


class Optional(flags.ArgumentParser):
    """A value or "none", which leaves the field absent."""

    def __init__(self, kind: type) -> None:
        self._kind = kind
        self.syntactic_help = f"{kind.__name__}, or none"

    def parse(self, argument: Any) -> Any:
        """Returns the value; absl's name."""
        if argument is None or str(argument).lower() == "none":
            return None
        if isinstance(argument, self._kind):
            return argument
        return PARSERS[self._kind](str(argument))

    def flag_type(self) -> str:
        """Returns the type's name, for absl."""
        return self._kind.__name__


def _whole(text: str) -> int:
    value = parse_fraction(text)
    if not value.is_integer():
        raise ValueError(f"{text!r} is not a whole number")
    return int(value)


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


def _numbers(text: str) -> tuple[float, ...]:
    parts = [part for part in text.strip("()[] ").split(",") if part.strip()]
    values = [parse_fraction(part) for part in parts]
    return tuple(int(value) if value.is_integer() else value for value in values)


PARSERS: dict[type, Callable[[str], Any]] = {
    float: parse_fraction,
    int: _whole,
    bool: _truth,
    tuple: _numbers,
    str: str,
}
"""By the type of the field."""
