"""The table of all methods: its grid, its differences, and what it says of what is missing."""

import numpy as np
import pytest

from experiments.methods import plan, table
from rbjax.analysis import markdown
from rbjax.command_line import resolve

PER_CLASS, CLASSES = 200, 4
LABELS = np.repeat(np.arange(CLASSES), PER_CLASS)


def result(shares, seed, corrupted=None):
    """A result in which a share of each class is correct."""
    generator = np.random.default_rng(seed)
    correct = np.concatenate([generator.permutation(PER_CLASS) < PER_CLASS * s for s in shares])
    counts = np.bincount(LABELS[correct], minlength=CLASSES)
    one = {"correct": counts.tolist(), "rows": np.packbits(correct).tobytes().hex()}
    found = {
        "count": [PER_CLASS] * CLASSES,
        "labels": LABELS.astype(np.uint8).tobytes().hex(),
        "results": dict.fromkeys(("clean", "pgd20", "universal"), one),
    }
    if corrupted is not None:
        found["corruptions"] = {"fog": [corrupted - 0.1, corrupted + 0.1], "shear": [corrupted]}
    return found


ACCURACY, BALANCED, WORST = (
    table.Column("", "clean", measure) for measure in (table.accuracy, table.balanced, table.worst)
)


def test_differences_are_those_of_the_rows():
    first = [result((0.9, 0.8, 0.7, 0.5), seed) for seed in range(3)]
    second = [result((0.8, 0.8, 0.6, 0.2), seed) for seed in range(3, 6)]
    for column, value in ((ACCURACY, 12.5), (BALANCED, 12.5), (WORST, 30.0)):
        found = table.difference(first, second, column)
        assert found.value == pytest.approx(value)
        assert 0 < found.low < value < found.high
    # A class's share of 200 images has a standard error of 3.5 and 2.8 points, over 3 seeds.
    found = table.difference(first, second, WORST)
    expected = 2 * 1.96 * np.hypot(0.5, 0.4) / np.sqrt(PER_CLASS * 3) * 100
    assert found.high - found.low == pytest.approx(expected, rel=0.4)


def test_a_row_does_not_differ_from_itself():
    """Paired: the same images are drawn for both rows."""
    rows = [result((0.9, 0.5, 0.7, 0.4), seed) for seed in range(3)]
    for column in (ACCURACY, WORST):
        assert table.difference(rows, rows, column) == (0, 0, 0)


def test_seeds_that_disagree_widen_the_interval():
    base = [result((0.5,) * 4, seed) for seed in range(3)]
    alike = [result((0.7,) * 4, seed) for seed in range(3, 6)]
    apart = [result((s,) * 4, seed) for s, seed in ((0.5, 3), (0.7, 4), (0.9, 5))]
    narrow, wide = (table.difference(row, base, ACCURACY) for row in (alike, apart))
    np.testing.assert_allclose((narrow.value, wide.value), 20)
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_under_corruptions_each_counts_once():
    column = table.Column("", "corruptions", table.accuracy)
    first, second = ([result((0.5,) * 4, s, c) for s in range(3)] for c in (0.8, 0.7))
    found = table.difference(first, second, column)
    np.testing.assert_allclose(found, (10, 10, 10))
    # Differences of 9, 10 and 11 points: Student's t of two degrees of freedom.
    apart = [result((0.5,) * 4, s, 0.79 + 0.01 * s) for s in range(3)]
    half = 4.3027 / np.sqrt(3)
    found = table.difference(apart, second, column)
    np.testing.assert_allclose(found, (10, 10 - half, 10 + half), atol=1e-3)


def test_the_report_says_what_comes_out_and_what_is_missing():
    scale = plan.CPU._replace(seeds=2)
    shares = {"standard": 0.2, "pgd": 0.9, "universal": 0.4}
    results = {
        plan.cell_name("mnist", row, seed): result((share,) * 4, seed, corrupted=share)
        for row, share in shares.items()
        for seed in range(2 if row != "pgd" else 1)
    }
    lines = table.report(results, scale).splitlines()
    assert "| standard | 2 of 4 | 20.0 ± 0.0 | 20.0 ± 0.0 | 20.0 ± 0.0 | 20.0 ± 0.0 |" in lines
    assert "| trades | 0 of 2 |  |  |  |  |" in lines
    claims = {line.split(" | ")[1]: line for line in lines if line.startswith("| mnist")}
    assert claims["pgd - standard, PGD-20: above 40"].endswith("1 of 2 seeds | open |")
    assert "| +70.0 (" in claims["pgd - standard, PGD-20: above 40"]
    assert claims["universal - standard, universal: above 30"].endswith("| no |")
    assert claims["shared - standard, universal: above 30"].endswith("| missing |")
    more = table.report(results, scale._replace(seeds=3)).splitlines()
    line = next(line for line in more if "universal - standard" in line)
    assert line.endswith("2 of 3 seeds | open |")  # far below 30, and yet not decided
    assert any(line.startswith("mnist: 10,000 training images") for line in lines)
    assert any("pgd20: linf, epsilon 0.2, 20 steps of 0.02" in line for line in lines)
    assert sum("above" in line for line in lines) == len(table.CLAIMS)
    _, sections = markdown.sections("\n".join(lines))
    assert sections[-1].heading == "Expected"  # which stands first on the page
    assert sum(markdown.verdicts(sections).values()) == len(table.CLAIMS)


def test_every_cell_is_a_config_and_the_smoke_grid_has_every_row():
    cells = plan.cells(plan.SMOKE)
    names = {cell.name for cell in cells}
    assert names == {f"{group}.{row}.0" for group, rows in plan.ROWS.items() for row in rows}
    assert len(plan.cells(plan.CPU)) == 3 * len(cells) + sum(plan.MORE_SEEDS.values())
    assert plan.MORE_SEEDS.keys() <= {name.removesuffix(".0") for name in names}
    for cell in cells:
        if not cell.name.startswith("gtsrb"):
            resolve(cell.config, cell.name)
    for claim in table.CLAIMS:
        assert {claim.row, claim.than} <= plan.ROWS[claim.group].keys()
        assert claim.column in {column.title for column in table.COLUMNS[claim.group]}
