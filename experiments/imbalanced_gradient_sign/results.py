"""What the cells found: accuracies, vulnerabilities and confusions, by class and seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from experiments.imbalanced_gradient_sign.plan import Scale, cell_name
from rbjax.metrics import mean_over_seeds
from rbjax.sweep import Result, by_seed

COLUMNS = {
    "transfer under": ("under", "transfer_"),
    "transfer over": ("over", "transfer_"),
    "balanced": ("balanced", ""),
    "under": ("under", ""),
    "over": ("over", ""),
}
"""Of table 1: which network, and whose gradients."""


STRONG = ("pgd20", "autoattack")
"""Attacks that are run on the first images of each class alone, as is "clean_first"."""


class Estimate(NamedTuple):
    """A mean with its 95 % interval."""

    value: float
    low: float
    high: float
    number: int
    """Of values that it is the mean of."""

    def __str__(self) -> str:
        if self.number < 2:
            return f"{self.value:+.1f}" if self.number else ""
        return f"{self.value:+.1f} ({self.low:+.1f} to {self.high:+.1f})"


class Grid(NamedTuple):
    """The cells of one variant that are there, and count."""

    variant: str
    results: Mapping[str, Result]
    """Those that count, by name."""
    untrained: Mapping[str, float]
    """Those that do not, with the mean of their classes' clean accuracies."""
    scale: Scale

    def seeds(self, kind: str, target: int | None = None) -> dict[int, Result]:
        """Returns the results of a network by seed."""
        number = max(self.scale.seeds, self.scale.matched_seeds)
        return by_seed(
            self.results, lambda seed: cell_name(self.variant, kind, target, seed), number
        )

    def classes(self) -> list[int]:
        """Returns the classes that have been under- or over-sampled, and are there."""
        parts = [name.split(".") for name in self.results]
        return sorted({int(part[2]) for part in parts if part[1] in ("under", "over")})


def grid(results: Mapping[str, Result], variant: str, scale: Scale) -> Grid:
    """Returns the cells of a variant; those whose network, or balanced one, is not trained apart.

    Args:
        results: of `sweep.read`.
        variant: "written", "published" or "matched".
        scale: with the floors.
    """
    own = {name: result for name, result in results.items() if name.split(".")[0] == variant}
    reached = {name: clean_accuracy(result) for name, result in own.items()}

    def floor(name: str) -> float:
        return scale.floors.get(name.split(".")[1], min(scale.floors.values()))

    low = {name for name in own if reached[name] < floor(name)}
    seeds = {name.rpartition(".")[2] for name in low if name.split(".")[1] == "balanced"}
    apart = low | {name for name in own if name.rpartition(".")[2] in seeds}
    counting = {name: result for name, result in own.items() if name not in apart}
    return Grid(variant, counting, {name: reached[name] for name in own if name in apart}, scale)


def clean_accuracy(result: Result) -> float:
    """Returns the mean of the classes' accuracies on the whole test set, in [0, 1]."""
    matrix = np.asarray(result["clean"])
    return float(np.mean(np.diag(matrix) / np.maximum(result["count"], 1)))


def answers(result: Result, label: str, target: int) -> np.ndarray:
    """Returns how often each class was the answer for the attacked images of one, (K,).

    Zeros where the network was not attacked so.
    """
    unknown = np.zeros(len(result["count"]), np.int64)
    return np.asarray(result["attacked"].get(label, {}).get(str(target), unknown))


def accuracy(result: Result, label: str, target: int) -> float:
    """Returns the share of a class's attacked images that are classified as it; NaN of none."""
    found = answers(result, label, target)
    return float(found[target] / found.sum()) if found.sum() else np.nan


def share_as(result: Result, label: str, target: int, other: int) -> float:
    """Returns the share of a class's attacked images that are classified as another."""
    found = answers(result, label, target)
    return float(found[other] / found.sum()) if found.sum() else np.nan


def relative(result: Result, label: str, target: int) -> float:
    """Returns the share of a class's clean accuracy that an attack costs, P5's figure 5."""
    clean = accuracy(result, "clean_first" if label in STRONG else "clean", target)
    return 1 - accuracy(result, label, target) / clean if clean else np.nan


def absolute(result: Result, label: str, target: int) -> float:
    """Returns what an attack costs of a class's accuracy."""
    return accuracy(result, "clean", target) - accuracy(result, label, target)


Measure = Callable[[Result, str, int], float]


def difference(grid: Grid, measure: Measure, label: str, kind: str, than: str) -> Estimate:
    """Returns by how much a measure differs between two kinds of networks, in points.

    Args:
        grid: the cells.
        measure: of a result, under an attack, of a class.
        label: of the attack.
        kind: of a network, such as "under".
        than: of the other.

    Returns:
        The mean over classes of the mean over the seeds that both have.
    """
    values = []
    for target in grid.classes():
        one, other = (grid.seeds(k, None if k == "balanced" else target) for k in (kind, than))
        pairs = [
            measure(one[seed], label, target) - measure(other[seed], label, target)
            for seed in one.keys() & other.keys()
        ]
        values.append(np.mean(pairs) if pairs else np.nan)
    return estimate(values)


def gain(grid: Grid, kind: str, label: str, than: str, measure: Measure = accuracy) -> Estimate:
    """Returns by how much a measure differs between two attacks on one kind, in points.

    Args:
        grid: the cells.
        kind: of the networks.
        label: of the attack.
        than: of the other.
        measure: of a result, under an attack, of a class.
    """
    values = []
    for target in grid.classes():
        found = grid.seeds(kind, None if kind == "balanced" else target).values()
        pairs = [measure(r, label, target) - measure(r, than, target) for r in found]
        values.append(np.mean(pairs) if pairs else np.nan)
    return estimate(values)


def correlations(grid: Grid, label: str) -> Estimate:
    """Returns the rank correlation of training images and vulnerability over classes, times 100.

    Args:
        grid: the cells; of them long tails and the balanced networks.
        label: of the attack.

    Returns:
        Spearman's, of every long tail; vulnerability is what `relative` exceeds that of the same
        class in the balanced network of the same seed by.
    """
    found = []
    for kind in ("tail", "tail_reversed"):
        for seed, result in grid.seeds(kind).items():
            balanced = grid.seeds("balanced").get(seed)
            if balanced is not None:
                targets = sorted(map(int, balanced["attacked"][label]))
                own, usual = (
                    np.array([relative(r, label, c) for c in targets]) for r in (result, balanced)
                )
                counts = np.asarray(result["train_count"])[targets]
                correlation = stats.spearmanr(counts, own - usual, nan_policy="omit")
                found.append(correlation.statistic)  # pyright: ignore[reportAttributeAccessIssue]
    return estimate(found)


def estimate(values: Sequence[float]) -> Estimate:
    """Returns 100 times the mean of values with Student's interval; NaN are left out."""
    kept = 100 * np.asarray(values, float)
    kept = kept[np.isfinite(kept)]
    if len(kept) < 2:
        return Estimate(float(kept.mean()) if len(kept) else np.nan, np.nan, np.nan, len(kept))
    found = mean_over_seeds(kept)
    return Estimate(found.value, found.low, found.high, len(kept))
