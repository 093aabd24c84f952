"""Any result as a picture: what `plot` draws, a function a kind."""

from __future__ import annotations

import dataclasses
import functools
import os
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rbjax import rpr
from rbjax.analysis import corrupted, figures, paired, plots
from rbjax.attacks import (
    ClasswiseResult,
    Findings,
    UniversalDeepFoolResult,
    UniversalResult,
)
from rbjax.compared import Compared
from rbjax.corruptions import CorruptionResult
from rbjax.errors import a_type
from rbjax.metrics import ClasswiseMetrics, error_rates
from rbjax.paths import of_a_file
from rbjax.sheet import Sheet

_MOST = 10
"""Perturbations beside each other."""
_LETTERS = 16
"""Of a title, in an inch of the axes, which it may leave to the right: there the legend stands."""


_NO_SHARES = ("class", "count", "train", "precision", "f1", "RPR of right")
"""Columns that are no shares of a class's images, whose intervals are drawn."""
_NO_INTERVAL = ("corrupted",)
"""Means of such shares: over corruptions and severities."""


@figures.plain
def write(
    result: Any, path: str | os.PathLike[str], sheet: Sheet, class_names: Sequence[str]
) -> None:
    """Draws a result into a file.

    Args:
        result: as for `analysis.plot`.
        path: of the picture.
        sheet: the result's table.
        class_names: K names, for results whose table has no row a class.
    """
    figures.kind_of(of_a_file(path, field="where"))
    many = len(sheet.columns[next(iter(sheet.columns))]) > plots.MANY
    width = 14.0 if many else 8.4
    if isinstance(result, CorruptionResult):
        width = max(width, corrupted.width_of(len(class_names)))
    figure = Figure(figsize=(width, 5.0), layout="constrained")
    _draw(result, figure.add_subplot(), sheet, class_names)
    figures.save(figure, path)


@figures.plain
def draw(result: Any, axes: Any, sheet: Sheet, class_names: Sequence[str]) -> None:
    """Draws a result into axes, as `write`."""
    if not isinstance(axes, Axes):
        raise ValueError(
            f"where is {a_type(axes)}; it must be the path of a picture, or matplotlib's Axes"
        )
    _draw(result, axes, sheet, class_names)


def _draw(result: Any, axes: Axes, sheet: Sheet, names: Sequence[str]) -> None:
    _into(result, axes, sheet, names)
    inches = axes.bbox.transformed(axes.figure.dpi_scale_trans.inverted()).width
    width = max(int(_LETTERS * inches), 30)
    lines = [part for line in sheet.title.splitlines() for part in textwrap.wrap(line, width)]
    axes.set_title("\n".join(map(figures.literal, lines)), fontsize=9, loc="left")


@functools.singledispatch
def _into(result: Any, axes: Axes, sheet: Sheet, names: Sequence[str]) -> None:
    """Draws a group of bars a class: the ratios of the table."""
    ratios = {k: v for k, v in sheet.columns.items() if k not in _NO_SHARES}
    ratios = {name: np.asarray(v, np.float64) for name, v in ratios.items()}
    names, counts = list(sheet.columns["class"]), sheet.columns["count"]
    plots.draw_classwise(axes, ratios, class_names=names, counts=counts, bare=_NO_INTERVAL)
    axes.set_title("")


@_into.register
def _(result: ClasswiseMetrics, axes: Axes, sheet: Sheet, names: Sequence[str]) -> None:
    ratios = {name: sheet.columns[name] for name in ("recall", "precision", "f1")}
    plots.draw_classwise(axes, ratios, class_names=list(sheet.columns["class"]))
    axes.set_title("")
    axes.set_ylabel("")


@_into.register
def _(result: rpr.Scores | rpr.Repeated, axes: Axes, sheet: Sheet, names: Sequence[str]) -> None:
    first = np.reshape(result.first_failure, (len(result.labels), -1))[:, 0]
    names = list(sheet.columns["class"])
    curves = rpr.survival_curve(first, result.max_steps, result.labels, num_classes=len(names))
    plots.draw_survival(axes, curves.overall, curves.classes, class_names=names)
    axes.set_title("")


@_into.register
def _(result: Compared, axes: Axes, sheet: Sheet, names: Sequence[str]) -> None:
    named = dataclasses.replace(result, class_names=tuple(sheet.columns["class"]))
    paired.draw_paired(axes, named, list(result.whole))


@_into.register
def _(result: CorruptionResult, axes: Axes, sheet: Sheet, names: Sequence[str]) -> None:
    matrices = {name: result.confusion(name) for name in result.predictions}
    accuracy = {name: 1 - error_rates(matrix)[0] for name, matrix in matrices.items()}
    classes = {name: 1 - error_rates(matrix)[1] for name, matrix in matrices.items()}
    drawn = {"order": list(matrices), "accuracy": accuracy, "class_accuracy": classes}
    corrupted.draw_corruptions(axes, drawn, class_names=list(names))
    axes.set_title("", loc="left")


@_into.register
def _(
    result: UniversalResult | UniversalDeepFoolResult | ClasswiseResult,
    axes: Axes,
    sheet: Sheet,
    names: Sequence[str],
) -> None:
    delta = np.asarray(result.delta)
    if delta.ndim == 4:  # one a class, the first of them beside each other
        delta = np.concatenate(list(delta[:_MOST]), axis=1)
    plots.draw_perturbation(axes, delta)
    axes.set_title("")


@_into.register
def _(result: Findings, axes: Axes, sheet: Sheet, names: Sequence[str]) -> None:
    colours = [plots.COLOURS[0] if finding.passed else plots.COLOURS[3] for finding in result]
    axes.barh(range(len(result)), [finding.value for finding in result], color=colours)
    figures.name_ticks(axes.yaxis, [finding.name for finding in result], size=9)
    axes.invert_yaxis()
    axes.set_xlabel("what each check judged by; orange failed")
    axes.spines[["top", "right"]].set_visible(False)
