"""Plots of a run: bars per class, survival curves, an overview.

Figures are drawn by objects, without pyplot's global state, so that a plot never opens a window,
never leaks and may be drawn in any thread.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import ArrayLike

from rbjax.analysis import figures
from rbjax.analysis.figures import literal, save
from rbjax.metrics import wilson_interval

Columns = Mapping[str, ArrayLike]
PathLike = str | os.PathLike[str]

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
"""Distinct for colour-blind people too (Okabe and Ito 2008); the last two do not work as lines."""

MARKERS = "osD^vP*X"
_LINES = ("-", "--", ":")
_STYLES = [(line, colour) for line in _LINES for colour in COLOURS[:-2]]
"""Of classes' curves."""
_BARS = COLOURS[:-1]
"""Of bars: whiskers would not be visible on black."""
_HATCHES = ("", "////", "....")
"""Of bars whose colours are in use already."""
MANY = 20
"""More classes than this get points in place of bars, and grey lines in place of coloured ones."""
NAMED = 150
"""More classes than this have neither names nor whiskers in a picture: there is no room."""
MIDDLE = (10, 90)
"""Percentiles of the classes between which the band of very many lies."""


@figures.plain
def plot_classwise(
    path: PathLike,
    columns: Columns,
    *,
    class_names: Sequence[str],
    counts: ArrayLike | None = None,
    bare: Collection[str] = (),
    caption: str = "",
) -> None:
    """Draws a group of bars per class, or of points where there are many classes.

    Args:
        path: the picture, `.png`, `.pdf` or `.svg`.
        columns: label -> (K,) ratios in [0, 1], one bar each: clean, and under each attack.
        class_names: K names.
        counts: (K,) examples of each class, for 95 % Wilson intervals; None draws none.
        bare: columns that are no shares of these examples, and are drawn without intervals.
        caption: what stands below.

    Many classes are sorted by the first column, the highest first. Over 150 have no names, and each
    column is sorted by itself: a curve of how its accuracies are distributed.
    """
    many = len(class_names) > MANY
    width = min(5.0 + 0.14 * len(class_names) * (1 if many else 0.75 + len(columns)), 20)
    figure = Figure(figsize=(width, 4.6), layout="constrained")
    axes = figure.add_subplot()
    some: Any = {"class_names": class_names, "counts": counts, "bare": bare}
    draw_classwise(axes, columns, **some, above=True)
    figures.caption(figure, caption)
    save(figure, path)


@figures.plain
def plot_survival(
    path: PathLike,
    overall: ArrayLike,
    classes: ArrayLike | None = None,
    *,
    class_names: Sequence[str] = (),
    band: tuple[ArrayLike, ArrayLike] | None = None,
    class_band: tuple[ArrayLike, ArrayLike] | None = None,
    caption: str = "",
) -> None:
    """Draws RPR's survival curves: the share of images still robust after each number of draws.

    Args:
        path: the picture, `.png`, `.pdf` or `.svg`.
        overall: (max_steps + 1,) share of all images, from 0 draws on.
        classes: (K, max_steps + 1) share of each class, NaN for a class without images; None draws
            none.
        class_names: K names, if there are classes.
        band: (max_steps + 1,) each, the edges of all images' confidence band; None draws none.
        class_band: (K, max_steps + 1) each, those of the classes.
        caption: what stands below.
    """
    figure = Figure(figsize=(7.6, 4.6), layout="constrained")
    axes = figure.add_subplot()
    bands: dict[str, Any] = {"band": band, "class_band": class_band}
    draw_survival(axes, overall, classes, class_names=class_names, **bands)
    figures.caption(figure, caption)
    save(figure, path)


@figures.plain
def plot_overview(
    path: PathLike,
    columns: Columns,
    *,
    class_names: Sequence[str],
    counts: ArrayLike | None = None,
    survival: ArrayLike | None = None,
    class_survival: ArrayLike | None = None,
    perturbation: ArrayLike | None = None,
    crafted_on: str = "",
    title: str = "",
    caption: str = "",
) -> None:
    """Draws a run in one picture: bars per class, survival curves, the universal perturbation.

    Args:
        path: the picture, `.png`, `.pdf` or `.svg`.
        columns: as for `plot_classwise`.
        class_names: K names.
        counts: as for `plot_classwise`.
        survival: (max_steps + 1,) as for `plot_survival`; None leaves the panel out.
        class_survival: (K, max_steps + 1).
        perturbation: (H, W, C) in [-epsilon, epsilon]; None leaves the panel out.
        crafted_on: what images the perturbation was crafted on.
        title: what stands above.
        caption: what stands below.
    """
    panels: list[tuple[float, Callable[[Axes], None]]] = []
    if survival is not None:
        draw = functools.partial(draw_survival, overall=survival, classes=class_survival)
        panels.append((2.0, functools.partial(draw, class_names=class_names)))
    if perturbation is not None:
        drawn: Any = {"perturbation": perturbation, "crafted_on": crafted_on}
        panels.append((1.0, functools.partial(draw_perturbation, **drawn)))
    width = 11 if len(class_names) <= MANY else 18
    figure = Figure(figsize=(width, 7.6 if panels else 4), layout="constrained")
    widths = [ratio for ratio, _ in panels] or [1.0]
    grid = figure.add_gridspec(2 if panels else 1, len(widths), width_ratios=widths)
    draw_classwise(figure.add_subplot(grid[0, :]), columns, class_names=class_names, counts=counts)
    for i, (_, draw_panel) in enumerate(panels):
        draw_panel(figure.add_subplot(grid[1, i]))
    if title:
        figure.suptitle(literal(title), fontweight="bold")
    figures.caption(figure, caption)
    save(figure, path)


def draw_classwise(
    axes: Axes,
    columns: Columns,
    *,
    class_names: Sequence[str],
    counts: ArrayLike | None = None,
    bare: Collection[str] = (),
    above: bool = False,
) -> None:
    """Draws the plot of `plot_classwise` into axes, with the legend beside them.

    If `above`, that stands above the figure, which has no other axes.
    """
    values = {name: np.asarray(column, np.float64) for name, column in columns.items()}
    order = np.arange(len(class_names))
    many = len(class_names) > MANY
    if many:
        order = np.argsort(-np.nan_to_num(next(iter(values.values()))), kind="stable")
    bar, entries = 0.8 / len(values), []
    for i, (name, column) in enumerate(values.items()):
        column, colour = column[order], _BARS[i % len(_BARS)]
        hatch = _HATCHES[i // len(_BARS) % len(_HATCHES)]
        errors = None
        if counts is not None and name not in bare:
            # How far each 95 % interval reaches down and up.
            trials = np.where(np.isnan(column), 0, np.asarray(counts)[order])
            low, high = wilson_interval(np.rint(np.nan_to_num(column) * trials), trials)
            reach = np.maximum([column - low, high - column], 0)
            errors = np.where(trials > 0, reach, 0)
        whiskers: Any = {"yerr": errors, "elinewidth": 0.8}
        if many:
            marker = MARKERS[i % len(MARKERS)]
            whiskers |= {"fmt": marker, "ms": 4, "color": colour, "alpha": 0.9}
            if len(order) > NAMED:
                ranked = np.sort(column[~np.isnan(column)])[::-1]
                line: Any = {"drawstyle": "steps-mid", "linestyle": _LINES[i // len(_BARS) % 3]}
                (curve,) = axes.plot(ranked, color=colour, linewidth=1.8, **line)
                entries += [(name, curve)]
            else:
                entries += [(name, axes.errorbar(np.arange(len(order)), column, **whiskers))]
        else:
            offset = (i - (len(values) - 1) / 2) * bar
            look: Any = {"color": colour, "hatch": hatch, "edgecolor": "white", "linewidth": 0}
            entries += [(name, axes.bar(order + offset, column, bar, **look))]
            whiskers |= {"fmt": "none", "ecolor": "#333333", "capsize": 1.5}
            axes.errorbar(order + offset, column, **whiskers)
    name_classes(axes, [str(class_names[i]) for i in order.tolist()])
    axes.set_title("Accuracy of each class")
    axes.set_ylabel("accuracy")
    if above:
        figures.legend_above(cast(Figure, axes.figure), entries)
    else:
        figures.legend(axes, entries, loc="lower left", bbox_to_anchor=(1.0, 0.0))


def draw_survival(
    axes: Axes,
    overall: ArrayLike,
    classes: ArrayLike | None = None,
    *,
    class_names: Sequence[str] = (),
    band: tuple[ArrayLike, ArrayLike] | None = None,
    class_band: tuple[ArrayLike, ArrayLike] | None = None,
) -> None:
    """Draws the plot of `plot_survival` into axes; of many classes, the outermost six are named."""
    draws = np.arange(len(np.asarray(overall)))
    bands: Any = {"band": band, "class_band": class_band}
    draw_class_curves(axes, draws, overall, classes, class_names=class_names, **bands)
    axes.set_title("Images that withstand every random draw so far")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("random draws of an image")
    axes.set_ylabel("still robust")


def draw_class_curves(
    axes: Axes,
    at: ArrayLike,
    overall: ArrayLike,
    classes: ArrayLike | None = None,
    *,
    class_names: Sequence[str] = (),
    band: tuple[ArrayLike, ArrayLike] | None = None,
    class_band: tuple[ArrayLike, ArrayLike] | None = None,
) -> None:
    """Draws a share of all images as a curve, and that of each class, ranked by their ends.

    Args:
        axes: where.
        at: (T,) ascending, where the values stand.
        overall: (T,) of all images.
        classes: (K, T), NaN for a class without images; None draws none.
        class_names: K names, if there are classes; of many the outermost six are named.
        band: (T,) each, the edges of all images' confidence band; None draws none.
        class_band: (K, T) each, those of the classes.
    """
    at, overall = np.asarray(at, np.float64), np.asarray(overall, np.float64)
    curves = np.empty((0, len(overall))) if classes is None else np.asarray(classes, np.float64)
    present = np.flatnonzero(~np.isnan(curves).any(axis=1))
    ranked = present[np.argsort(-curves[present, -1], kind="stable")]
    named = ranked if len(ranked) <= len(_STYLES) else np.concatenate([ranked[:3], ranked[-3:]])
    if band is not None:
        _shade(axes, at, *band, colour="black")
    (whole,) = axes.plot(at, overall, color="black", linewidth=2.6, zorder=3)
    entries: list[tuple[str, Any]] = [(f"all  {overall[-1]:.0%}", whole)]
    if len(ranked) > NAMED:
        low, high = np.percentile(curves[ranked], MIDDLE, axis=0)
        shade: Any = {"color": "#BBBBBB", "alpha": 0.6, "linewidth": 0}
        entries.append(("the middle 80 % of classes", axes.fill_between(at, low, high, **shade)))
    else:
        for label in np.setdiff1d(ranked, named):
            axes.plot(at, curves[label], color="#BBBBBB", linewidth=0.6)
    for label, (line, colour) in zip(named.tolist(), _STYLES, strict=False):
        text = f"{class_names[label]}  {curves[label, -1]:.0%}"
        if class_band is not None:
            low, high = (np.asarray(edge, np.float64)[label] for edge in class_band)
            _shade(axes, at, low, high, colour=colour)
        (curve,) = axes.plot(at, curves[label], line, color=colour, linewidth=1.4)
        entries.append((text, curve))
    as_shares(axes)
    axes.set_xlim(at[0], at[-1])
    figures.legend(axes, entries, size=9, loc="center left", bbox_to_anchor=(1.0, 0.5))


def class_curves_said(count: int) -> str:
    """Returns which curves `draw_class_curves` draws of so many classes with images, in words."""
    if count <= len(_STYLES):
        return "of each class"
    others = "the middle 80 % of classes as a band" if count > NAMED else "the others grey"
    return f"of the three highest and the three lowest classes; {others}"


def _shade(axes: Axes, at: np.ndarray, low: ArrayLike, high: ArrayLike, *, colour: str) -> None:
    low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
    axes.fill_between(at, low, high, color=colour, alpha=0.12, linewidth=0)


def draw_perturbation(axes: Axes, perturbation: ArrayLike, *, crafted_on: str = "") -> None:
    """Draws a universal perturbation (H, W, C), grey where it is 0, its largest value full."""
    delta = np.asarray(perturbation, np.float64)
    largest = float(np.abs(delta).max())
    shown = 0.5 + delta / (2 * largest) if largest else np.full_like(delta, 0.5)
    if shown.shape[-1] == 3:
        axes.imshow(shown, interpolation="nearest")
    else:
        axes.imshow(shown.mean(axis=-1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_axis_off()
    lines = ["Universal perturbation", f"largest value {255 * largest:.3g}/255"]
    lines += [f"crafted on {literal(crafted_on)}"] if crafted_on else []
    axes.set_title("\n".join(lines), fontsize=9 if crafted_on else None)


def name_classes(axes: Axes, names: Sequence[str]) -> None:
    """Names the classes at the ticks 0, 1, 2, ..., and lays out an axis of ratios beside them.

    Args:
        axes: where.
        names: K of them; over 150 are not shown.
    """
    if len(names) > NAMED:
        axes.set_xticks([])
        axes.set_xlabel(f"{len(names):,} classes, the highest of each column first")
        axes.set_xlim(-0.7, len(names) - 0.3)
        as_shares(axes)
        return
    many = len(names) > MANY
    turned = many or max(map(len, names)) > 9
    rotation = 90 if many else 30 * turned
    figures.name_ticks(axes.xaxis, names, size=6 if many else 9, rotation=rotation)
    if turned and not many:
        for text in axes.get_xticklabels():
            text.set(ha="right", rotation_mode="anchor")
    axes.set_xlim(-0.7, len(names) - 0.3)
    as_shares(axes)


def as_shares(axes: Axes) -> None:
    """Lays out an axis of ratios."""
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_axisbelow(True)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
