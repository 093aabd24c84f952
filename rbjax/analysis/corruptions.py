"""A picture of an evaluation under corruptions: every class under every one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from rbjax.analysis.plots import MANY, save

_HEIGHT, _WIDTH = 0.26, 0.52
"""Of a cell, in inches."""
_WIDEST = 20
"""Of a picture, in inches: with more classes its cells are narrower."""


def plot_corruptions(
    path: str | os.PathLike[str], found: Mapping[str, Any], *, class_names: list[str]
) -> None:
    """Draws the accuracy of each class under each corruption, the mean over its severities.

    Args:
        path: the PNG.
        found: the report's "corruptions".
        class_names: K names.
    """
    wide = 0.09 if len(class_names) > MANY else _WIDTH
    width = min(2.4 + wide * (1 + len(class_names)), _WIDEST)
    figure = Figure(figsize=(width, 1.5 + _HEIGHT * len(found["order"])), layout="constrained")
    axes = figure.add_subplot()
    drawn = draw_corruptions(axes, found, class_names=class_names)
    bar = figure.colorbar(drawn, ax=axes, fraction=0.03, pad=0.01)
    bar.ax.tick_params(labelsize=7)
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    save(figure, path)


def draw_corruptions(axes: Axes, found: Mapping[str, Any], *, class_names: list[str]) -> AxesImage:
    """Draws what `plot_corruptions` says into axes; a class without images has a "-"."""
    names = found["order"]
    classes = np.stack(
        [np.mean(np.asarray(found["class_accuracy"][n], np.float64), axis=0) for n in names]
    )
    whole = np.asarray([np.mean(found["accuracy"][name]) for name in names])
    cells = np.concatenate([whole[:, None], classes], axis=1)
    drawn = axes.imshow(cells, vmin=0, vmax=1, cmap="cividis", aspect="auto")
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names], fontsize=8)
    axes.axvline(0.5, color="white", linewidth=2)
    if len(class_names) > MANY:
        axes.set_xticks([0], ["all"], fontsize=8)
        axes.set_xlabel(f"{len(class_names)} classes, in their order", fontsize=8)
    else:
        axes.set_xticks(range(cells.shape[1]), ["all", *class_names], fontsize=8, rotation=40)
        for text in axes.get_xticklabels():
            text.set(ha="right", rotation_mode="anchor")
        for (row, column), value in np.ndenumerate(cells):
            shown = "-" if np.isnan(value) else f"{100 * value:.0f}"
            colour = "white" if value <= 0.5 else "black"  # where there is no value, on white
            axes.text(column, row, shown, ha="center", va="center", fontsize=7, color=colour)
    axes.set_title("accuracy under corruptions, mean over severities, %", fontsize=9, loc="left")
    return drawn
