"""Ours beside P5's numbers, and the readings of what its text leaves open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.imbalanced_gradient_sign import results
from experiments.imbalanced_gradient_sign.results import COLUMNS, Grid
from rbjax import atomic
from rbjax.metrics import wilson_interval

EXPECTED = atomic.read_json(Path(__file__).with_name("expected.json"))
ATTACKS = {
    "fast_ascent": "one step of 0.01 up the loss, clipped to [0, 1]",
    "iterative_ascent": "5 steps of 0.01, not projected",
    "projected": "10 steps of 0.0025 within 0.01",
    "unclipped": "one step of 0.01, not clipped",
    "clipped": "one step of 0.01, clipped to [0, 1]",
    "of_normalised": "one step of 0.01 on inputs divided by their deviation",
    "epsilon_0.005": "one step of 0.005",
    "epsilon_0.02": "one step of 0.02",
    "fast_descent": "one step of 0.01 down the loss",
}
"""Readings of the attack of table 1, by label."""


class Entry(NamedTuple):
    """One number of table 1, in per cent."""

    ours: float
    low: float
    high: float
    theirs: float
    """NaN of another dataset's class."""


def entry(grid: Grid, names: Sequence[str], target: int, column: str, attack: str) -> Entry | None:
    """Returns one number of table 1 with the 95 % interval of its test images.

    Args:
        grid: the cells.
        names: of the classes.
        target: the class.
        column: of COLUMNS.
        attack: the reading, a label of ATTACKS.

    Returns:
        None where no cell has it.
    """
    kind, prefix = COLUMNS[column]
    found = grid.seeds(kind, None if kind == "balanced" else target).values()
    label = f"{prefix}{attack}"
    counts = [
        results.answers(result, label, target) for result in found if label in result["attacked"]
    ]
    if not counts:
        return None
    total = np.sum(counts, axis=0)
    ours, number = total[target], total.sum()
    low, high = wilson_interval(ours, number)
    row = EXPECTED["table1"].get(names[target])
    theirs = np.nan if row is None else row[EXPECTED["columns"].index(column)]
    ours, low, high = (100 * float(x) for x in (ours / number, low, high))
    return Entry(ours, low, high, float(theirs))


def distance(grid: Grid, names: Sequence[str], attack: str) -> tuple[float, int]:
    """Returns the mean distance of ours from table 1 under a reading, and of how many numbers."""
    entries = [
        found
        for target in grid.classes()
        for column in COLUMNS
        if (found := entry(grid, names, target, column, attack)) is not None
    ]
    apart = [abs(e.ours - e.theirs) for e in entries if np.isfinite(e.theirs)]
    return (float(np.mean(apart)) if apart else np.nan), len(apart)


def readings(grid: Grid, names: Sequence[str]) -> list[str]:
    """Returns what the program says of every number that the text leaves open, as Markdown."""
    lines = ["", "#### Readings", ""]
    if not set(EXPECTED["table1"]) & set(names):
        return [*lines, "Of another dataset P5 has no number."]
    lines += _of_attack(grid, names)
    lines += _of_means()
    lines += _of_overlap(grid, names)
    return lines


def _of_attack(grid: Grid, names: Sequence[str]) -> list[str]:
    """Which attack table 1 is of: by the 30 numbers that do not transfer, as all readings have."""
    found: dict[str, float] = {}
    for attack in ATTACKS:
        apart = []
        for target in grid.classes():
            for column in ("balanced", "under", "over"):
                own = entry(grid, names, target, column, attack)
                if own is not None and np.isfinite(own.theirs):
                    apart.append(abs(own.ours - own.theirs))
        if apart:
            found[attack] = float(np.mean(apart))
    if not found:
        return ["The attack of table 1: no cell is there."]
    lines = ["| attack of table 1 | distance from P5's same-model columns, points |", "|---|---|"]
    nearest = min(found, key=lambda attack: found[attack])
    for attack, apart in sorted(found.items(), key=lambda item: item[1]):
        mark = ", the nearest" if attack == nearest else ""
        lines.append(f"| `{attack}`: {ATTACKS[attack]}{mark} | {apart:.1f} |")
    return [*lines, ""]


def _of_means() -> list[str]:
    """Which columns of P5's own table its text's means are of."""
    table = np.array(list(EXPECTED["table1"].values()))
    means = dict(zip(EXPECTED["columns"], table.mean(axis=0), strict=True))
    means["under and over"] = (means["under"] + means["over"]) / 2
    lines = []
    for field, words in (
        ("transfer_mean", "under-sampled networks, gradients of the balanced one"),
        ("same_model_mean", "under-sampled networks, their own gradients"),
        ("over_mean", "over-sampled networks, around"),
    ):
        said = EXPECTED[field]
        nearest = min(means, key=lambda column: abs(means[column] - said))
        lines.append(
            f"- P5's text: {words}, {said:g} %. Nearest of its own table's means: `{nearest}`, "
            f"{means[nearest]:.1f} %."
        )
    lines[1] = f"{lines[1][:-1]}; the mean of `under` is {means['under']:.1f} %."
    return lines


def _of_overlap(grid: Grid, names: Sequence[str]) -> list[str]:
    """Which share of which images the 40 % and 39 % are."""
    lines = []
    for field, one, other in (("cat_as_dog", "cat", "dog"), ("dog_as_cat", "dog", "cat")):
        said = EXPECTED[field]
        if one not in names or other not in names:
            continue
        target, answer = names.index(one), names.index(other)
        found = overlaps(grid, target, answer)
        if not found:
            continue
        nearest = min(found, key=lambda reading: abs(found[reading] - said))
        lines.append(
            f"- P5's {said} % of {one}s as {other}s. Ours nearest: {nearest}, "
            f"{found[nearest]:.0f} %; the text's own, under attack: under-sampled "
            f"{_shown(found, 'under', 'all')}, "
            f"over-sampled {_shown(found, 'over', 'all')}."
        )
    return lines


def _shown(found: Mapping[str, float], kind: str, of: str) -> str:
    value = found.get(_reading(kind, "attacked", of))
    return "missing" if value is None else f"{value:.0f} %"


def _reading(kind: str, when: str, of: str) -> str:
    images = "all images" if of == "all" else "misclassified images"
    return f"{kind}-sampled network, {when}, share of {images}"


def overlaps(grid: Grid, target: int, answer: int) -> dict[str, float]:
    """Returns the share of a class that is taken for another, in per cent, by reading."""
    found: dict[str, float] = {}
    for kind in ("under", "over"):
        own = list(grid.seeds(kind, target).values())
        for when, label in (("clean", "clean"), ("attacked", "fast_ascent")):
            if not own:
                continue
            total = np.sum([results.answers(r, label, target) for r in own], axis=0)
            wrong = total.sum() - total[target]
            found[_reading(kind, when, "all")] = 100 * total[answer] / total.sum()
            found[_reading(kind, when, "wrong")] = 100 * total[answer] / max(wrong, 1)
    return found
