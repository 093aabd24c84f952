"""The paper's figures 1 to 5, from our runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.datapoints import measures, records
from experiments.datapoints.measures import Results
from experiments.datapoints.plan import Scale
from experiments.datapoints.readings import READINGS
from experiments.datapoints.records import Scored
from rbjax import data
from rbjax.analysis.figures import save
from rbjax.analysis.plots import COLOURS
from rbjax.metrics import wilson_interval
from rbjax.rpr import robust_ratio, survival_curve
from rbjax.sweep import Result
from rbjax.training import setup

_IN_A_ROW = 10


def draw(results: Results, folder: str | Path, *, scale: Scale, unbalanced: bool = False) -> None:
    """Draws figures 1 to 5 of the first seed of the first retraining test that is finished.

    Args:
        results: of `sweep.read`.
        folder: where figure1.png to figure5.png are written.
        scale: of the grid.
        unbalanced: which retraining test.
    """
    for scheme in scale.retrained:
        have = measures.retrained(results, scale, scheme, unbalanced=unbalanced)
        if have:
            _draw(next(iter(have.values())), Path(folder), scheme, scale)
            return


def _draw(result: Result, folder: Path, scheme: str, scale: Scale) -> None:
    test, train = (records.unpack(result, split, "M") for split in ("test", "train"))
    curves = {
        "M": test,
        "M_R, robust images": records.unpack(result, "test", "robust-updates"),
        "M_C, as many at random": records.unpack(result, "test", "random-updates"),
        "M_B, and of each class": records.unpack(result, "test", "balanced-updates"),
    }
    names, title = data.info(scale.dataset).class_names, READINGS[scheme].title
    images = setup.first(data.load(scale.dataset, "test"), scale.num_test).images
    paths = [folder / f"figure{number}.png" for number in range(1, 6)]
    _rows(paths[0], images, test, title)
    _pair(paths[1], result["fooling"], images, names, title)
    _survival(paths[2], {"M": test}, title)
    _classes(paths[3], train, names, title)
    _survival(paths[4], curves, f"{title}; equal updates")


def _rows(path: Path, pixels: np.ndarray, scored: Scored, title: str) -> None:
    """Figure 1: robust images over not robust ones, all correctly classified, by example id."""
    figure = Figure(figsize=(_IN_A_ROW, 2.8), layout="constrained")
    grid = figure.add_gridspec(2, _IN_A_ROW)
    for line, (name, flags) in enumerate((("robust", True), ("not robust", False))):
        shown = np.flatnonzero(scored.clean_correct & (scored.robust == flags))[:_IN_A_ROW]
        for column, row in enumerate(shown):
            axes = figure.add_subplot(grid[line, column])
            first = "" if flags else f", draw {scored.first_failure[row]}"
            _show(axes, pixels[row], f"{scored.labels[row]}{first}")
        if shown.size:
            figure.axes[-shown.size].set_ylabel(name)
    figure.suptitle(
        f"Correctly classified, robust above and not robust below: {title}", fontsize=10
    )
    save(figure, path)


def _pair(
    path: Path,
    example: Mapping[str, Any] | None,
    images: np.ndarray,
    names: Sequence[str],
    title: str,
) -> None:
    """Figure 2: an image beside the first perturbation of it that fools."""
    figure = Figure(figsize=(5.6, 3.4), layout="constrained")
    if example is None:
        figure.suptitle("No image that is correctly classified was fooled")
        return save(figure, path)
    left, right = figure.subplots(1, 2)
    perturbed = np.frombuffer(bytes.fromhex(example["perturbed"]), np.uint8)
    before, after, draw = names[example["before"]], names[example["after"]], example["draw"]
    _show(left, images[example["row"]], f"classified as {before}")
    _show(right, perturbed.reshape(example["shape"]), f"draw {draw}: classified as {after}")
    figure.suptitle(f"{title}\nthe {draw - 1} draws before did not fool", fontsize=9)
    return save(figure, path)


def _survival(path: Path, curves: Mapping[str, Scored], title: str) -> None:
    """Figures 3 and 5: the share of test images still robust, with 95 % Wilson bands."""
    figure = Figure(figsize=(8.6, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for (name, scored), colour in zip(curves.items(), COLOURS, strict=False):
        _curve(axes, scored, name, colour, counted=None)
        _curve(axes, scored, f"{name}, of right", colour, counted=scored.clean_correct)
    axes.set(xlabel="random draws of an image", ylabel="still robust", ylim=(0, 1.02))
    axes.set_xlim(0, next(iter(curves.values())).max_steps)
    axes.set_title(title, fontsize=10)
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    save(figure, path)


def _curve(
    axes: Axes, scored: Scored, name: str, colour: str, *, counted: np.ndarray | None
) -> None:
    """Draws a curve: a line with a band for all images, a dashed line for those counted."""
    num_classes = int(np.max(scored.labels)) + 1
    share = survival_curve(
        scored.first_failure,
        scored.max_steps,
        scored.labels,
        num_classes=num_classes,
        counted=counted,
    ).overall
    draws = np.arange(len(share))
    label = f"{name}  {share[-1]:.4f}"
    axes.plot(draws, share, "-" if counted is None else ":", color=colour, label=label)
    if counted is None:
        number = len(scored.labels)
        low, high = wilson_interval(np.rint(share * number), np.full(len(share), number))
        axes.fill_between(draws, low, high, color=colour, alpha=0.2, linewidth=0)


def _classes(path: Path, scored: Scored, names: Sequence[str], title: str) -> None:
    """Figure 4: how many training images of each class are robust, and which share of it."""
    ratio = robust_ratio(
        scored.first_failure, scored.max_steps, scored.labels, num_classes=len(names)
    )
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.bar(names, ratio.counts, color="#DDDDDD", label="scored")
    bars = axes.bar(names, ratio.robust, color=COLOURS[0], label="robust")
    axes.bar_label(bars, [f"{share:.0%}" for share in ratio.classes], fontsize=9)
    axes.set(xlabel="class", ylabel="training images")
    axes.set_title(f"Robust training images, {ratio.overall:.4f} of all: {title}", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    save(figure, path)


def _show(axes: Axes, image: np.ndarray, title: str) -> None:
    whole = 255 if image.dtype == np.uint8 else 1
    shown = image[..., 0] if image.shape[-1] == 1 else image
    axes.imshow(shown, cmap="gray", vmin=0, vmax=whole, interpolation="nearest")
    axes.set_title(title, fontsize=8)
    axes.set(xticks=[], yticks=[])
