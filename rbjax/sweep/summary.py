"""What the runs of a grid came to: means and standard deviations over their seeds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rbjax import atomic
from rbjax.attacks.outcome import Setting
from rbjax.sheet import Sheet
from rbjax.sweep.grid import Result
from rbjax.sweep.over import SEED, Axis

_MEASURES = ("accuracy", "balanced", "worst_class")
_CLEAN, _WORST = "clean", "worst"


class Measured(NamedTuple):
    """What one run came to under one attack; ratios, NaN where there is none."""

    accuracy: float
    """Of all images; for RPR, the share that withstands all draws."""
    balanced: float
    """The mean of the classes that have images."""
    worst_class: float
    """The lowest of them."""


@dataclasses.dataclass(frozen=True)
class Row:
    """A combination of values under one attack, over its seeds."""

    values: tuple[str, ...]
    """Of the axes but the seed."""
    under: str
    """"clean", an attack's label, "worst", "corruptions", "RPR"."""
    setting: str
    """Norm, epsilon and steps of the attack."""
    cells: tuple[str, ...]
    """The runs that are finished, by name."""
    num_cells: int
    """How many there are to be."""
    measured: tuple[Measured, ...]
    """Of each of those that are finished."""

    def mean(self, measure: str) -> float:
        """Returns the mean over the seeds."""
        return float(np.mean([getattr(one, measure) for one in self.measured]))

    def deviation(self, measure: str) -> float:
        """Returns the standard deviation over the seeds, NaN of one."""
        values = [getattr(one, measure) for one in self.measured]
        return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def rows_of(
    names: Mapping[tuple[str, ...], Sequence[str]], results: Mapping[str, Result]
) -> list[Row]:
    """Returns the table of a grid: of each combination a row for clean, each attack and so on.

    Args:
        names: by the values of the axes but the seed, the cells that differ in it alone.
        results: of `job`, by name, of the cells that are finished.
    """
    found = []
    for values, cells in names.items():
        done = {name: measures(results[name]) for name in cells if name in results}
        labels = list(dict.fromkeys(label for each in done.values() for label in each))
        for label in labels:
            there = [name for name in done if label in done[name]]
            setting = results[there[0]].get("settings", {}).get(label)
            found.append(
                Row(
                    values=values,
                    under=label,
                    setting="" if setting is None else str(Setting(*setting)),
                    cells=tuple(there),
                    num_cells=len(cells),
                    measured=tuple(done[name][label] for name in there),
                )
            )
    return found


def measures(result: Result) -> dict[str, Measured]:
    """Returns what a run came to: clean, under each attack, under all, corruptions, RPR."""
    parts, found = result["results"], {}
    attacks = [label for label in parts if label not in (_CLEAN, _WORST)]
    for label in (_CLEAN, *attacks, *([_WORST] if len(attacks) > 1 else [])):
        if label in parts:
            count = parts[label].get("count", result["count"])
            found[label] = _of_counts(parts[label]["correct"], count)
    if corrupted := result.get("corruptions"):
        mean = float(np.mean([np.mean(by_severity) for by_severity in corrupted.values()]))
        found["corruptions"] = Measured(mean, math.nan, math.nan)
    if scored := result.get("rpr"):
        found["RPR"] = _of_counts(scored["robust"], scored["count"])
    return found


def _of_counts(correct: Sequence[int], count: Sequence[int]) -> Measured:
    right, every = np.asarray(correct), np.asarray(count)
    recall = right[every > 0] / every[every > 0]
    return Measured(float(right.sum() / every.sum()), float(recall.mean()), float(recall.min()))


def sheet(title: str, over: Sequence[Axis], rows: Sequence[Row]) -> Sheet:
    """Returns the rows as a table, in per cent; settings that all combinations share stand above.

    Args:
        title: what the grid is of.
        over: its axes.
        rows: of `rows_of`.
    """
    others = [axis for axis in over if axis.field != SEED]
    settings: dict[str, set[str]] = {}
    for row in rows:
        settings.setdefault(row.under, set()).add(row.setting)
    shared = {label: min(said) for label, said in settings.items() if len(said) == 1}
    differing = set(settings) - set(shared)
    lines = [title, "; ".join(f"{label}: {said}" for label, said in shared.items() if said)]
    if differing:
        lines.append(
            f"{', '.join(sorted(differing))}: not the same attack in all rows, so that these are "
            "not to be compared with each other; --config.attacks.LABEL.FIELD=VALUE makes it one"
        )
    columns: dict[str, list[str]] = {
        axis.title: [row.values[i] for row in rows] for i, axis in enumerate(others)
    }
    columns["under"] = [row.under for row in rows]
    if differing:
        columns["setting"] = [row.setting if row.under in differing else "" for row in rows]
    columns["runs"] = [
        f"{len(row.cells)} of {row.num_cells}"
        if len(row.cells) < row.num_cells
        else f"{row.num_cells}"
        for row in rows
    ]
    for measure in _MEASURES:
        columns[measure.replace("_", " ")] = [_shown(row, measure) for row in rows]
    return Sheet("\n".join(filter(None, lines)), columns)


def _shown(row: Row, measure: str) -> str:
    mean, deviation = row.mean(measure), row.deviation(measure)
    if math.isnan(mean):
        return "-"
    spread = "" if math.isnan(deviation) else f" ± {100 * deviation:.1f}"
    return f"{100 * mean:5.1f}{spread}"


def write(
    folder: Path, about: Mapping[str, Any], over: Sequence[Axis], rows: Sequence[Row]
) -> list[Path]:
    """Writes sweep.csv, a row a row, and sweep.json, with what each run came to besides.

    Args:
        folder: of the grid.
        about: what the grid is, and what is missing.
        over: its axes.
        rows: of `rows_of`.

    Returns:
        The files.
    """
    others = [axis.field for axis in over if axis.field != SEED]
    files = [folder / "sweep.csv", folder / "sweep.json"]
    columns: dict[str, list[Any]] = {
        field: [row.values[i] for row in rows] for i, field in enumerate(others)
    }
    columns |= {"under": [r.under for r in rows], "setting": [r.setting for r in rows]}
    columns |= {"runs": [len(r.cells) for r in rows], "of": [r.num_cells for r in rows]}
    for measure in _MEASURES:
        columns[f"{measure}_mean"] = [row.mean(measure) for row in rows]
        columns[f"{measure}_deviation"] = [row.deviation(measure) for row in rows]
    atomic.write_csv(files[0], columns.items())
    said = [
        {
            "values": dict(zip(others, row.values, strict=True)),
            "under": row.under,
            "setting": row.setting,
            "cells": row.cells,
            **{measure: [getattr(m, measure) for m in row.measured] for measure in _MEASURES},
        }
        for row in rows
    ]
    atomic.write_json(files[1], {**about, "rows": said})
    return files
