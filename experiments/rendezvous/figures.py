"""P1's figure 1 of our levels, what methods add to the bias, and each class's accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from experiments.rendezvous import conclude, levels, results
from experiments.rendezvous.conclude import TITLES
from experiments.rendezvous.plan import PLAIN, Scale
from experiments.rendezvous.results import Cohort
from rbjax.analysis.figures import legend, literal, name_ticks, plain, save
from rbjax.analysis.plots import COLOURS
from rbjax.sweep import Result


@plain
def draw(
    found: Mapping[str, Result], folder: Path, *, scale: Scale, dataset: str | None = None
) -> None:
    """Draws what the cells that are there allow, DATASET_NETWORK_*.png.

    Args:
        found: of `sweep.read`.
        folder: of the results.
        scale: of the grid.
        dataset: as for `plan.keys`.
    """
    for cohort in results.cohorts(found, scale, dataset):
        title = f"{cohort.dataset}_{cohort.network}"
        counts = {level: cohort.counts(level) for level in cohort.levels}
        there = {level: own for level, own in counts.items() if own is not None}
        if not there:
            continue
        levels.plot(str(folder / f"{title}_figure1.png"), there, dataset=cohort.dataset)
        for name, make in (("changes", _changes), ("classes", _classes)):
            figure = make(cohort)
            if figure is not None:
                save(figure, folder / f"{title}_{name}.png")


def _changes(cohort: Cohort) -> Figure | None:
    """What each method adds to the gap between many and few, and to the spread, at equal size."""
    pair = conclude.pairs(cohort)[-1]
    names = [name for name in TITLES if name != "none"]
    panels = {
        "gap of many and few images": lambda name: conclude.change(cohort, name, pair, "gap"),
        "class spread, long tail": lambda name: conclude.effect(cohort, pair[0], name, "spread"),
        "class spread, balanced": lambda name: conclude.effect(cohort, pair[1], name, "spread"),
    }
    figure, is_empty = Figure(figsize=(10.5, 2.8), layout="constrained"), True
    for axes, (title, measure) in zip(
        figure.subplots(1, len(panels), sharey=True), panels.items(), strict=True
    ):
        for row, name in enumerate(names):
            found = measure(name)
            if found is not None:
                is_empty = False
                axes.plot([found.low, found.high], [row, row], color=COLOURS[0])
                axes.plot(found.value, row, "o", color=COLOURS[0])
        axes.axvline(0, color="#888888", linewidth=0.8)
        axes.set_title(title, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    first = figure.axes[0]  # whose axis the others share
    name_ticks(first.yaxis, [TITLES[name] for name in names], size=9)
    first.set_ylim(len(names) - 0.5, -0.5)
    figure.supxlabel("added to no method's, points", fontsize=10)
    figure.suptitle(literal(f"{cohort.dataset}, {cohort.network}: 95 % intervals"), fontsize=10)
    return None if is_empty else figure


def _classes(cohort: Cohort) -> Figure | None:
    """Accuracy of the classes of the long tail, from most to fewest training images."""
    level = cohort.levels[-1]
    counts = cohort.counts(level)
    if counts is None:
        return None
    order = np.argsort(-counts, kind="stable")
    figure, lines = Figure(figsize=(10.5, 3.4), layout="constrained"), []
    panels = {"clean": "as they are", "universal": "with a universal perturbation"}
    for axes, (name, words) in zip(
        figure.subplots(1, len(panels), sharey=True), panels.items(), strict=True
    ):
        lines = []
        for place, (method, title) in enumerate(TITLES.items()):
            own = [
                100 * results.recall(result, name)[order]
                for key, result in cohort.results.items()
                if (key.level, key.method, key.remedy) == (level, method, PLAIN)
            ]
            if own:
                mark = "osD^vP"[place]
                (line,) = axes.plot(
                    np.mean(own, axis=0), mark + "-", color=COLOURS[place], markersize=3
                )
                lines.append((title, line))
        axes.set(xlabel="classes, from most to fewest training images", title=words)
        axes.set_ylim(0, 100)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("correct, per cent")
    legend(figure.axes[-1], lines, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
