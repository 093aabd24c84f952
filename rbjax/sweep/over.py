"""A grid made of a config and of values for some of its fields, as `rbjax sweep` is given them."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from absl import flags

from rbjax.command_line import parse, resolve
from rbjax.config import Config, ConfigError, flat

SEED = "seed"
"""The field over whose values means are taken."""
_FIXED = {
    "workdir": "each cell has a run directory of its own",
    "data_dir": "it decides nothing of what a run finds",
    "distributed": "each cell is a run of one process",
    "task": "a table is of runs of one task",
}
_LONGEST = 40
"""Letters of a value in the name of a cell."""


class Axis(NamedTuple):
    """A field that is swept over."""

    field: str
    """Its dotted name."""
    values: tuple[str, ...]
    """As they were typed."""
    title: str
    """The shortest name that no other axis has: "epsilon", "method" for method.name."""


def axes(given: Sequence[str]) -> list[Axis]:
    """Returns the axes of a grid.

    Args:
        given: of each the field and its values, "method.epsilon=2/255;4/255"; values are separated
            by ';', which no number, name or tuple has in it.

    Raises:
        ValueError: for one that is not of that form, or has fewer than two values; for a field that
            is given twice, or cannot be swept over.
    """
    parts: dict[str, tuple[str, ...]] = {}
    for text in given:
        name, equals, values = text.partition("=")
        field = name.strip().removeprefix("--").removeprefix("config.")
        if not equals or not field:
            raise ValueError(f"--over={text}: write --over='FIELD=VALUE;VALUE', quotes and all")
        if field in parts:
            raise ValueError(f"--over={field}: given twice; give all its values in one")
        if field in _FIXED:
            raise ValueError(f"--over={field}: cannot be swept over: {_FIXED[field]}")
        typed = [value.strip() for value in values.split(";")]
        if "" in typed or len(typed) < 2:
            raise ValueError(
                f"--over={text}: must have two values or more, separated by ';': "
                f"--over='{field}=VALUE;VALUE', in quotes, or the shell ends the command at ';' "
                f"(one value for all cells is --config.{field}=VALUE)"
            )
        again = next((value for value in typed if typed.count(value) > 1), None)
        if again is not None:
            raise ValueError(f"--over={field}: has the value {again} twice")
        parts[field] = tuple(typed)
    titles = _titles(list(parts))
    return [Axis(field, values, titles[field]) for field, values in parts.items()]


def _titles(fields: Sequence[str]) -> dict[str, str]:
    """Returns the shortest ends of dotted names that tell them apart."""
    parts = {field: field.removesuffix(".name").split(".") for field in fields}

    def shortest(field: str) -> str:
        own = parts[field]
        for length in range(1, len(own) + 1):
            if all(other[-length:] != own[-length:] for f, other in parts.items() if f != field):
                return ".".join(own[-length:])
        return field

    return {field: shortest(field) for field in fields}


def configs(arguments: Sequence[str], over: Sequence[Axis]) -> dict[str, Config]:
    """Returns the configs of a grid, one for each combination of values, seed by seed.

    Args:
        arguments: what all have in common, `--config=FILE[:VARIANT]` and `--config.FIELD=VALUE`.
        over: of `axes`.

    Returns:
        By the name of its cell, such as "seed=0,epsilon=2_255", each config, not yet resolved.

    Raises:
        ValueError: listing every mistake, with the cells that it is in; or if two are the same.
    """
    typed = {argument.partition("=")[0].lstrip("-") for argument in arguments}
    for axis in over:
        if f"config.{axis.field}" in typed:
            raise ValueError(f"--config.{axis.field}: is swept over (--over={axis.field}=...)")
    found: dict[str, Config] = {}
    mistakes = _Mistakes(over)
    for values in _combinations(over):
        name = _name(over, values)
        own = [f"--config.{a.field}={v}" for a, v in zip(over, values, strict=True)]
        with mistakes.of(name):
            found[name] = parse(["rbjax", *arguments, *own]).config
    mistakes.check()
    seen: dict[str, str] = {}
    for name, config in found.items():
        other = seen.setdefault(str(list(flat(config.to_dict()))), name)
        if other != name:
            raise ValueError(f"--over: {other} and {name} are the same run")
    return found


def check(configs: Mapping[str, Config], over: Sequence[Axis]) -> None:
    """Checks that all that configs name can be made, as a job does before it begins.

    Args:
        configs: by the names of their cells.
        over: the axes of the grid.

    Raises:
        ValueError: listing every mistake, with the cells that it is in.
    """
    mistakes = _Mistakes(over)
    for name, config in configs.items():
        with mistakes.of(name):
            resolve(config, name)
    mistakes.check()


def by_values(over: Sequence[Axis]) -> dict[tuple[str, ...], list[str]]:
    """Returns the names of the cells that differ in their seed alone, by the other values."""
    found: dict[tuple[str, ...], list[str]] = {}
    for values in _combinations(over):
        others = tuple(v for v, axis in zip(values, over, strict=True) if axis.field != SEED)
        found.setdefault(others, []).append(_name(over, values))
    return found


class _Mistakes:
    """What is wrong with the cells of a grid, each said once."""

    def __init__(self, over: Iterable[Axis]) -> None:
        self._fields = [axis.field for axis in over]
        self._num_cells = 0
        self._found: dict[str, list[str]] = {}

    @contextlib.contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Notes what its body finds wrong with a cell."""
        self._num_cells += 1
        try:
            yield
        except (ValueError, flags.Error) as error:
            for line in str(error).splitlines():
                for field in self._fields:  # as they were typed
                    line = re.sub(rf"--config\.{re.escape(field)}(?=[=:])", f"--over={field}", line)
                self._found.setdefault(line, []).append(name)

    def check(self) -> None:
        """Raises a ValueError with all that was noted, if anything was."""
        lines = []
        for line, names in self._found.items():
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            where = f" (in {names[0]}{more})" if len(names) < self._num_cells else ""
            lines.append(f"{line}{where}")
        if lines:
            raise ConfigError("\n".join(lines))


def _combinations(over: Sequence[Axis]) -> list[tuple[str, ...]]:
    """Returns all combinations of values, those of the first seed first: then a table is soon."""
    found = list(itertools.product(*(axis.values for axis in over)))
    at = next((i for i, axis in enumerate(over) if axis.field == SEED), None)
    return found if at is None else sorted(found, key=lambda v: over[at].values.index(v[at]))


def _name(over: Sequence[Axis], values: Sequence[str]) -> str:
    """Returns the name of a cell, and so of its run directory."""
    # In whatever order they were typed: the same values are the same cell.
    parts = sorted(
        zip(over, values, strict=True), key=lambda part: (part[0].field != SEED, part[0].field)
    )
    return ",".join(f"{axis.title}={_legible(value)}" for axis, value in parts)


def _legible(value: str) -> str:
    """Returns a value as a part of a file's name: 2/255 is 2_255, and (8, 8) is 8+8.

    Whatever the other values are: another one does not rename the cells that there are.
    """
    inner = value.strip("()[] ")
    if len(inner) <= _LONGEST and re.fullmatch(r"[\w.-]+(,\s*[\w.-]+)*", inner):
        return re.sub(r",\s*", "+", inner)
    if re.fullmatch(r"\d+/\d+", value):
        return value.replace("/", "_")
    plain = re.sub(r"[^\w.-]+", "_", inner)[:_LONGEST]
    return f"{plain}-{hashlib.sha256(value.encode()).hexdigest()[:6]}"
