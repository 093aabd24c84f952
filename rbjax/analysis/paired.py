"""The picture of two runs compared: how far apart each class is, with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from rbjax.analysis import figures
from rbjax.analysis.plots import COLOURS, MANY, MARKERS, NAMED, name_classes
from rbjax.compared import Compared


@figures.plain
def plot_paired(path: Path, compared: Compared, labels: Sequence[str]) -> None:
    """Draws into a file what `draw_paired` draws.

    Args:
        path: the picture, `.png`, `.pdf` or `.svg`.
        compared: two runs.
        labels: under what: "clean", attacks, "worst".
    """
    number = len(compared.class_names)
    each = 0.14 if number > MANY else 0.35 + 0.15 * len(labels)
    figure = Figure(figsize=(min(4.6 + each * number, 20), 4.0), layout="constrained")
    draw_paired(figure.add_subplot(), compared, labels)
    figures.save(figure, path)


def draw_paired(axes: Axes, compared: Compared, labels: Sequence[str]) -> None:
    """Draws second less first of each class, with the paired 95 % interval.

    A mark is filled where a class differs beyond chance, corrected for their number. Many classes
    are sorted by the first difference, the highest first; over 150 have no names, and each label is
    sorted by itself: a curve, and a band of the intervals.

    Args:
        axes: where.
        compared: two runs.
        labels: under what: "clean", attacks, "worst".
    """
    parts = {label: _numbers(compared, label) for label in labels}
    names = list(compared.class_names)
    order = np.arange(len(names))
    if len(names) > MANY:
        order = np.argsort(-np.nan_to_num(next(iter(parts.values()))[0]), kind="stable")
    entries = []
    for i, (label, found) in enumerate(parts.items()):
        colour = COLOURS[i % (len(COLOURS) - 2)]
        if len(names) > NAMED:
            some = np.argsort(-found[0][~np.isnan(found[0])], kind="stable")
            middle, low, high = found[:, ~np.isnan(found[0])][:, some]
            entries.append((label, axes.plot(middle, color=colour)[0]))
            axes.fill_between(range(len(middle)), low, high, color=colour, alpha=0.2, linewidth=0)
            continue
        at = np.arange(len(names)) + 0.7 * (i - (len(parts) - 1) / 2) / len(parts)
        sure = np.array([bool(compared.better(label, k)) for k in range(len(names))])[order]
        middle, low, high = found[:, order]
        reach = np.maximum([middle - low, high - middle], 0)
        axes.errorbar(at, middle, yerr=reach, fmt="none", ecolor=colour, elinewidth=1.2)
        look = {"marker": MARKERS[i % len(MARKERS)], "edgecolors": colour, "s": 26, "zorder": 3}
        fills = [colour if one else "none" for one in sure]
        entries.append((label, axes.scatter(at, middle, facecolors=fills, **look)))
    name_classes(axes, [names[i] for i in order.tolist()])
    axes.axhline(0, color="black", linewidth=0.8)
    reach = max((float(np.nanmax(np.abs(f))) for f in parts.values() if f.size), default=0.0)
    axes.set_ylim(-1.08 * max(reach, 0.01), 1.08 * max(reach, 0.01))
    axes.yaxis.set_major_formatter(FuncFormatter(_points))
    axes.set_ylabel("second less first, points")
    if len(parts) > 1:
        figures.legend(axes, entries, loc="lower left", bbox_to_anchor=(1.0, 0.0))


def _numbers(compared: Compared, label: str) -> np.ndarray:
    """Returns difference, low and high of each class, (3, K)."""
    fields = ("difference", "low", "high")
    return np.array([[getattr(one, f) for one in compared.classes[label]] for f in fields], float)


def _points(ratio: float, _: object) -> str:
    points = round(100 * ratio, 6)  # no sign before a 0
    return f"{points:+.3g}" if points else "0"
