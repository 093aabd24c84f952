"""P2's figures 1 and 2 from our cells, and what goes beyond them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.classwise import conclude, explain, plan, results
from experiments.classwise.plan import AFTER_TRAINING, ROBUST, SHARES, Key, Scale
from experiments.classwise.results import Grid, Network
from rbjax.analysis.figures import legend, literal, name_ticks, plain, save
from rbjax.analysis.plots import COLOURS
from rbjax.sweep import Result

_NAMED = 20
"""Classes up to which each has its name."""


@plain
def draw(found: Mapping[str, Result], folder: Path, *, scale: Scale) -> None:
    """Draws what the cells that are there allow.

    DATASET_figure1.png and _figure2.png, P2's, of the standard and of the robust network;
    DATASET_radii.png, _trends.png, _confusion.png; orders.png and remedies.png.

    Args:
        found: of `sweep.read`.
        folder: of the results.
        scale: of the grid.
    """
    grid = results.grid(found, scale)
    for standard, robust in conclude.pairs(grid):
        at = conclude.matched_networks(grid, standard, robust)[0].label
        name = standard.dataset
        save(_bars(grid, standard, at, "Standard network"), folder / f"{name}_figure1.png")
        title = "Adversarially trained network"
        save(_bars(grid, robust, AFTER_TRAINING, title), folder / f"{name}_figure2.png")
        save(_radii(grid, standard, robust), folder / f"{name}_radii.png")
        save(_trends(grid, standard, robust), folder / f"{name}_trends.png")
        save(_confusions(grid, standard, robust), folder / f"{name}_confusion.png")
    if figure := _orders(grid):
        save(figure, folder / "orders.png")
    if figure := _remedies(grid):
        save(figure, folder / "remedies.png")


def _bars(grid: Grid, key: Key, label: str, title: str) -> Figure:
    """P2's figures: accuracy and robustness of each class, and less their mean."""
    figure = Figure(figsize=(11, 6.4), layout="constrained")
    names = grid.names(key)
    radius = SHARES[label] * plan.epsilon(grid.scale, key.dataset)
    attacked = f"PGD, linf, radius {radius:.4g}"
    for row, (which, words) in enumerate(
        (("clean", "accuracy"), (label, f"robustness: {attacked}"))
    ):
        recall = 100 * grid.recall(Network(key, which))
        mean = recall.mean(axis=1, keepdims=True)
        for column, values in enumerate((recall, recall - mean)):
            low, high = np.quantile(values[1:], (0.025, 0.975), axis=0)
            reach = np.maximum([values[0] - low, high - values[0]], 0)
            axes = figure.add_subplot(2, 2, 2 * row + column + 1)
            colour = COLOURS[0] if row == 0 else COLOURS[3]
            axes.bar(range(len(names)), values[0], color=colour, yerr=reach, ecolor="#333333")
            axes.set_ylabel("per cent" if column == 0 else "points from the mean")
            axes.set_title(words if column == 0 else f"less the mean, {mean[0, 0]:.1f} %")
            if len(names) <= _NAMED:
                name_ticks(axes.xaxis, names, size=8, rotation=60)
    number = len(grid.seeds(key))
    figure.suptitle(literal(f"{title}, {key.dataset}, {number} seed{'s' if number > 1 else ''}"))
    return figure


def _radii(grid: Grid, standard: Key, robust: Key) -> Figure:
    """Mean, best and worst class against the radius of the attack."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    labels = ["clean", *SHARES]
    radii = np.array([0.0, *SHARES.values()]) * plan.epsilon(grid.scale, standard.dataset)
    for key, colour in ((standard, COLOURS[0]), (robust, COLOURS[3])):
        recall = 100 * np.stack([grid.recall(Network(key, label))[0] for label in labels])
        axes.plot(radii, recall.mean(axis=1), "o-", color=colour, label=f"{key.method}, mean")
        axes.fill_between(radii, recall.min(axis=1), recall.max(axis=1), color=colour, alpha=0.2)
    axes.set(xlabel="radius of PGD, linf", ylabel="accuracy, per cent", ylim=(0, 100))
    axes.set_title(literal(f"{standard.dataset}: from the worst class to the best"))
    axes.legend()
    return figure


def _trends(grid: Grid, standard: Key, robust: Key) -> Figure:
    """Each class after each epoch of training, clean and attacked, of the first seed."""
    figure = Figure(figsize=(11, 6.4), layout="constrained")
    names = grid.names(standard)
    for row, key in enumerate((standard, robust)):
        own = next(iter(grid.seeds(key).values()))
        for column, (name, values) in enumerate(grid.results[own]["trends"].items()):
            axes = figure.add_subplot(2, 2, 2 * row + column + 1)
            curves, drawn = 100 * np.asarray(values, float).reshape(-1, len(names)), []
            for label, curve in enumerate(curves.T):
                style = ("-", "--", ":")[label // 7 % 3]
                colour = COLOURS[label % 7]
                epochs = range(1, len(curve) + 1)
                drawn.append((names[label], axes.plot(epochs, curve, style, color=colour)[0]))
            axes.set_title(f"{key.method}, {name}")
            axes.set(xlabel="epoch", ylabel="validation accuracy, per cent")
            if len(names) <= _NAMED and (row, column) == (0, 1):
                legend(axes, drawn, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.suptitle(literal(f"{standard.dataset}: classes over the training"))
    return figure


def _confusions(grid: Grid, standard: Key, robust: Key) -> Figure:
    """What the classes are taken for: clean by the standard network, attacked by the robust one."""
    figure = Figure(figsize=(11, 5.2), layout="constrained")
    names = grid.names(standard)
    for column, (key, label) in enumerate(((standard, "clean"), (robust, AFTER_TRAINING))):
        own = [grid.results[k] for k in grid.seeds(key).values()]
        matrix = np.sum([explain.confusion(result, label) for result in own], axis=0)
        shares = 100 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        axes = figure.add_subplot(1, 2, column + 1)
        shown = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
        axes.set_title(f"{key.method}, {'clean' if label == 'clean' else 'attacked'}")
        axes.set(xlabel="classified as", ylabel="class")
        if len(names) <= _NAMED:
            name_ticks(axes.xaxis, names, size=8, rotation=60)
            name_ticks(axes.yaxis, names, size=8)
    figure.colorbar(shown, ax=figure.axes, label="per cent")
    return figure


def _orders(grid: Grid) -> Figure | None:
    """Class accuracies under attack of every robust network of the base dataset."""
    found = [k._replace(seed=0) for k in grid.results if k.dataset == grid.scale.base]
    keys = [k for k in dict.fromkeys(found) if k.method == ROBUST]
    if len(keys) < 2:
        return None
    figure = Figure(figsize=(8.4, 4.4), layout="constrained")
    axes, names = figure.add_subplot(), grid.names(keys[0])
    for place, key in enumerate(keys):
        recall = 100 * grid.recall(Network(key, AFTER_TRAINING))[0]
        label = f"{key.network}, {key.optimizer}"
        axes.plot(range(len(names)), recall, "o-", color=COLOURS[place % 8], label=label)
    name_ticks(axes.xaxis, names, size=8, rotation=60)
    axes.set_ylabel("accuracy under attack, per cent")
    axes.set_title("Adversarially trained networks: the same classes?")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _remedies(grid: Grid) -> Figure | None:
    """The trade-off: mean against worst class, and the critical class against the others."""
    base = Key("datasets", grid.scale.base, grid.scale.network, grid.scale.optimizer, ROBUST, 0)
    found = [k._replace(seed=0) for k in grid.results if k.group == "remedies"]
    keys = [*([base] if grid.seeds(base) else []), *dict.fromkeys(found)]
    if len(keys) < 2 or not grid.seeds(base):
        return None
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    name = grid.names(base)[plan.CRITICAL]
    for column, (across, up, title) in enumerate(
        (
            (results.mean, results.worst, ("mean of classes", "worst class")),
            (
                results.of_others(plan.CRITICAL),
                results.of_class(plan.CRITICAL),
                ("mean of the other classes", name),
            ),
        )
    ):
        axes = figure.add_subplot(1, 2, column + 1)
        for place, key in enumerate(keys):
            network = Network(key, AFTER_TRAINING)
            x, y = (grid.contrast([(1, network)], measure) for measure in (across, up))
            if x is None or y is None:
                continue
            bars: Any = {"xerr": [[x.value - x.low], [x.high - x.value]]}
            bars |= {"yerr": [[y.value - y.low], [y.high - y.value]]}
            marker, colour = "os^Dv"[place // 7 % 5], COLOURS[place % 7]
            axes.errorbar(x.value, y.value, fmt=marker, color=colour, label=key.method, **bars)
        axes.set(xlabel=f"{title[0]}, per cent", ylabel=literal(f"{title[1]}, per cent"))
        axes.set_title("Accuracy under attack")
    figure.axes[1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
