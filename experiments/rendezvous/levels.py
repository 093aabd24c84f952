"""P1's figure 1: the training examples of each class at three levels of distribution bias.

Command: python -m experiments.rendezvous.levels --dataset=cifar100 --out=levels.png
Balanced, linear and long-tailed (exponential), the last two from the largest class to a hundredth
of it unless --ratio says otherwise; P1 prints no number.  It needs no images: the class counts of
published datasets are known.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from rbjax import console, data
from rbjax.analysis.plots import COLOURS, save
from rbjax.data import imbalance
from rbjax.tables import lookup

TITLES = {
    "natural": "By nature",
    "balanced": "Balanced",
    "linear": "Linear imbalance",
    "long_tailed": "Long-tailed",
    "balanced_equal": "Balanced, equal size",
    "linear_equal": "Linear, equal size",
    "long_tailed_equal": "Long-tailed, equal size",
}
SHAPES: dict[str, dict[str, Any]] = {
    "balanced": {"name": "power", "power": 0.0},
    "linear": {"name": "linear"},
    "long_tailed": {"name": "exponential"},
}
"""Profiles of the levels; balanced is the scarcest class's count for all."""


def profile(level: str, *, ratio: float, per_class: int | None) -> dict[str, Any]:
    """Returns the fields of `config.imbalance` that make a level.

    Args:
        level: of TITLES; "natural" is each class's own count.
        ratio: largest count over smallest, where classes do not differ by nature.
        per_class: what each class has before; None: its own count.
    """
    before: dict[str, Any] = {} if per_class is None else {"num_max": per_class}
    if level == "natural":
        return {"name": "balanced", **before}
    if level.endswith("_equal"):
        shape = level.removesuffix("_equal")
        return {"name": _AS_MANY, "shape": shape, "imbalance_ratio": ratio, **before}
    by_ratio = {} if level == "balanced" else {"imbalance_ratio": ratio}
    return {**SHAPES[level], **by_ratio, **before}


_AS_MANY = "experiments.rendezvous.levels:as_many"


def as_many(
    *,
    class_counts: np.ndarray,
    shape: str = "balanced",
    imbalance_ratio: float = 100.0,
    num_max: int | None = None,
) -> np.ndarray:
    """Returns a level's class counts, cut so that all three levels have the same sum.

    floor(N n_c / sum n) and one more for the largest fractions, n the level's counts and N the
    least of the three levels' sums, that of the long-tailed one where classes are alike; a class
    keeps one image at least.

    Args:
        class_counts: (K,) the examples there are of each class.
        shape: the level, of SHAPES.
        imbalance_ratio: as of `profile`.
        num_max: what each class has before; None: its own count.

    Returns:
        (K,) int64.

    Raises:
        ValueError: if a level would leave a class empty.
    """
    made = {}
    for level in SHAPES:
        fields = profile(level, ratio=imbalance_ratio, per_class=num_max)
        name = fields.pop("name")
        made[level] = imbalance.create(name, class_counts=class_counts, **fields)
    own, total = (
        lookup(made, shape, what="shape"),
        min(int(counts.sum()) for counts in made.values()),
    )
    wanted = own * (total / own.sum())
    counts = np.maximum(np.floor(wanted + 1e-6), 1).astype(np.int64)
    most = np.argsort(counts - wanted, kind="stable")
    counts[most[: max(total - int(counts.sum()), 0)]] += 1
    counts[np.argmax(counts)] -= counts.sum() - total  # where a class was to have less than one
    return counts


def levels(class_counts: np.ndarray, *, imbalance_ratio: float = 100.0) -> dict[str, np.ndarray]:
    """Returns the class counts of P1's three levels.

    Args:
        class_counts: (K,) the examples there are of each class.
        imbalance_ratio: largest count over smallest of the linear and the long-tailed level.

    Returns:
        (K,) int64 by level.

    Raises:
        ValueError: if the ratio would leave a class empty.
    """
    counts = {}
    for level, (profile, options) in imbalance.LEVELS.items():
        given = dict.fromkeys(options, imbalance_ratio)
        counts[level] = imbalance.create(profile, class_counts=class_counts, **given)
    return counts


def plot(path: str, counts: Mapping[str, np.ndarray], *, dataset: str) -> None:
    """Draws one panel of bars a level, on one scale.

    Args:
        path: the PNG.
        counts: (K,) by level.
        dataset: its name, for the title.
    """
    figure = Figure(figsize=(3.2 * len(counts), 2.8), layout="constrained")
    panels = figure.subplots(1, len(counts), sharey=True, squeeze=False)[0]
    for axes, (level, own), colour in zip(panels, counts.items(), COLOURS, strict=False):
        axes.bar(np.arange(len(own)), own, width=1.0 if len(own) > 20 else 0.8, color=colour)
        ratio = own.max() / own.min()
        axes.set_title(f"{TITLES[level]}: {own.sum():,} images, ratio {ratio:.3g}", fontsize=8)
        axes.set_xlabel("class", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel(f"training images of {dataset}", fontsize=8)
    save(figure, path)


def _available(dataset: str) -> np.ndarray:
    known = data.info(dataset).class_counts
    if "train" not in known:
        raise ValueError(f"--dataset={dataset}: the class counts of its training set are not known")
    return np.asarray(known["train"])


@console.steady()
def main(arguments: Sequence[str] | None = None) -> int:
    """Draws the figure and prints the counts.

    Args:
        arguments: of the command line; `sys.argv[1:]`.

    Returns:
        The exit code: 0, or 2 for a wrong value.
    """
    parser = argparse.ArgumentParser(description="P1's levels of distribution bias.")
    parser.add_argument("--dataset", default="cifar100", help="a dataset with known class counts")
    parser.add_argument("--ratio", default=100.0, type=float, help="largest count over smallest")
    parser.add_argument("--out", default="levels.png", help="the PNG")
    given = parser.parse_args(arguments)
    try:
        counts = levels(_available(given.dataset), imbalance_ratio=given.ratio)
        plot(given.out, counts, dataset=given.dataset)
    except (ValueError, OSError) as error:  # OSError: a folder that is not there, for example
        print(f"error: {error}", file=sys.stderr)
        return 2
    for level, own in counts.items():
        few = ", ".join(f"{n:,}" for n in own[:3])
        print(f"{level:<12} {own.sum():>7,} images: {few}, ... {own[-1]:,}")
    print(f"written: {given.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
