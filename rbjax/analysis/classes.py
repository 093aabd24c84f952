"""Plots of what sets classes apart: by attack, from the mean, sizes, confusions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter
from numpy.typing import ArrayLike

from rbjax.analysis import figures
from rbjax.analysis.plots import COLOURS, MANY, MARKERS, NAMED, Columns, PathLike, name_classes

_MOST_CELLS = 30
"""Classes of a confusion matrix with names and numbers in it; of more the colours alone."""


@figures.plain
def plot_differences(path: PathLike, columns: Columns, *, class_names: Sequence[str]) -> None:
    """Draws how far each class lies above or below the mean over the classes.

    a_c - mean_c a_c for each column: the classes' differences without what an attack takes from
    all of them (P2's view).

    Args:
        path: the picture, `.png`, `.pdf` or `.svg`.
        columns: label -> (K,) ratios in [0, 1]; NaN for a class without images.
        class_names: K names. Many are sorted by the first column, the highest first; over 150 have
            no names, and each column is sorted by itself.
    """
    values = {name: np.asarray(column, np.float64) for name, column in columns.items()}
    order = np.arange(len(class_names))
    if len(order) > MANY:
        order = np.argsort(-np.nan_to_num(next(iter(values.values()))), kind="stable")
    figure = Figure(figsize=(min(5.0 + 0.3 * len(order), 20), 4.0), layout="constrained")
    axes = figure.add_subplot()
    entries = []
    for i, (name, column) in enumerate(values.items()):
        look: Any = {"marker": MARKERS[i % len(MARKERS)], "color": COLOURS[i % (len(COLOURS) - 1)]}
        away = column[order] - np.nanmean(column)
        if len(order) > NAMED:
            (curve,) = axes.plot(np.sort(away[~np.isnan(away)])[::-1], color=look["color"])
            entries.append((name, curve))
            continue
        shift = 0.5 * (i - (len(values) - 1) / 2) / len(values)
        entries.append((name, axes.scatter(np.arange(len(order)) + shift, away, s=22, **look)))
    name_classes(axes, [str(class_names[i]) for i in order.tolist()])
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_title("Each class less the mean over the classes")
    axes.set_ylabel("points")
    largest = max(float(np.nanmax(np.abs(c - np.nanmean(c)))) for c in values.values())
    axes.set_ylim(-1.1 * max(largest, 0.01), 1.1 * max(largest, 0.01))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:+.0f}"))
    figures.legend_above(figure, entries)
    figures.save(figure, path)


@figures.plain
def plot_heat_map(
    path: PathLike, columns: Columns, *, class_names: Sequence[str], caption: str = ""
) -> None:
    """Draws classes in rows, attacks in columns, accuracy as colour.

    Args:
        path: the picture, `.png`, `.pdf` or `.svg`.
        columns: label -> (K,) ratios in [0, 1]; NaN for a class without images.
        class_names: K names.
        caption: what stands below.

    More than 20 classes are sorted by the last column, the highest first. Up to 150 have names and
    numbers; more have ranks alone.
    """
    rows = len(class_names)
    height = 0.26 * rows if rows <= MANY else 0.15 * rows if rows <= NAMED else 7.0
    width = 2.0 + 0.09 * min(max(map(len, class_names)), 28) + 0.62 * len(columns)
    figure = Figure(figsize=(max(width, 4.2), 1.5 + height), layout="constrained")
    draw_heat_map(figure.add_subplot(), columns, class_names=class_names)
    figures.caption(figure, caption)
    figures.save(figure, path)


def draw_heat_map(axes: Axes, columns: Columns, *, class_names: Sequence[str]) -> None:
    """Draws the plot of `plot_heat_map` into axes."""
    cells = np.stack([np.asarray(column, np.float64) for column in columns.values()], axis=1)
    order = np.arange(len(cells))
    if len(cells) > MANY:
        order = np.argsort(-np.nan_to_num(cells[:, -1], nan=-1.0), kind="stable")
    cells, names = cells[order], [str(class_names[i]) for i in order.tolist()]
    many = len(names) > NAMED
    axes.imshow(cells, vmin=0, vmax=1, cmap="cividis", aspect="auto", interpolation="nearest")
    axes.xaxis.tick_top()
    rotation = 0 if max(map(len, columns)) <= 8 else 35
    figures.name_ticks(axes.xaxis, list(columns), size=9, rotation=rotation)
    if rotation:
        for text in axes.get_xticklabels():
            text.set(ha="left", rotation_mode="anchor")
    axes.axvline(0.5, color="white", linewidth=2)
    if many:
        name_ranks(axes.yaxis, len(names))
        axes.set_ylabel(f"{len(names):,} classes by rank, the last column's highest first")
        return
    size = 8 if len(names) <= MANY else 6.5
    figures.name_ticks(axes.yaxis, names, size=size)
    for (row, column), share in np.ndenumerate(cells):
        shown = "-" if np.isnan(share) else f"{100 * share:.0f}"
        text: Any = {"ha": "center", "va": "center", "fontsize": size - 0.5}
        axes.text(column, row, shown, color=figures.on_cell(share), **text)


def name_ranks(axis: Axis, count: int) -> None:
    """Puts ranks, from 1 on, at eleven of the ticks 0, 1, ... of so many classes."""
    ranks = np.linspace(0, count - 1, 11).round().astype(int)
    axis.set_ticks(ranks, [f"{rank + 1:,}" for rank in ranks.tolist()], fontsize=7)


@figures.plain
def plot_sizes(
    path: PathLike, columns: Columns, *, class_names: Sequence[str], train_counts: ArrayLike
) -> None:
    """Draws each class's accuracies over the number of images that it was trained on.

    Args:
        path: the picture, `.png`, `.pdf` or `.svg`.
        columns: label -> (K,) ratios in [0, 1]; NaN for a class without images.
        class_names: K names, written beside the points where there are at most 20.
        train_counts: (K,) training images of each class; those of none are left out.
    """
    counts = np.asarray(train_counts)
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes, entries = figure.add_subplot(), []
    for i, (name, column) in enumerate(columns.items()):
        values = np.where(counts > 0, np.asarray(column, np.float64), np.nan)
        look: Any = {"marker": MARKERS[i % len(MARKERS)], "color": COLOURS[i % (len(COLOURS) - 1)]}
        entries.append((name, axes.scatter(counts, values, s=22, alpha=0.85, **look)))
        if i == len(columns) - 1 and len(class_names) <= MANY:
            for x, y, text in zip(counts, values, class_names, strict=True):
                if np.isfinite(y):
                    place: Any = {"xytext": (4, 3), "textcoords": "offset points", "fontsize": 7}
                    axes.annotate(figures.literal(text), (x, y), **place)
    if counts.max() > 3 * max(int(counts[counts > 0].min()), 1):
        axes.set_xscale("log")
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_title("Accuracy of a class and the number of its training images")
    axes.set_xlabel("training images")
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figures.legend_above(figure, entries)
    figures.save(figure, path)


@figures.plain
def plot_confusions(
    path: PathLike, matrices: Mapping[str, ArrayLike], *, class_names: Sequence[str]
) -> None:
    """Draws confusion matrices beside each other, each row as shares of its true class.

    Args:
        path: the picture, `.png`, `.pdf` or `.svg`.
        matrices: label -> (K, K) counts, row = true class, column = predicted class. Columns
            beyond K, of answers that are no class, are left out.
        class_names: K names, written where there are at most 30.
    """
    num_classes = len(class_names)
    side = min(max(2.2 + 0.3 * num_classes, 3.2), 7.0)
    figure = Figure(figsize=(side * len(matrices), side), layout="constrained")
    for number, (label, matrix) in enumerate(matrices.items(), start=1):
        axes = figure.add_subplot(1, len(matrices), number)
        _draw_confusion(axes, np.asarray(matrix)[:num_classes, :num_classes], class_names)
        axes.set_title(figures.literal(label), fontsize=figures.size_of(label, 10))
        if number == 1:
            axes.set_ylabel("true class")
        axes.set_xlabel("predicted class")
    figures.save(figure, path)


def _draw_confusion(axes: Axes, matrix: np.ndarray, class_names: Sequence[str]) -> None:
    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.where(totals > 0, matrix / np.maximum(totals, 1), np.nan)
    axes.imshow(shares, vmin=0, vmax=1, cmap="cividis", interpolation="nearest")
    if len(class_names) > _MOST_CELLS:
        axes.set_xticks([])
        axes.set_yticks([])
        return
    figures.name_ticks(axes.yaxis, class_names, size=7)
    figures.name_ticks(axes.xaxis, class_names, size=7, rotation=90)
    for (row, column), share in np.ndenumerate(shares):
        if share >= 0.005:
            text: Any = {"ha": "center", "va": "center", "fontsize": 6}
            text["color"] = figures.on_cell(share)
            axes.text(column, row, f"{100 * share:.0f}", **text)
