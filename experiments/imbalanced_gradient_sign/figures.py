"""P5's figures 1 to 6 from our cells, and what goes beyond them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.imbalanced_gradient_sign import conclude, plan, results
from experiments.imbalanced_gradient_sign.measure import CURVE, EDGES, EPSILON
from experiments.imbalanced_gradient_sign.plan import Scale
from experiments.imbalanced_gradient_sign.results import Grid
from rbjax.analysis.figures import legend, literal, name_ticks, plain, save
from rbjax.analysis.plots import COLOURS
from rbjax.sweep import Result
from rbjax.training import setup

KINDS = ("balanced", "under", "over")
Names = Sequence[str]


@plain
def draw(
    found: Mapping[str, Result],
    folder: Path,
    *,
    scale: Scale,
    as_published: bool = False,
    **data: str | None,
) -> None:
    """Draws what the cells that are there allow, VARIANT_figureN.png.

    Args:
        found: of `sweep.read`.
        folder: of the results.
        scale: of the grid.
        as_published: whether the grid is that of P5's code.
        **data: another dataset, see `plan.base`.
    """
    info = setup.info(plan.base(scale, as_published=as_published, **data))
    for variant in ("published",) if as_published else ("written", "matched"):
        grid = results.grid(found, variant, scale)
        if not grid.classes() or not grid.seeds("balanced"):
            continue
        figures: dict[str, Callable[[Grid, Names], Figure | None]] = {
            "figure1": _confusion,
            "figure2": _clean,
            "figure3": _example,
            "figure4": _scores,
            "figure5": _relative,
            "figure6": _misclassified,
            "epsilons": _curves,
        }
        if variant == "matched":
            figures |= {"degrees": _degrees, "tails": _tails}
        for name, make in figures.items():
            figure = make(grid, info.class_names)
            if figure is not None:
                save(figure, folder / f"{variant}_{name}.png")


def _confusion(grid: Grid, names: Names) -> Figure:
    """Figure 1: what the balanced network takes the test images for."""
    matrix = np.sum([r["clean"] for r in grid.seeds("balanced").values()], axis=0)
    shares = 100 * matrix / matrix.sum(axis=1, keepdims=True)
    figure = Figure(figsize=(6.4, 5.6), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    for (row, column), share in np.ndenumerate(shares):
        colour = "#FFFFFE" if share > 60 else "#010101"  # which no page's theme changes
        if len(names) <= 20:
            axes.text(column, row, f"{share:.0f}", ha="center", va="center", color=colour, size=8)
    name_ticks(axes.xaxis, names, size=8, rotation=60)
    name_ticks(axes.yaxis, names, size=8)
    axes.set(xlabel="classified as, per cent", ylabel="class")
    axes.set_title(f"Balanced network, test images: {np.mean(np.diag(shares)):.1f} % right")
    return figure


def _bars(grid: Grid, names: Names, label: str, measure: results.Measure) -> tuple[Figure, Axes]:
    """Returns bars of a measure, a group a class, and its mean over classes last."""
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    axes, targets, bars = figure.add_subplot(), grid.classes(), []
    for place, kind in enumerate(KINDS):
        values = []
        for target in targets:
            own = grid.seeds(kind, None if kind == "balanced" else target).values()
            values.append(100 * np.mean([measure(r, label, target) for r in own] or [np.nan]))
        values.append(np.nanmean(values) if np.isfinite(values).any() else np.nan)
        at = np.arange(len(values)) + 0.27 * (place - 1)
        bars.append((kind, axes.bar(at, values, 0.25, color=COLOURS[place])))
    name_ticks(axes.xaxis, [*(names[target] for target in targets), "mean"], size=9)
    axes.spines[["top", "right"]].set_visible(False)
    legend(axes, bars, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure, axes


def _clean(grid: Grid, names: Names) -> Figure:
    figure, axes = _bars(grid, names, "clean", results.accuracy)
    axes.set(ylabel="accuracy, per cent", title="Figure 2: the class's accuracy without an attack")
    return figure


def _relative(grid: Grid, names: Names) -> Figure:
    figure, axes = _bars(grid, names, "fast_ascent", results.relative)
    axes.set(
        ylabel="of the clean accuracy, per cent",
        title=f"Figure 5: accuracy lost by one step of {EPSILON}",
    )
    return figure


def _example(grid: Grid, names: Names) -> Figure | None:
    """Figure 3: an image, the signs of its gradient, and their sum."""
    example = next((r.get("example") for r in grid.seeds("balanced").values()), None)
    if example is None:
        return None
    image, moved = (
        np.frombuffer(bytes.fromhex(example[name]), np.uint8).reshape(example["shape"])
        for name in ("image", "moved")
    )
    image, sign = image / 255, moved.astype(float) - 1
    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    before, after = (literal(names[example[when]]) for when in ("before", "after"))
    for axes, (shown, title) in zip(
        figure.subplots(1, 3),
        (
            (image, before),
            ((sign + 1) / 2, f"{EPSILON} times the sign"),
            (np.clip(image + EPSILON * sign, 0, 1), after),
        ),
        strict=True,
    ):
        axes.imshow(shown.squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.set_title(title, fontsize=10)
    return figure


def _scores(grid: Grid, names: Names) -> Figure:
    """Figure 4, measured: scores of a class and of all others, before and after the attack."""
    figure = Figure(figsize=(10.5, 3.4), layout="constrained")
    middle, lines = (EDGES[1:] + EDGES[:-1]) / 2, []
    rows = {"own": "the class", "others": "other classes", "fast_ascent": "the class, attacked"}
    for axes, kind in zip(figure.subplots(1, 3, sharey=True), KINDS, strict=True):
        lines = []
        for place, (row, words) in enumerate(rows.items()):
            total = np.zeros(len(middle))
            for target in grid.classes():
                own = grid.seeds(kind, None if kind == "balanced" else target).values()
                for result in own:
                    total += np.asarray(result["scores"][str(target)][row])
            share = 100 * total / max(total.sum(), 1)
            style = "--" if row == "fast_ascent" else "-"
            (line,) = axes.step(middle, share, style, where="mid", color=COLOURS[place])
            lines.append((words, line))
        axes.axvline(0, color="#888888", linewidth=0.8)
        axes.set_title(kind)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("test images, per cent")
    figure.supxlabel("logit of the class less the highest other", fontsize=10)
    legend(figure.axes[-1], lines, loc="center left", bbox_to_anchor=(1.0, 0.5))
    del names
    return figure


def _misclassified(grid: Grid, names: Names) -> Figure:
    """Figure 6: what a class is taken for, under- and over-sampled, clean and attacked."""
    pairs = [c for pair in conclude.PAIRS if set(pair) <= set(names) for c in pair]
    there = grid.classes()
    targets = [c for c in map(list(names).index, pairs) if c in there] or there[:4]
    figure = Figure(figsize=(10, 2.4 * len(targets) + 0.6), layout="constrained")
    grid_of_axes = figure.subplots(len(targets), 2, squeeze=False, sharex=True)
    for row, target in zip(grid_of_axes, targets, strict=True):
        for axes, kind in zip(row, ("under", "over"), strict=True):
            own = list(grid.seeds(kind, target).values())
            for place, label in enumerate(("clean", "fast_ascent")) if own else ():
                total = np.sum([results.answers(r, label, target) for r in own], axis=0)
                at = np.arange(len(names)) + 0.4 * (place - 0.5)
                words = "attacked" if place else "clean"
                shares = 100 * total / total.sum()
                axes.bar(at, shares, 0.38, color=COLOURS[place], label=words)
            axes.set_title(f"{literal(names[target])}, {kind}-sampled", fontsize=10)
            axes.spines[["top", "right"]].set_visible(False)
    for axes in grid_of_axes[-1]:
        name_ticks(axes.xaxis, names, size=8, rotation=60)
    grid_of_axes[0, 0].legend(frameon=False, fontsize=8)
    figure.supylabel("images of the class, per cent", fontsize=9)
    return figure


def _curves(grid: Grid, names: Names) -> Figure:
    """Accuracy of the classes by the size of the step."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    labels = {0.0: "clean", EPSILON: "fast_ascent", **{e: f"epsilon_{e}" for e in CURVE}}
    for place, kind in enumerate(KINDS):
        means = []
        for label in (labels[e] for e in sorted(labels)):
            values = [
                np.mean([results.accuracy(r, label, target) for r in own.values()])
                for target in grid.classes()
                if (own := grid.seeds(kind, None if kind == "balanced" else target))
            ]
            means.append(results.estimate(values))
        centre, low, high = (np.array([m[i] for m in means]) for i in range(3))
        axes.plot(sorted(labels), centre, "osD"[place] + "-", color=COLOURS[place], label=kind)
        axes.fill_between(sorted(labels), low, high, color=COLOURS[place], alpha=0.2, linewidth=0)
    axes.set(
        xlabel="one step of this size", ylabel="accuracy of the class, per cent", ylim=(0, 100)
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    axes.set_title(
        f"Mean of {len(grid.classes())} classes of {len(names)}, 95 % over them", size=10
    )
    return figure


def _degrees(grid: Grid, names: Names) -> Figure | None:
    """What one step costs of a class's accuracy by how many images it has beside the others."""
    ratios = {
        **{plan.degree(ratio): ratio for ratio in plan.DEGREES},
        "under": 1 / plan.RATIO,
        "balanced": 1.0,
        "over": float(plan.RATIO),
    }
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes, is_empty = figure.add_subplot(), True
    for place, target in enumerate(grid.classes()[: len(COLOURS) - 2]):
        points = []
        for kind in sorted(ratios, key=lambda kind: ratios[kind]):
            own = grid.seeds(kind, None if kind == "balanced" else target).values()
            if own:
                values = [100 * results.relative(r, "fast_ascent", target) for r in own]
                points.append((ratios[kind], np.mean(values)))
        if len(points) > 3:
            is_empty = False
            name = literal(names[target])
            axes.plot(*zip(*points, strict=True), "o-", color=COLOURS[place], label=name)
    axes.set(xscale="log", xlabel="images of the class over those of each other")
    axes.set_ylabel("share of the clean accuracy lost, per cent")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return None if is_empty else figure


def _tails(grid: Grid, names: Names) -> Figure | None:
    """Long tails: by a class's images, how much more vulnerable it is than where all are equal."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes, place = figure.add_subplot(), 0
    for kind in ("tail", "tail_reversed"):
        for seed, result in grid.seeds(kind).items():
            balanced = grid.seeds("balanced").get(seed)
            if balanced is None:
                continue
            targets = sorted(map(int, balanced["attacked"]["fast_ascent"]))
            excess = [
                results.relative(result, "fast_ascent", c)
                - results.relative(balanced, "fast_ascent", c)
                for c in targets
            ]
            counts = np.asarray(result["train_count"])[targets]
            colour, label = COLOURS[place % (len(COLOURS) - 2)], f"{kind}, seed {seed}"
            axes.scatter(counts, 100 * np.array(excess), color=colour, label=label)
            place += 1
    axes.axhline(0, color="#888888", linewidth=0.8)
    axes.set(xscale="log", xlabel="training images of the class")
    axes.set_ylabel("share of accuracy lost, less the balanced network's, points")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    axes.set_title(f"{len(names)} classes", fontsize=10)
    return figure if place else None
