"""Tables and sentences that are written as Markdown, as the parts of a page.

What our own reports use of it: headings, paragraphs, bullets, tables, `code` and **strong**; all
else is text. A verdict that begins a bullet or stands alone in a cell is marked by what it says.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence

from rbjax.analysis.document import Cell, Listed, Section, Spans, Table, Words
from rbjax.console import printable

VERDICTS = {
    "passed": ("yes", "holds"),
    "failed": ("no", "fails", "is reversed"),
    "soft": ("open", "is open", "missing", "is missing"),
}
"""Words of verdicts, by the class of the page's style."""
_LOOKS = {word: look for look, words in VERDICTS.items() for word in words}
_DIGITS = r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[+-]?\d+)?"
_NUMBER = re.compile(rf"[<>]? ?({_DIGITS})(?=$|\s|%|;)")
"""What a cell begins with, by which it is sorted: not so the first of a list, "7, 9, 8"."""
_LONG = 24
"""Letters above which a cell of words is broken into lines."""


def sections(text: str) -> tuple[list[Spans], list[Section]]:
    """Returns the paragraphs above the first heading, and the sections.

    Args:
        text: Markdown; its highest headings become those of the page.
    """
    lead: list[Spans] = []
    found: list[Section] = []
    depths = [len(line) - len(line.lstrip("#")) for line in text.splitlines() if line[:1] == "#"]
    top = min(depths, default=1)
    for kind, lines in _blocks(text):
        if kind == "heading":
            heading = lines[0].lstrip("#")
            level = 2 + len(lines[0]) - len(heading) - top
            found.append(Section(printable(heading.strip()), [], min(level, 4)))
        elif found:
            found[-1] = found[-1]._replace(parts=[*found[-1].parts, _part(kind, lines)])
        else:
            lead += [spans(" ".join(lines))] if kind == "words" else map(spans, lines)
    return lead, found


def verdicts(found: Iterable[Section]) -> dict[str, int]:
    """Returns how many verdicts there are of each word."""
    counts: dict[str, int] = {}
    for part in itertools.chain.from_iterable(section.parts for section in found):
        if isinstance(part, Table):
            words = [row[-1].text for row in part.rows if row and row[-1].text in _LOOKS]
        elif isinstance(part, Listed):
            words = [line[0][1] for line in part.lines if line and line[0][0] in VERDICTS]
        else:
            words = []
        for word in (word.rstrip(".") for word in words):
            counts[word] = counts.get(word, 0) + 1
    return counts


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Returns a table of texts: by the numbers that a column's begin with it is sorted.

    Args:
        headings: M.
        rows: of M texts; a short one is filled up.
    """
    width = len(headings)
    body = [[*row, *[""] * (width - len(row))][:width] for row in rows]
    columns = [_column([row[i] for row in body]) for i in range(width)]
    named = [heading or "row" for heading in headings]  # which a button says
    return Table(named, list(map(list, zip(*columns, strict=True))) if body else [])


def spans(line: str) -> Spans:
    """Returns a line in pieces, a verdict that it begins with first."""
    verdict, mark, rest = line.partition(":")
    found = []
    if mark and verdict in _LOOKS:
        found, line = [(_LOOKS[verdict], verdict)], mark + rest
    elif line.rstrip(".") in _LOOKS:
        return [(_LOOKS[line.rstrip(".")], printable(line))]
    for piece in re.split(r"(`[^`]+`|\*\*[^*]+\*\*)", line):
        kind = {"`": "code", "*": "strong"}.get(piece[:1], "") if len(piece) > 2 else ""
        is_marked = kind and piece.endswith(("`", "**"))
        inside = piece.strip("`*").replace("`", "") if is_marked else piece
        if piece:
            found.append((kind if is_marked else "", printable(inside)))
    return found


def _blocks(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yields what stands together, with what it is."""

    def kind(line: str) -> str:
        starts = {"#": "heading", "|": "table", "-": "listed"}
        return starts.get(line[:1], "words") if line[:2] != "**" else "words"

    for _, lines in itertools.groupby(text.splitlines(), lambda line: bool(line.strip())):
        for what, block in itertools.groupby(filter(str.strip, lines), kind):
            if what == "heading":
                yield from ((what, [line]) for line in block)
            else:
                yield what, list(block)


def _part(kind: str, lines: Sequence[str]) -> Words | Listed | Table:
    if kind == "listed":
        return Listed([spans(line.removeprefix("- ")) for line in lines])
    if kind == "table" and len(lines) > 1:
        return table(_cells(lines[0]), [_cells(line) for line in lines[2:]])
    return Words(spans(" ".join(lines)))


def _cells(line: str) -> list[str]:
    """Returns the texts of a row; a bar behind a backslash is no border."""
    inside = line.strip().removeprefix("|").removesuffix("|")
    cells = (cell.replace("\\|", "|").strip() for cell in re.split(r"(?<!\\)\|", inside))
    return [printable(cell.replace("`", "")) for cell in cells]


def _column(texts: Sequence[str]) -> list[Cell]:
    """Returns the cells of a column: numbers that sort, or words."""
    said = [text for text in texts if text not in ("", "-")]
    if all(map(_NUMBER.match, said)):
        return [Cell(text, _value(text)) for text in texts]
    look = "words long" if max(map(len, texts)) > _LONG else "words"
    looks = (f"{look} {_LOOKS.get(text, '')}".strip() for text in texts)
    return [Cell(text, None, of) for text, of in zip(texts, looks, strict=True)]


def _value(text: str) -> float | None:
    match = _NUMBER.match(text)
    return float(match[1].replace(",", "")) if match else None
