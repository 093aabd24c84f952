from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from rbjax.analysis import tables

COLUMNS = {"clean": np.array([0.9, 0.5, 0.0]), "PGD": np.array([0.25, np.nan, 0.0])}
NAMES = ["cat", "automobile", "frog"]
COUNTS = np.array([1000, 10, 0])


def test_table_of_three_classes():
    text = tables.format_classwise(
        COLUMNS, class_names=NAMES, counts=COUNTS, totals={"clean": 0.896}
    )
    assert text.split("\n") == [
        "class        count  clean   PGD",
        "-----------  -----  -----  ----",
        "cat          1,000   90.0  25.0",
        "automobile      10   50.0     -",
        "frog             0      -     -",
        "-----------  -----  -----  ----",
        "all          1,010   89.6",
        "mean                 70.0  25.0",
        "worst class          50.0  25.0",
        "spread               40.0   0.0",
    ]


def test_hundred_classes_are_aligned():
    names = [f"class_{i}" for i in range(100)]
    columns = {f"attack {i}": np.linspace(0, 1, 100) for i in range(4)}
    lines = tables.format_classwise(columns, class_names=names, counts=np.full(100, 100)).split(
        "\n"
    )
    assert len(lines) == 1 + 1 + 100 + 1 + 3
    assert len({len(line) for line in lines}) == 1


def test_a_column_without_any_value_has_no_mean():
    text = tables.format_classwise({"x": [np.nan, np.nan]}, class_names="ab", counts=[1, 1])
    assert [line.split()[-1] for line in text.split("\n")[-3:]] == ["-", "-", "-"]


def test_csv_keeps_every_digit(tmp_path: Path):
    values = np.random.default_rng(0).random(3)
    path = tmp_path / "table.csv"
    tables.write_csv(
        path, {"clean": values, "PGD": COLUMNS["PGD"]}, class_names=NAMES, counts=COUNTS
    )
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == NAMES
    assert [int(row["class"]) for row in rows] == [0, 1, 2]
    assert [int(row["count"]) for row in rows] == [1000, 10, 0]
    assert [float(row["clean"]) for row in rows] == values.tolist()
    assert [row["PGD"] for row in rows] == ["0.25", "", "0.0"]


def test_column_of_another_length_is_named():
    with pytest.raises(ValueError, match=r"column 'PGD' has shape \(2,\); allowed: \(3,\)"):
        tables.format_classwise({"PGD": [0.1, 0.2]}, class_names=NAMES, counts=COUNTS)
    with pytest.raises(ValueError, match="column 'counts'"):
        tables.format_classwise(COLUMNS, class_names=NAMES, counts=[1, 2])


def test_of_many_classes_the_outermost_have_a_row():
    column, counts = np.linspace(0, 1, 200), np.ones(200)
    assert tables.outermost(column[:100], counts[:100]) == (None, "")
    shown, said = tables.outermost(column, counts)
    assert shown == [*range(199, 184, -1), *range(14, -1, -1)]
    assert said == "not shown: 170 classes between these"
    counts[3:150] = 0
    shown, said = tables.outermost(column, counts)
    assert shown == [0, 1, 2, *range(150, 200)]
    assert said == "not shown: 147 classes without images"
    table = tables.format_classwise(
        {"clean": column},
        class_names=[f"class {row}" for row in range(200)],
        counts=counts,
        totals={"clean": 0.5},
        shown=shown,
    ).splitlines()
    assert len(table) == 2 + 53 + 1 + 4
    assert [line.split("  ")[0] for line in table[2:6]] == [
        "class 0",
        "class 1",
        "class 2",
        "class 150",
    ]
    assert table[-2].split() == ["worst", "class", "0.0"]
