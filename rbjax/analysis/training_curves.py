"""The plot of a training: loss, accuracies, each class clean and attacked, learning rate."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from rbjax.analysis import figures
from rbjax.analysis.plots import COLOURS, MANY

Records = Sequence[Mapping[str, Any]]

_LINES = ("-", "--", ":")
_CLASS_STYLES = [(line, colour) for line in _LINES for colour in COLOURS[:-2]]
_USUAL = {"train": COLOURS[2], "validation": COLOURS[0], "robust": COLOURS[3]}
_OTHERS = (COLOURS[1], *COLOURS[4:-2])
"""Of figures of any other kind; after them black."""
_ACROSS = 3
"""Panels in a row."""
_BESIDE: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)}
_FEWEST = 10
"""Images of a class on average below which its curve is mostly chance, and is not drawn."""
_RECALLS = {"validation/recall": "Classes, clean", "validation/robust_recall": "Classes, attacked"}


@figures.plain
def plot_training(
    path: str | os.PathLike[str],
    records: Records,
    *,
    class_names: Sequence[str] = (),
    caption: str = "",
) -> None:
    """Draws what a training logged over the epochs, or over the steps.

    Args:
        path: the picture, `.png`, `.pdf` or `.svg`.
        records: of metrics.jsonl, each {"step": ..., "epoch": ..., "train/loss": ...}.  What ends
            in "loss" is in one panel, in "accuracy" in the next (that of the weights that are not
            judged dotted, that of the worst class dashed); the recall of each class and their mean,
            clean and under the validation's attack, in one each (of fewer than 10 attacked
            images a class the mean and the worst class alone); and then "learning_rate".  The best
            epoch is marked.
        class_names: K names; empty: the numbers.
        caption: what stands below.

    Raises:
        ValueError: if no record has any of them.
    """
    recorded = dict.fromkeys(name for record in records for name in record)
    panels: list[Callable[[Axes], None]] = []

    def add(draw: Callable[..., None], *arguments: Any) -> None:
        panels.append(lambda axes: draw(axes, records, *arguments))

    for ending in ("loss", "accuracy"):
        if names := [name for name in recorded if name.endswith(ending)]:
            add(draw_curves, names, ending)
    for name, title in _RECALLS.items():
        if name in recorded:
            few = name == "validation/robust_recall" and _are_few(records)
            add(draw_classes, name, title, class_names, few)
    if names := [name for name in recorded if name.endswith("learning_rate")]:
        add(draw_curves, names, "learning_rate")
    if not panels:
        raise ValueError("the records hold no loss, accuracy or learning rate to plot")
    columns = min(len(panels), _ACROSS)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.4 * rows), layout="constrained")
    for number, draw in enumerate(panels, start=1):
        axes = figure.add_subplot(rows, columns, number)
        draw(axes)
        _finish(axes, records)
    figures.caption(figure, caption)
    figures.save(figure, path)


def training_said(records: Records) -> str:
    """Returns what a caption says of a training: what its validation attacked, and how.

    Args:
        records: of metrics.jsonl.
    """
    found = [record["validation/attack"] for record in records if record.get("validation/attack")]
    if not found:
        return "What training logged."
    few = f", fewer than {_FEWEST} a class: mean and worst class alone are drawn"
    return (
        f"What training logged; validation attack: {found[-1]}{few if _are_few(records) else ''}."
    )


def _are_few(records: Records) -> bool:
    """Returns whether too few images were attacked, by what the log says, for curves of classes."""
    for record in reversed(records):
        if record.get("validation/robust_recall"):
            said = re.search(r"(\d+) images$", str(record.get("validation/attack", "")))
            return said is not None and int(said[1]) < _FEWEST * len(
                record["validation/robust_recall"]
            )
    return False


def draw_curves(axes: Axes, records: Records, names: Sequence[str], ending: str) -> None:
    """Draws some figures of the log into axes, each in its colour.

    Args:
        axes: where.
        records: of the log.
        names: of the figures.
        ending: what all of them end in, the title.
    """
    curves, others = [], iter(_OTHERS)
    for name in names:
        points = _points(records, name)
        if not points:
            continue
        is_beside = name.startswith(("validation/plain/", "validation/average/"))
        # The mean of the classes is drawn with them.
        if "balanced" in name or (is_beside and "worst" in name):
            continue
        kind = "robust" if "robust" in name else name.partition("/")[0]
        colour = _USUAL.get(kind) or next(others, "#000000")
        line = ":" if is_beside else "--" if "worst" in name else "-"
        (curve,) = axes.plot(*zip(*points, strict=True), line, color=colour, **_dots(points))
        text = name.removesuffix(ending).strip("/_") or ending
        curves.append((text.replace("/", " ").replace("_", " "), curve))
    if len(names) > 1 or "/" in names[0]:
        figures.legend(axes, curves, size=8, **_BESIDE)
    axes.set_title(ending.replace("_", " ").capitalize())
    if ending == "accuracy":
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))


def draw_classes(
    axes: Axes,
    records: Records,
    name: str,
    title: str,
    class_names: Sequence[str] = (),
    few: bool = False,
) -> None:
    """Draws a curve for each class, and their mean; many classes are grey.

    Args:
        axes: where.
        records: of the log.
        name: of the figure, (K,) ratios a record; None for a class without images.
        title: the title.
        class_names: K names; empty: the numbers.
        few: whether to draw only the mean and the worst class of each record.
    """
    points = _points(records, name)
    at, values = [x for x, _ in points], np.array([y for _, y in points], np.float64)
    values = values.reshape(len(points), -1)
    names = class_names or tuple(map(str, range(values.shape[1])))
    has_any = ~np.isnan(values).all(axis=1)
    entries, is_many = [], values.shape[1] > min(MANY, len(_CLASS_STYLES))
    if few:
        worst = np.full(len(values), np.nan)
        worst[has_any] = np.nanmin(values[has_any], axis=1)
        (drawn,) = axes.plot(at, worst, "--", color=_USUAL["robust"], **_dots(points))
        entries = [("worst class", drawn)]
    for label, curve in enumerate(() if few else values.T):
        line, colour = ("-", "#BBBBBB") if is_many else _CLASS_STYLES[label]
        width = 0.6 if is_many else 1.2
        (drawn,) = axes.plot(at, curve, line, color=colour, linewidth=width, **_dots(points))
        entries += [] if is_many else [(names[label], drawn)]
    means = np.full(len(values), np.nan)
    means[has_any] = np.nanmean(values[has_any], axis=1)
    (drawn,) = axes.plot(at, means, color="black", linewidth=2.2, **_dots(points))
    figures.legend(
        axes,
        [("mean", drawn), *entries],
        size=8,
        **_BESIDE,
    )
    axes.set_title(title)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))


def _points(records: Records, name: str) -> list[tuple[float, Any]]:
    unit = _unit(records)
    return [(record[unit], record[name]) for record in records if record.get(name) is not None]


def _unit(records: Records) -> str:
    return "epoch" if all("epoch" in record for record in records) else "step"


def _dots(points: Sequence[Any]) -> dict[str, Any]:
    return {"marker": "o" if len(points) <= 30 else None, "ms": 3}


def _finish(axes: Axes, records: Records) -> None:
    unit, best = _unit(records), records[-1].get("validation/best_epoch")
    if unit == "epoch" and best is not None:
        axes.axvline(best, color="#999999", linewidth=0.8, zorder=0)
    axes.set_xlabel(f"{unit} (line: the best)" if unit == "epoch" and best is not None else unit)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
