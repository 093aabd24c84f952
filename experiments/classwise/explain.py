"""P2's possible explanations: orders of classes, confusions, superclasses and similar logits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats

from experiments.answers import stored
from rbjax.data.description import Superclasses
from rbjax.metrics import wilson_interval
from rbjax.sweep import Result

_PERMUTATIONS = 9_999


class Rank(NamedTuple):
    """Spearman's rank correlation of a number of each class with another."""

    value: float
    low: float
    high: float
    """The 95 % interval of the draw of test images."""
    p_value: float
    """Of no relation, by permutations of the classes, two-sided."""
    number: int
    """Of classes, or of pairs of them."""
    of: str = "classes"

    def __str__(self) -> str:
        interval = f"{self.value:+.2f} ({self.low:+.2f} to {self.high:+.2f})"
        return f"{interval}, p = {self.p_value:.3g}, {self.number} {self.of}"


def rank_correlation(first: np.ndarray, second: np.ndarray) -> Rank:
    """Returns how far two orders of classes agree.

    Args:
        first: (1 + D, K), of all test images and of each draw of them.
        second: (1 + D, K), of the same draws, or (1, K), which has none.

    Returns:
        0 with p 1 where all classes are alike.
    """
    one, other = first[0], second[0]
    if not np.ptp(one) or not np.ptp(other):
        return Rank(0.0, 0.0, 0.0, 1.0, len(one))
    ranks = [stats.rankdata(values, axis=-1) for values in (first, second)]
    centred = [r - r.mean(axis=-1, keepdims=True) for r in ranks]
    lengths = [np.maximum(np.linalg.norm(c, axis=-1), 1e-12) for c in centred]
    values = np.sum(centred[0] * centred[1], axis=-1) / (lengths[0] * lengths[1])
    low, high = np.quantile(values[1:] if len(values) > 1 else values, (0.025, 0.975))
    found = stats.permutation_test(
        (centred[0][0],),
        lambda shuffled, axis: np.moveaxis(shuffled, axis, -1) @ centred[1][0],
        permutation_type="pairings",
        vectorized=True,
        n_resamples=_PERMUTATIONS,
        rng=np.random.default_rng(0),
    )
    return Rank(float(values[0]), float(low), float(high), float(found.pvalue), len(one))


def confusion(result: Result, label: str) -> np.ndarray:
    """Returns how many images of each class (rows) are given each class, (K, K)."""
    labels, answers = stored(result, "labels"), stored(result, label)
    matrix = np.zeros((len(result["count"]),) * 2, np.int64)
    np.add.at(matrix, (labels[answers >= 0], answers[answers >= 0]), 1)
    return matrix


class Share(NamedTuple):
    """A share of errors in per cent with its 95 % interval, and what chance would make it."""

    value: float
    low: float
    high: float
    chance: float
    count: int


def within_superclass(matrix: np.ndarray, groups: Superclasses) -> Share:
    """Returns the share of misclassified images that stay in their superclass.

    Args:
        matrix: (K, K) of `confusion`.
        groups: of the K classes.

    Returns:
        The share; by chance an error falls on each other class alike.
    """
    of_class = np.asarray(groups.of_class)
    errors = matrix * ~np.eye(len(matrix), dtype=bool)
    alike = of_class[:, None] == of_class
    inside, total = int(errors[alike].sum()), int(errors.sum())
    low, high = wilson_interval(inside, total)
    others = (alike.sum(axis=1) - 1) / (len(matrix) - 1)
    chance = float(errors.sum(axis=1) @ others / max(total, 1))
    value = 100 * inside / max(total, 1)
    return Share(value, 100 * float(low), 100 * float(high), 100 * chance, total)


def symmetry(matrix: np.ndarray) -> Rank:
    """Returns how far classes that are taken for another are also what that is taken for.

    The rank correlation of C_xy with C_yx over pairs of classes, both divided by the images of x
    and of y; p is by permutations of the pairs.
    """
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    rows, columns = np.triu_indices(len(matrix), k=1)
    found = rank_correlation(shares[rows, columns][None], shares[columns, rows][None])
    return found._replace(of="pairs")


def nearest_similarity(cosines: np.ndarray) -> np.ndarray:
    """Returns the similarity of each class's mean logits with the most similar other's, (K,)."""
    others = np.where(np.eye(len(cosines), dtype=bool), -np.inf, cosines)
    return others.max(axis=1)
