"""A table of images, such as scans.csv: which file has which label, is of which patient and split.

    file,label,group,split
    patient_07/scan_1.png,benign,patient_07,train

Files are named relative to the folder.  The other columns may be missing: labels are then the
folders of the classes, every image is its own group, and a share is held out as test.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rbjax.errors import nearest
from rbjax.paths import expanded

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval"), "validation"),
}
"""What splits are called elsewhere."""
_DELIMITERS = (",", ";", "\t")
_NAMED = 5


class Row(NamedTuple):
    """An image of the table."""

    line: int
    """Where it is in the file, counted from 1."""
    file: str
    """Relative to the folder, with "/"."""
    label: str | None
    group: str | None
    split: str | None
    """"train", "test" or "validation"."""


def find(metadata: str | Path, root: Path) -> Path:
    """Returns the table's file: as it is named, or in the folder of the images.

    Raises:
        ValueError: if it is in neither place.
    """
    given = expanded(metadata, field="dataset.metadata")
    inside = root / Path(metadata).expanduser()
    for place in (inside, given):
        if place.is_file():
            return place
    raise ValueError(
        f"dataset.metadata = {str(metadata)!r}: no such file, neither {inside} nor {given}"
    )


def read(path: Path, *, labels: str | None = None, groups: str | None = None) -> list[Row]:
    """Reads a table: comma, semicolon or tab between columns, whose names stand in its first line.

    Args:
        path: of the file, in UTF-8.
        labels: the column of the classes; None: "label", where there is one.
        groups: the column of the groups; None: "group", where there is one.

    Returns:
        A Row for each image.

    Raises:
        ValueError: naming line and column, for a column that is missing or unknown, a row of
            another length, an empty field, a file named twice, an unknown split.
    """
    cells = _cells(path)
    there = [name.strip() for name in cells[0][1]]
    found = _columns(there, path, labels, groups)
    rows = [_row(line, row, found, len(there), path) for line, row in cells[1:]]
    _check(rows, found, path)
    return rows


def columns(path: Path) -> list[str]:
    """Returns the names of a table's columns.

    Raises:
        ValueError: as `read`.
    """
    return [name.strip() for name in _cells(path)[0][1]]


def _cells(path: Path) -> list[tuple[int, list[str]]]:
    """Returns the lines of a table that are not empty, and their numbers."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error})") from None
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise ValueError(f"{path} line {line}: is not UTF-8; save the table as UTF-8") from None
    first = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=first.count)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        cells = [(lines.line_num, row) for row in lines if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise ValueError(f"{path} line {lines.line_num}: cannot be read ({error})") from None
    if len(cells) < 2:
        raise ValueError(f"{path}: has no rows; its first line names the columns, such as file")
    return cells


def _columns(
    there: Sequence[str], path: Path, labels: str | None, groups: str | None
) -> dict[str, tuple[str, int]]:
    """Returns the columns that are read: what for -> its name and place."""
    places = {name.casefold(): place for place, name in reversed(list(enumerate(there)))}
    found = {}
    wanted = {"file": ("file", True), "label": (labels or "label", labels is not None)}
    wanted["group"] = groups or "group", groups is not None
    wanted["split"] = "split", False
    fields = {"label": f"dataset.labels = {labels!r}: ", "group": f"dataset.groups = {groups!r}: "}
    for what, (name, is_needed) in wanted.items():
        if name.casefold() in places:
            found[what] = name, places[name.casefold()]
        elif is_needed:
            raise ValueError(
                f"{fields.get(what, '')}{path} line 1 has no column {name!r}; it has "
                f"{', '.join(there)}{nearest(name, there)}"
            )
    return found


def _row(
    line: int, cells: Sequence[str], columns: dict[str, tuple[str, int]], width: int, path: Path
) -> Row:
    if len(cells) != width:
        raise ValueError(f"{path} line {line}: has {len(cells)} columns; line 1 names {width}")
    values = {what: cells[place].strip() for what, (_, place) in columns.items()}
    split = values.get("split")
    if split is not None:
        if split.casefold() not in SPLITS:
            raise ValueError(
                f"{path} line {line}, column split: {split!r} is unknown; allowed: train, test, "
                f"validation{nearest(split.casefold(), list(SPLITS))}"
            )
        split = SPLITS[split.casefold()]
    file = values["file"].replace("\\", "/")
    if Path(file).is_absolute() or ".." in Path(file).parts:
        raise ValueError(
            f"{path} line {line}, column file: {values['file']!r} is not below the folder of "
            "dataset.path; name files relative to it"
        )
    return Row(line, Path(file).as_posix(), values.get("label"), values.get("group"), split)


def _check(rows: Sequence[Row], columns: dict[str, tuple[str, int]], path: Path) -> None:
    for what in ("file", "label", "group"):
        empty = [row for row in rows if getattr(row, what) in ("", ".")]
        if what in columns and empty:
            named = ", ".join(
                f"line {row.line}" + (f" ({row.file})" if what != "file" else "")
                for row in empty[:_NAMED]
            )
            more = ", ..." if len(empty) > _NAMED else ""
            raise ValueError(
                f"{path} column {columns[what][0]}: is empty for {len(empty)} of {len(rows)} "
                f"images: {named}{more}; fill it in, or leave the rows out"
            )
    lines: dict[str, int] = {}
    for row in rows:
        if row.file in lines:
            raise ValueError(
                f"{path} line {row.line}, column file: {row.file} stands in line "
                f"{lines[row.file]} already"
            )
        lines[row.file] = row.line
