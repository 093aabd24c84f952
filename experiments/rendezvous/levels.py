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

import numpy as np
from matplotlib.figure import Figure

from rbjax import console, data
from rbjax.analysis.plots import COLOURS, save
from rbjax.data import imbalance

TITLES = {"balanced": "Balanced", "linear": "Linear imbalance", "long_tailed": "Long-tailed"}


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
