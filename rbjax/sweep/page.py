"""The page of a grid: what follows, its tables and figures, what is missing, how it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rbjax import atomic
from rbjax.analysis import document, markdown, origin
from rbjax.analysis.document import (
    PAGE_FILE,
    Document,
    Folded,
    Made,
    Picture,
    Section,
    Spans,
    Tile,
)
from rbjax.console import printable
from rbjax.paths import expanded
from rbjax.sweep.grid import Cell

_MOST = 100
"""Names of missing cells that are said."""


class Origin(NamedTuple):
    """What the results of a grid were made of, by what, and when."""

    there: int
    """Cells with a result."""
    cells: int
    versions: Mapping[str, Sequence[str]]
    devices: Sequence[str]
    dates: Sequence[str]
    """The first and the last day."""

    def __str__(self) -> str:
        parts = [f"{self.there} of {self.cells} cells"]
        parts += [f"{name} {' and '.join(of)}" for name, of in self.versions.items() if of]
        parts += [" and ".join(self.devices)] if self.devices else []
        return ", ".join([*parts, *([" to ".join(self.dates)] if self.dates else [])])


def origin_of(cells: Sequence[Cell], results: str) -> Origin:
    """Returns what a table is of: cells, versions, devices and dates.

    Args:
        cells: the grid.
        results: the folder of results.
    """
    folder = expanded(results, field="results")
    files = [folder / f"{cell.name}.json" for cell in cells]
    stored: list[Any] = [atomic.read_json(file) for file in files if file.exists()]
    dates = sorted({about["date"] for about in stored})
    return Origin(
        there=len(stored),
        cells=len(cells),
        versions={
            library: sorted({about["versions"][library] for about in stored})
            for library in ("rbjax", "jax")
        },
        devices=sorted({about["device"] for about in stored}),
        dates=list(dict.fromkeys((dates[0], dates[-1]))) if dates else [],
    )


class About(NamedTuple):
    """What a grid is."""

    title: str
    cells: Sequence[Cell]
    made: Origin
    missing: Mapping[str, Sequence[str]]
    """Names of cells without a result, by what became of them."""
    command: str
    """Which makes all of it again."""
    first: Sequence[str] = ()
    """Headings of the sections that say what follows, which stand before the others."""


def write(
    folder: Path,
    lead: Sequence[Spans],
    sections: Sequence[Section],
    about: About,
    pictures: Sequence[Picture] = (),
) -> Path:
    """Writes report.html and returns its path.

    Args:
        folder: where.
        lead: paragraphs below the title.
        sections: tables and sentences, as `markdown.sections` makes them.
        about: what they are of.
        pictures: what was drawn.
    """
    ahead = _under(sections, about.first)
    sections = [*ahead, *(section for section in sections if section not in ahead)]
    if pictures:
        sections.append(Section("Figures", list(pictures)))
    if about.missing:
        sections.append(Section("What is missing", _named(about.missing)))
    path = folder / PAGE_FILE
    document.write(
        path,
        Document(
            title=printable(about.title),
            lead=lead,
            tiles=[_cells_tile(about), *_verdicts(sections)],
            sections=sections,
            made=_made(about),
        ),
    )
    return path


def _under(sections: Sequence[Section], headings: Sequence[str]) -> list[Section]:
    """Returns the sections with these headings, and those below each."""
    found, within = [], False
    for section in sections:
        within = section.heading in headings if section.level == 2 else within
        found += [section] if within else []
    return found


def _named(missing: Mapping[str, Sequence[str]]) -> list[Folded]:
    parts: list[Folded] = []
    for words, names in missing.items():
        more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
        said = f"{', '.join(map(printable, names[:_MOST]))}{more}."
        parts.append(Folded([("strong", f"{len(names)} {words}")], said))
    return parts


def _cells_tile(about: About) -> Tile:
    seeds = sorted({int(cell.config.seed) for cell in about.cells})
    said = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}"
    short = said if len(seeds) <= 10 else f"{len(seeds)} seeds, {seeds[0]} to {seeds[-1]}"
    left = about.made.cells - about.made.there
    note = f"{left} missing, named at the end; {short}" if left else f"none is missing; {short}"
    return Tile("runs that are finished", f"{about.made.there} of {about.made.cells}", note=note)


def _verdicts(sections: Sequence[Section]) -> list[Tile]:
    counts = markdown.verdicts(sections)
    total = sum(counts.values())
    titles = {"passed": "hold", "failed": "do not hold"}
    tiles = []
    for look, words in markdown.VERDICTS.items():
        found = {word: counts[word] for word in words if word in counts}
        if total:
            said = ", ".join(f"{word}: {number}" for word, number in found.items())
            label = f"claims that {titles.get(look, 'are open or missing')}"
            tiles.append(Tile(label, f"{sum(found.values())} of {total}", note=said))
    return tiles


def _made(about: About) -> Made:
    made = about.made
    versions = {name: " and ".join(of) for name, of in made.versions.items() if of}
    when = f", {' to '.join(made.dates)}" if made.dates else ""
    written = origin.command()
    again = [("Page written", written)] if written != about.command else []
    return Made(
        commands=[("Made", about.command), *again],
        versions=versions,
        device=f"{' and '.join(made.devices)}{when}" if made.devices else None,
    )
