"""Accuracy as curves: against epsilon, against passes through the model, against severity."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from rbjax.analysis import figures, plots
from rbjax.analysis.measured import Family, Levels, Measured
from rbjax.sheet import spoken

_PER_ROW = 5
"""Corruptions beside each other."""
_GREY = "#8A8A8A"


def draw_epsilons(axes: Axes, families: Sequence[Family], class_names: Sequence[str]) -> None:
    """Draws the curves of one norm into axes: of a single attack with those of its classes.

    Args:
        axes: where.
        families: of `measured.over_epsilon`, of one norm.
        class_names: K names.
    """

    def radius(one: Measured) -> float:
        return float(one.setting.epsilon or 0.0)

    _draw_families(axes, families, radius, class_names)
    norm = families[0][1][-1].setting.norm
    known = sorted({radius(one) for _, points in families for one in points})
    if len(known) <= 8:
        axes.xaxis.set_major_locator(FixedLocator(known))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: spoken(value)))
        if max(len(spoken(value)) for value in known) * len(known) > 40:
            axes.tick_params(axis="x", labelrotation=30)
    axes.set_xlim(-0.01 * known[-1], 1.02 * known[-1])
    axes.set_xlabel(f"epsilon, {norm}")
    axes.set_title("Accuracy under attack", fontsize=10)


def draw_passes(axes: Axes, families: Sequence[Family], class_names: Sequence[str]) -> None:
    """Draws accuracies over the passes that they took into axes.

    Args:
        axes: where.
        families: of `measured.over_passes`.
        class_names: K names.
    """

    def cost(one: Measured) -> float:
        return float(one.passes or 0.0)

    _draw_families(axes, families, cost, class_names)
    known = [cost(one) for _, points in families for one in points]
    axes.set_xscale("log")
    axes.set_xlim(0.9 * min(known), 1.12 * max(known))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("passes of an image through the model, forwards and backwards")
    axes.set_title("Accuracy under attack", fontsize=10)


def _draw_families(
    axes: Axes,
    families: Sequence[Family],
    place: Callable[[Measured], float],
    class_names: Sequence[str],
) -> None:
    """Draws each attack's accuracy with its interval, and its classes, or of several the weakest.

    Args:
        axes: where.
        families: names of curves and their points.
        place: where a point stands.
        class_names: K names.
    """
    if len(families) == 1 and len(families[0][1]) > 1:
        name, points = families[0]
        where = np.array([place(one) for one in points])
        shares = [one.accuracy for one in points]
        plots.draw_class_curves(
            axes,
            where,
            [of.value for of in shares],
            np.stack([one.classes for one in points], axis=1),
            class_names=class_names,
            band=([of.low for of in shares], [of.high for of in shares]),
        )
        axes.lines[0].set(marker="o", markersize=4)
        axes.text(0.99, 0.97, figures.literal(name), transform=axes.transAxes, ha="right", va="top")
    else:
        _draw_several(axes, families, place)
    axes.set_ylabel("accuracy")


def _draw_several(
    axes: Axes, families: Sequence[Family], place: Callable[[Measured], float]
) -> None:
    """Draws one colour an attack: all images solid, with intervals, the weakest class dashed."""
    entries: list[tuple[str, Any]] = []
    for (name, points), colour, marker in zip(
        families, itertools.cycle(plots.COLOURS[:-2]), itertools.cycle(plots.MARKERS), strict=False
    ):
        where = [place(one) for one in points]
        shares = [one.accuracy for one in points]
        look: Any = {"color": colour, "marker": marker, "markersize": 4, "linewidth": 1.8}
        (curve,) = axes.plot(where, [of.value for of in shares], **look)
        axes.vlines(where, [of.low for of in shares], [of.high for of in shares], colors=colour)
        weakest = [float(np.nanmin(one.classes)) for one in points]
        look |= {"linestyle": "--", "linewidth": 1.0, "markersize": 3}
        axes.plot(where, weakest, **look)
        entries.append((name, curve))
    small: Any = {"color": _GREY, "linestyle": "--", "linewidth": 1.0, "marker": "o"}
    entries.append(("small: the weakest class at each", Line2D([], [], markersize=3, **small)))
    plots.as_shares(axes)
    figures.legend(axes, entries, size=8, loc="center left", bbox_to_anchor=(1.0, 0.5))


@figures.plain
def plot_epsilons(
    path: plots.PathLike,
    by_norm: Mapping[str, Sequence[Family]],
    *,
    class_names: Sequence[str],
    caption: str = "",
) -> None:
    """Draws robust accuracy against epsilon, a panel a norm.

    Args:
        path: the picture, `.png`, `.pdf` or `.svg`.
        by_norm: of `measured.over_epsilon`.
        class_names: K names.
        caption: what stands below.
    """
    figure = Figure(figsize=(7.6, 4.2 * len(by_norm)), layout="constrained")
    for number, families in enumerate(by_norm.values(), start=1):
        draw_epsilons(figure.add_subplot(len(by_norm), 1, number), families, class_names)
    figures.caption(figure, caption)
    figures.save(figure, path)


@figures.plain
def plot_passes(
    path: plots.PathLike,
    families: Sequence[Family],
    *,
    class_names: Sequence[str],
    caption: str = "",
) -> None:
    """Draws robust accuracy against passes; see `plot_epsilons`."""
    figure = Figure(figsize=(8.4, 4.2), layout="constrained")
    draw_passes(figure.add_subplot(), families, class_names)
    figures.caption(figure, caption)
    figures.save(figure, path)


@figures.plain
def plot_severities(
    path: plots.PathLike,
    corruptions: Sequence[Levels],
    *,
    class_names: Sequence[str],
    caption: str = "",
) -> None:
    """Draws accuracy against severity, a panel a corruption.

    Black is all images, orange the class with the lowest mean over the severities, which is named;
    grey is each other class, or, of more than 20, the band from the 10th to the 90th percentile of
    the classes.

    Args:
        path: the picture, `.png`, `.pdf` or `.svg`.
        corruptions: of `measured.corrupted`.
        class_names: K names.
        caption: what stands below.
    """
    columns = min(_PER_ROW, len(corruptions))
    rows = math.ceil(len(corruptions) / columns)
    figure = Figure(figsize=(2.1 * columns + 0.8, 1.9 * rows + 0.7), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes, levels in itertools.zip_longest(grid.ravel(), corruptions):
        if levels is None:
            axes.set_axis_off()
        else:
            draw_severities(axes, levels, class_names)
    for axes in grid[:, 0]:
        axes.set_ylabel("accuracy", fontsize=8)
    for axes in grid.ravel()[max(len(corruptions) - columns, 0) : len(corruptions)]:
        axes.set_xlabel("severity (0: clean)", fontsize=8)
    figures.caption(figure, caption)
    figures.save(figure, path)


def severities_said(corruptions: Sequence[Levels]) -> str:
    """Returns what is grey in `plot_severities`, in words."""
    most = max(int((~np.isnan(levels.classes).any(axis=0)).sum()) for levels in corruptions)
    low, high = plots.MIDDLE
    band = f"from the {low}th to the {high}th percentile of the classes as a grey band"
    return band if most > plots.MANY else "of each other class in grey"


def draw_severities(axes: Axes, levels: Levels, class_names: Sequence[str]) -> None:
    """Draws one corruption's panel of `plot_severities` into axes."""
    at, classes = levels.severities, levels.classes
    present = np.flatnonzero(~np.isnan(classes).any(axis=0))
    if len(present) > plots.MANY:
        low, high = np.percentile(classes[:, present], plots.MIDDLE, axis=1)
        axes.fill_between(at, low, high, color=_GREY, alpha=0.35, linewidth=0)
    else:
        axes.plot(at, classes[:, present], color=_GREY, linewidth=0.8)
    axes.plot(at, levels.overall, color="black", linewidth=2.0, marker="o", markersize=3)
    if len(present):
        weakest = int(present[np.argmin(classes[:, present].mean(axis=0))])
        axes.plot(at, classes[:, weakest], color=plots.COLOURS[3], linewidth=1.4)
        name = f"weakest: {figures.literal(class_names[weakest])}"
        size = figures.size_of(name, 8)
        look: Any = {"fontsize": size, "ha": "left", "va": "bottom"}
        axes.text(0.04, 0.03, name, transform=axes.transAxes, **look)
    plots.as_shares(axes)
    axes.set_xlim(at[0], at[-1])
    axes.set_xticks(at)
    axes.tick_params(labelsize=7)
    axes.set_title(figures.literal(levels.name.replace("_", " ")), fontsize=9)
