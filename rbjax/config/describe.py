"""The config and the tables as text, for `--help` and `--list`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from rbjax.config import catalog
from rbjax.config.field import Field, Group
from rbjax.config.fields import ATTACKS, GROUPS, TOP
from rbjax.config.schema import ConfigError
from rbjax.tables import HOMES, lookup


def describe() -> str:
    """Returns a table of every field: type, default, range and meaning."""
    lines = [_line(name, field) for name, field in TOP.items()]
    for prefix, group in {**GROUPS, "attacks.<label>": ATTACKS}.items():
        lines += ["", *_lines(f"{prefix}.", group)]
    return "\n".join(lines)


def listing(arguments: Sequence[str]) -> str:
    """Returns what `--list=KIND` prints.

    Raises:
        ConfigError: if no kind is given, or something besides.
        ValueError: for an unknown kind.
    """
    kinds = [argument.removeprefix("--list=") for argument in arguments if argument != "--list"]
    if len(kinds) != 1 or len(arguments) != 1:
        known = ", ".join(map(plural, HOMES))
        raise ConfigError(f"--list: give one kind and nothing else, --list=KIND; allowed: {known}")
    return describe_kind(kinds[0])


def describe_kind(kinds: str) -> str:
    """Returns what there is of a kind: each name, and what its maker says of it in one line.

    Args:
        kinds: a kind in the plural, "attacks", "imbalance_profiles".

    Raises:
        ValueError: for an unknown kind.
    """
    plurals = {plural(kind): kind for kind in HOMES}
    known = catalog.entries(lookup(plurals, kinds, what="list"))
    width = max((len(name) for name in known), default=0)
    return "\n".join(f"{name:<{width}}  {entry.summary}".rstrip() for name, entry in known.items())


def plural(kind: str) -> str:
    """Returns what `--list` calls a kind."""
    return kind.replace(" ", "_") + ("es" if kind.endswith("s") else "s")


def _lines(prefix: str, group: Group) -> list[str]:
    """Returns a line for each field, with the things that it is of, and their own defaults."""
    known = catalog.entries(group.kind) if group.kind else {}
    lines = []
    for name, field in group.every().items():
        notes = []
        if name not in group.own:
            by_thing = {
                thing: entry.options[name]
                for thing, entry in known.items()
                if name in entry.options
            }
            of = list(by_thing)
            choices = [option.choices or () for option in by_thing.values()]
            if any(choices):
                every = tuple(dict.fromkeys(choice for some in choices for choice in some))
                field = dataclasses.replace(field, choices=every)
            notes += [
                f"{_short(option.default)} for {thing}"
                for thing, option in by_thing.items()
                if option.default != field.default
            ]
        else:
            where = field.where or (lambda _: True)
            of = [thing for thing, entry in known.items() if where(entry)]
        if len(of) < len(known):
            others = [thing for thing in known if thing not in of]
            few = len(others) < len(of) and len(others) <= 3
            notes.append(f"not {', '.join(others)}" if few else f"only {', '.join(of)}")
        notes += [group.left_out[name]] if name in group.left_out else []
        lines.append(_line(prefix + name, field, notes))
    return lines


def _line(name: str, field: Field, more: list[str] | None = None) -> str:
    allowed = "|".join(map(str, field.choices)) if field.choices else field.kind.__name__
    value = "absent" if field.default is None else _short(field.default)
    notes = [f"in {field.unit}"] if field.unit else []
    notes += [field.bounds()] if field.bounds() else []
    notes += more or []
    tail = f" ({'; '.join(notes)})" if notes else ""
    return f"  {name:<32} {allowed:<12} {value:<14} {field.meaning}{tail}"


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
