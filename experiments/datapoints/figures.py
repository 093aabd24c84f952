"""The paper's figures 1 to 5, from our runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from experiments.datapoints.plan import PAPER
from experiments.datapoints.readings import READINGS
from experiments.datapoints.stages import Lab, Model, Scored, draw_key, images, logits_fn, scores
from rbjax import atomic, data, prng
from rbjax.analysis.plots import COLOURS
from rbjax.inputs import to_float
from rbjax.metrics import wilson_interval
from rbjax.rpr import robust_ratio, survival_curve

_IN_A_ROW = 10
_DPI = 150


class Fooling(NamedTuple):
    """An image and the first perturbation of it that fools."""

    image: np.ndarray
    """(H, W, C) float32 in [0, 1]."""
    perturbed: np.ndarray
    draw: int
    label: int
    before: int
    """The class the model gives the image."""
    after: int
    """The class it gives the perturbation."""


def draw(lab: Lab, reading: str) -> list[Path]:
    """Draws the figures of a reading, first seed, and returns their files."""
    model = Model(0)
    test = scores(lab, model, reading, "test")
    train = scores(lab, model, reading, "train")
    curves = {
        "M": test,
        "M_R, robust images": scores(lab, Model(0, "robust", reading), reading, "test"),
        "M_C, as many at random": scores(lab, Model(0, "random", reading), reading, "test"),
    }
    info, folder = data.info(lab.plan.dataset), lab.workdir
    title = READINGS[reading].title
    paths = [folder / f"figure{number}.png" for number in range(1, 6)]
    _rows(paths[0], images(lab, "test").images, test, title)
    _pair(paths[1], fooling(lab, reading), info.class_names, title)
    _survival(paths[2], {"M": test}, title)
    _classes(paths[3], train, info.class_names, title)
    _survival(paths[4], curves, title)
    return paths


def fooling(lab: Lab, reading: str) -> Fooling | None:
    """Returns the test image whose first failing draw is nearest to the paper's 47.

    Among images that are correctly classified; None where no such image failed. The draw
    is made again, from the key it has in scoring.
    """
    scored = scores(lab, Model(0), reading, "test")
    failed = np.flatnonzero(scored.clean_correct & ~scored.robust)
    if not failed.size:
        return None
    row = failed[np.argmin(np.abs(scored.first_failure[failed] - PAPER.draw))]
    number = int(scored.first_failure[row])
    image = to_float(jnp.asarray(images(lab, "test").images[row]))
    key = prng.fold_in(draw_key(0), int(scored.example_ids[row]))
    perturbed = READINGS[reading].perturbation()(prng.fold_in(key, number), image)
    logits = logits_fn(lab, Model(0))(jnp.stack([image, perturbed]))
    before, after = np.argmax(np.asarray(logits), axis=-1).tolist()
    label = int(scored.labels[row])
    return Fooling(np.asarray(image), np.asarray(perturbed), number, label, before, after)


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
    _save(figure, path)


def _pair(path: Path, example: Fooling | None, names: Sequence[str], title: str) -> None:
    """Figure 2: an image beside the first perturbation of it that fools."""
    figure = Figure(figsize=(5.6, 3.4), layout="constrained")
    if example is None:
        figure.suptitle("No image that is correctly classified was fooled")
        return _save(figure, path)
    left, right = figure.subplots(1, 2)
    _show(left, example.image, f"classified as {names[example.before]}")
    _show(right, example.perturbed, f"draw {example.draw}: classified as {names[example.after]}")
    figure.suptitle(f"{title}\nthe {example.draw - 1} draws before did not fool", fontsize=9)
    return _save(figure, path)


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
    _save(figure, path)


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
    _save(figure, path)


def _show(axes: Axes, image: np.ndarray, title: str) -> None:
    whole = 255 if image.dtype == np.uint8 else 1
    shown = image[..., 0] if image.shape[-1] == 1 else image
    axes.imshow(shown, cmap="gray", vmin=0, vmax=whole, interpolation="nearest")
    axes.set_title(title, fontsize=8)
    axes.set(xticks=[], yticks=[])


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    with atomic.replace(path) as file:
        figure.savefig(file, format="png", dpi=_DPI)
