"""A small table, as results print themselves: a heading, columns by name, rows below a rule."""

from __future__ import annotations

import dataclasses
import html
import math
import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rbjax.console import printable

_GAP = "  "
_WIDTH = 100


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Sheet:
    """A table of numbers as they were measured; `print` it, or show it in a notebook."""

    title: str
    """What it is of, with norm, epsilon and steps where there are any; lines."""
    columns: Mapping[str, Sequence[Any]]
    """By heading, one value a row: texts, whole numbers, and ratios, which are shown in per cent;
    None and NaN as "-"."""
    below: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
    """Rows under a rule, by the same headings; a column that is left out is empty there."""
    plain: Collection[str] = ()
    """The columns whose fractions are no ratios: they are shown as they are."""

    def cells(self) -> tuple[list[list[str]], list[list[str]]]:
        """Returns the texts of the rows, and of those below the rule."""
        shown = {
            name: [_text(value, name in self.plain) for value in values]
            for name, values in self.columns.items()
        }
        num_below = len(next(iter(self.below.values()), ()))
        below = {
            name: [_text(value, name in self.plain) for value in self.below[name]]
            if name in self.below
            else [""] * num_below
            for name in self.columns
        }
        rows, rows_below = (
            list(map(list, zip(*part.values(), strict=True))) for part in (shown, below)
        )
        return rows, rows_below

    def __repr__(self) -> str:
        rows, below = self.cells()
        lines = [
            part
            for line in self.title.splitlines()
            for part in textwrap.wrap(line, _WIDTH, subsequent_indent="  ")
        ]
        words = [all(isinstance(x, str) for x in values) for values in self.columns.values()]
        text = aligned(list(self.columns), [*rows, *below], rule_before=len(rows), words=words)
        return "\n".join([*lines, text])

    def _repr_html_(self) -> str:
        """Returns the table for a notebook; whatever a name holds is text there."""

        def row(cells: Sequence[str], tag: str = "td") -> str:
            inside = "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)
            return f"<tr>{inside}</tr>"

        rows, below = self.cells()
        caption = "<br>".join(html.escape(line) for line in self.title.splitlines())
        foot = f"<tfoot>{''.join(map(row, below))}</tfoot>" if below else ""
        head = row(list(map(printable, self.columns)), "th")
        return (
            f'<table><caption style="text-align:left">{caption}</caption><thead>{head}</thead>'
            f"<tbody>{''.join(map(row, rows))}</tbody>{foot}</table>"
        )


def aligned(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    rule_before: int,
    words: Sequence[bool],
) -> str:
    """Joins cells into lines.

    Args:
        headings: M texts.
        rows: of M texts each.
        rule_before: the row that a rule goes before; none where there are no more.
        words: of each column, whether it holds words, to the left; others are to the right.
    """
    headings = list(map(printable, headings))
    widths = [max(len(row[i]) for row in [headings, *rows]) for i in range(len(headings))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if is_words else cell.rjust(width)
            for cell, width, is_words in zip(cells, widths, words, strict=True)
        ]
        return _GAP.join(padded).rstrip()

    rule = _GAP.join("-" * width for width in widths)
    body = [line(row) for row in rows]
    if rule_before < len(rows):
        body.insert(rule_before, rule)
    return "\n".join([line(headings), rule, *body])


def per_cent(ratio: float | None) -> str:
    """Returns a ratio in per cent, "-" where there is none."""
    return "-" if ratio is None or math.isnan(ratio) else f"{100 * ratio:.1f}"


def spoken(epsilon: float) -> str:
    """Returns a radius as people write it: 8/255, or 0.1."""
    levels = 255 * epsilon
    whole = round(levels)
    is_level = 0 < whole < 255 and abs(levels - whole) < 1e-4
    return f"{whole}/255" if is_level and len(f"{epsilon:.6g}") > 5 else f"{epsilon:.6g}"


def _text(value: Any, is_plain: bool) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, bool) or str(getattr(value, "dtype", "")) == "bool":
        return "yes" if value else "no"
    number = value.item() if hasattr(value, "item") else value
    if isinstance(number, int):
        return f"{number:,}"
    if is_plain:
        return "-" if math.isnan(number) else f"{number:.4g}"
    return per_cent(number)
