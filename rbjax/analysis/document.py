"""What pages are made of: headline numbers, tables that sort, pictures, and how it was made.

A page is one file that needs no other. Whatever a name holds, the templates escape it.
"""

from __future__ import annotations

import functools
import importlib.resources
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import markupsafe

from rbjax import atomic
from rbjax.console import printable
from rbjax.sheet import spoken

PAGE_FILE = "report.html"
Spans = Sequence[tuple[str, str]]
"""A line in pieces, each with what it is: "code", "strong", a class of the page's style, or ""."""


class Picture(NamedTuple):
    """A drawing for the page."""

    caption: str
    svg: markupsafe.Markup
    kind = "picture"


class Cell(NamedTuple):
    """One of a table."""

    text: str
    value: float | None = None
    """What it is sorted by; None or NaN: its text, after all numbers."""
    look: str = ""
    """A class of the page's style."""


class Table(NamedTuple):
    """A table that sorts by any of its columns."""

    headings: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    foot: Sequence[Sequence[str]] = ()
    """Rows that stay below."""
    caption: str = ""
    kind = "table"


class Words(NamedTuple):
    """A paragraph."""

    spans: Spans
    kind = "words"


class Listed(NamedTuple):
    """Sentences, each with a bullet."""

    lines: Sequence[Spans]
    kind = "listed"


class Folded(NamedTuple):
    """A line that opens to what stands behind it."""

    spans: Spans
    text: str
    kind = "folded"


class Section(NamedTuple):
    """A heading with what stands below it."""

    heading: str
    parts: Sequence[Words | Listed | Folded | Table | Picture]
    level: int = 2
    short: str = ""
    """The heading in the list of contents, where it is another."""
    name: str = ""
    """Where links point; `write` gives each one of its own."""


class Tile(NamedTuple):
    """A number of the headline."""

    label: str
    value: str
    interval: str = ""
    note: str = ""


class Made(NamedTuple):
    """How it was made."""

    commands: Sequence[tuple[str, str]] = ()
    """What was done, and by which command."""
    versions: Mapping[str, str] = {}
    device: str | None = None
    seed: int | None = None
    configs: Sequence[tuple[str, Sequence[tuple[str, str]]]] = ()
    """A title, and the fields with their values."""


class Document(NamedTuple):
    """A page that is read from above."""

    title: str
    lead: Sequence[Spans]
    tiles: Sequence[Tile]
    sections: Sequence[Section]
    made: Made


def write(path: Path, document: Document) -> None:
    """Writes a page.

    Args:
        path: of the file; it is replaced as a whole or not at all.
        document: what it shows.
    """
    sections = [
        section._replace(name=f"part{i}-{re.sub('[^a-z0-9]+', '-', section.heading.lower())}")
        for i, section in enumerate(document.sections)
    ]
    render(path, "document", **document._replace(sections=sections)._asdict())


def render(path: Path, template: str, **values: Any) -> None:
    """Writes a template's page.

    Args:
        path: of the file; it is replaced as a whole or not at all.
        template: its name, without the suffix.
        **values: what it shows.
    """
    text = _environment().get_template(f"{template}.html.jinja").render(**values)
    with atomic.replace(path) as file:
        file.write(text.encode(errors="backslashreplace"))


@functools.cache
def _environment() -> jinja2.Environment:
    folder = importlib.resources.files("rbjax.analysis")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: folder.joinpath(name).read_text("utf-8")),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["spoken"] = spoken
    return environment


def flat(config: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Returns the fields of a config with their values, in order of their names."""
    fields = []
    for name, value in sorted(config.items()):
        if isinstance(value, Mapping):
            fields += flat(value, f"{before}{name}.")
        else:
            fields.append((f"{before}{name}", "none" if value is None else printable(str(value))))
    return fields


def share(value: float) -> Cell:
    """Returns a ratio in per cent as a cell, "-" where there is none."""
    return Cell(f"{100 * value:.1f}" if value == value else "-", value)
