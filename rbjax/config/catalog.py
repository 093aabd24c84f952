"""What things there are of each kind, and their options: what `--help` and a check need to know.

Where the tables are imported, they are asked.  Elsewhere it is read from `options.json`, so that
`--help` and a typo are answered without waiting for JAX; `python -m rbjax.config` writes that file,
and a test holds it to the makers.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
from pathlib import Path
from typing import Any, NamedTuple

from rbjax import tables
from rbjax.options import Option
from rbjax.tables import Table

FILE = Path(__file__).with_name("options.json")

_KINDS: dict[str, type] = {kind.__name__: kind for kind in (int, float, bool, str, tuple, object)}


class Entry(NamedTuple):
    """What is known of one thing that a config can name."""

    name: str
    summary: str = ""
    options: dict[str, Option] = {}  # noqa: RUF012 -- never changed
    takes: tuple[str, ...] = ()
    """Of what callers supply, what its maker has a parameter for."""
    makes: str = ""
    """The type that its maker says it returns; "" where it says none."""


def entries(kind: str) -> dict[str, Entry]:
    """Returns what there is of a kind, by name.

    Args:
        kind: one of `rbjax.tables.HOMES`.
    """
    table = tables.of_kind(kind, imported=False)
    if table is None:
        return _generated()[kind]
    return {name: _read(kind, table, name) for name in table.names()}


def entry(kind: str, name: str) -> Entry:
    """Returns what is known of a thing by its name, or by `package.module:maker`.

    Raises:
        ValueError: if there is no such module or maker.
    """
    table = tables.of_kind(kind, imported=False)
    if tables.is_path(name):
        table = tables.of_kind(kind)
        return _read(kind, table, name) if table is not None else Entry(name)
    base = name.partition("/")[0]  # of a dataset, one of its configs
    if table is None:
        return _generated()[kind].get(name) or _generated()[kind].get(base) or Entry(name)
    known = [one for one in (name, base) if one in table.names()]
    return _read(kind, table, known[0]) if known else Entry(name)


def build() -> dict[str, dict[str, Any]]:
    """Returns the content of `options.json`: every kind's things, read from their makers."""
    built: dict[str, dict[str, Any]] = {}
    for kind in tables.HOMES:
        tables.of_kind(kind)
        built[kind] = {name: _plain(known) for name, known in entries(kind).items()}
    return built


def text() -> str:
    """Returns the text of `options.json`."""
    return json.dumps(build(), indent=1) + "\n"


@functools.cache
def _generated() -> dict[str, dict[str, Entry]]:
    kinds = json.loads(FILE.read_text(encoding="utf-8"))
    entries: dict[str, dict[str, Entry]] = {kind: {} for kind in kinds}
    for kind, known in kinds.items():
        for name, plain in known.items():
            options = {}
            for option, fields in plain["options"].items():
                said = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
                options[option] = Option(**{**said, "kind": _KINDS[fields["kind"]]})
            entries[kind][name] = Entry(
                name, plain["summary"], options, tuple(plain["takes"]), plain["makes"]
            )
    return entries


def _read(kind: str, table: Table[Any], name: str) -> Entry:
    maker = table.find(name)
    if not callable(maker):  # a dataset that is described, not made
        return Entry(name, summary=getattr(maker, "source", ""), makes=type(maker).__name__)
    return _read_maker(kind, name, maker)


@functools.cache
def _read_maker(kind: str, name: str, maker: Any) -> Entry:
    table = tables.of_kind(kind)
    assert table is not None
    options = {
        option: dataclasses.replace(said, optional=True, required=False)
        if option in table.derived
        else said
        for option, said in table.options(maker).items()
        if said.kind is not object
    }
    parameters = inspect.signature(maker).parameters
    takes = tuple(parameter for parameter in table.supplied if parameter in parameters)
    return Entry(name, tables.summary(maker), options, takes, tables.made_by(maker))


def _plain(known: Entry) -> dict[str, Any]:
    options = {
        name: {
            key: value.__name__ if key == "kind" else value
            for key, value in vars(option).items()
            if key in ("kind", "default", "meaning")
            or (value is not None and value is not False and value != "")
        }
        for name, option in known.options.items()
    }
    return {
        "summary": known.summary,
        "options": options,
        "takes": list(known.takes),
        "makes": known.makes,
    }
