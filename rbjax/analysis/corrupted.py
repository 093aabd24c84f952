"""The picture of the accuracies under corruptions, class by class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from rbjax.analysis import figures
from rbjax.analysis.classes import name_ranks
from rbjax.analysis.plots import MANY, NAMED, PathLike

_CELL_HEIGHT, _CELL_WIDTH = 0.26, 0.52
"""Of a cell, in inches."""
_WIDEST = 20
"""Of a picture, in inches: with more classes its cells are narrower."""

_NARROW = 0.14
"""Of a cell of many classes, in inches: its number stands upright."""


def width_of(num_classes: int) -> float:
    """Returns the inches that the picture of so many classes is wide."""
    return min(2.4 + (_CELL_WIDTH if num_classes <= MANY else _NARROW) * (1 + num_classes), _WIDEST)


@figures.plain
def plot_corruptions(
    path: PathLike, corruptions: Mapping[str, Any], *, class_names: list[str], caption: str = ""
) -> None:
    """Draws the accuracy of each class under each corruption, the mean over its severities.

    More than 20 classes are sorted by their mean over the corruptions, the highest first. Up to 150
    have names and numbers; more have ranks alone.

    Args:
        path: the picture, `.png`, `.pdf` or `.svg`.
        corruptions: the report's "corruptions".
        class_names: K names.
        caption: what stands below.
    """
    size = width_of(len(class_names)), 1.5 + _CELL_HEIGHT * len(corruptions["order"])
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    drawn = draw_corruptions(axes, corruptions, class_names=class_names)
    bar = figure.colorbar(drawn, ax=axes, fraction=0.03, pad=0.01)
    bar.ax.tick_params(labelsize=7)
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    figures.caption(figure, caption)
    figures.save(figure, path)


def draw_corruptions(
    axes: Axes, corruptions: Mapping[str, Any], *, class_names: list[str]
) -> AxesImage:
    """Draws the plot of `plot_corruptions` into axes; a class without images has a "-"."""
    order = corruptions["order"]
    cells = np.stack(
        [np.mean(np.asarray(corruptions["class_accuracy"][n], np.float64), axis=0) for n in order]
    )
    whole = np.asarray([np.mean(corruptions["accuracy"][name]) for name in order])
    rows, names = [name.replace("_", " ") for name in order], class_names
    many = len(names) > MANY
    if many:
        ranked = np.argsort(-np.nan_to_num(cells.mean(axis=0), nan=-1.0), kind="stable")
        cells, names = cells[:, ranked], [names[i] for i in ranked.tolist()]
    if len(names) > NAMED:  # a column of all images would not be seen
        rows = [f"{row}, all {100 * share:.0f} %" for row, share in zip(rows, whole, strict=True)]
    else:
        cells, names = np.concatenate([whole[:, None], cells], axis=1), ["all", *names]
    look: Any = {"cmap": "cividis", "aspect": "auto", "interpolation": "nearest"}
    drawn = axes.imshow(cells, vmin=0, vmax=1, **look)
    figures.name_ticks(axes.yaxis, rows, size=8)
    if len(class_names) > NAMED:
        name_ranks(axes.xaxis, len(names))
        axes.set_xlabel(f"{len(names):,} classes by rank, the highest mean first", fontsize=8)
    else:
        axes.axvline(0.5, color="white", linewidth=2)
        figures.name_ticks(axes.xaxis, names, size=6 if many else 8, rotation=90 if many else 40)
        if not many:
            for text in axes.get_xticklabels():
                text.set(ha="right", rotation_mode="anchor")
        _number(axes, cells, size=6 if many else 7, rotation=90 if many else 0)
    axes.set_title("accuracy under corruptions, mean over severities, %", fontsize=9, loc="left")
    return drawn


def _number(axes: Axes, cells: np.ndarray, *, size: float, rotation: int) -> None:
    """Writes each share into its cell, in per cent."""
    for (row, column), share in np.ndenumerate(cells):
        shown = "-" if np.isnan(share) else f"{100 * share:.0f}"
        text: Any = {"ha": "center", "va": "center", "fontsize": size, "rotation": rotation}
        axes.text(column, row, shown, color=figures.on_cell(share), **text)
