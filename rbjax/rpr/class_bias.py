"""Robustness bias: is a class harder or easier to fool than the others?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rbjax.inputs import check_integer, check_labels
from rbjax.rpr.estimators import count_draws, log_failure_probability
from rbjax.rpr.survival import survival_curve

_NUMBERS_PER_BATCH = 2**20
"""Permuted labels held at once; ten times as many take 400 MB and are no faster."""


class Bias(NamedTuple):
    """How each class differs from the rest in one respect; NaN where either is empty."""

    difference: np.ndarray
    """(K,) float64, the class minus the rest."""
    p_value: np.ndarray
    """(K,) float64, two-sided, of the permutation test, 1 / (num_resamples + 1) at least."""
    p_holm: np.ndarray
    """(K,) float64, the same corrected for testing K classes (Holm 1979)."""


class ClassBias(NamedTuple):
    """Each class against the rest; the tests of one class share their permutations."""

    robust_ratio: Bias
    """Of the share of robust images, S_c(T) - S_rest(T)."""
    mean_steps: Bias
    """Of RPR's mean, the signed area between the survival curves, sum over t < T of
    S_c(t) - S_rest(t); in draws."""
    largest_gap: Bias
    """The difference S_c(t) - S_rest(t) at the t where it is largest in size."""
    log_failure: Bias
    """Of the mean of log10((failures + 1/2) / (draws + 1)); in decades."""
    counts: np.ndarray
    """(K,) int64, images counted of each class."""
    num_resamples: int
    """Permutations of the labels drawn."""


def class_bias(
    first_failure: np.ndarray,
    max_steps: int,
    labels: np.ndarray,
    *,
    num_classes: int,
    counted: np.ndarray | None = None,
    num_resamples: int = 9999,
    seed: int = 0,
) -> ClassBias:
    """Compares the robustness of each class with that of all others together.

    The null hypothesis is that labels and robustness have nothing to do with each other: labels are
    permuted, and |difference| is compared with what it then is. The same permutations serve all
    classes and statistics.

    Args:
        first_failure: (N,) integers, 1 to max_steps, or max_steps + 1 where no draw failed; or
            (N, R) for R repetitions, 0 where one was not run: curves are of the first repetition,
            failure probabilities of all.
        max_steps: T, draws of an image.
        labels: (N,) integers, the true classes.
        num_classes: K.
        counted: (N,) bool, the images that count; None: all.
        num_resamples: permutations, at least 1.
        seed: of the permutations, at least 0.

    Returns:
        Differences and their p-values.

    Raises:
        ValueError: if the shapes differ, or a number is out of range.

    Source: Nanda et al., "Fairness Through Robustness: Investigating Robustness Disparity in Deep
    Learning", 2021, arXiv:2006.12621 (robustness bias and the area between the curves).

    Example:
        >>> first = np.array([1, 1, 2, 11, 11, 11])  # class 0 fails early
        >>> found = rbjax.rpr.class_bias(first, 10, np.array([0, 0, 0, 1, 1, 1]), num_classes=2)
        >>> found.robust_ratio.difference.tolist(), found.robust_ratio.p_value.round(1).tolist()
        ([-1.0, 1.0], [0.1, 0.1])
    """
    from scipy import stats

    check_integer("num_resamples", num_resamples, low=1)
    check_integer("seed", seed, low=0)
    first_failure = np.asarray(first_failure)
    labels = check_labels(labels, num_examples=len(first_failure), num_classes=num_classes)
    log_failure = log_failure_probability(*count_draws(first_failure, max_steps))
    once = first_failure if first_failure.ndim == 1 else first_failure[:, 0]
    curves = survival_curve(once, max_steps, labels, num_classes=num_classes, counted=counted)
    chosen = slice(None) if counted is None else np.asarray(counted, bool)
    once, labels, log_failure = once[chosen], labels[chosen], log_failure[chosen]
    differences = _Differences(once, log_failure, max_steps, num_classes)
    observed = differences(labels)
    tested = (curves.counts > 0) & (curves.counts < len(labels))
    p_values = np.full(observed.shape, np.nan)
    if tested.any():
        result = stats.permutation_test(
            (labels,),
            lambda labels, axis: np.abs(differences(labels, axis)),
            permutation_type="pairings",
            vectorized=True,
            alternative="greater",
            n_resamples=num_resamples,
            batch=max(1, _NUMBERS_PER_BATCH // len(labels)),
            rng=np.random.default_rng(seed),
        )
        p_values[tested] = np.asarray(result.pvalue)[tested]
    observed[~tested] = np.nan
    biases = [
        Bias(*columns, holm(columns[1])) for columns in zip(observed.T, p_values.T, strict=True)
    ]
    return ClassBias(*biases, counts=curves.counts, num_resamples=num_resamples)


def holm(p_values: np.ndarray) -> np.ndarray:
    """Returns p-values corrected for being several, NaN left out.

    max over j <= i of min(1, (m - j + 1) p_(j)), p_(1) <= ... <= p_(m).

    Args:
        p_values: (K,) float, in [0, 1] or NaN.

    Returns:
        (K,) float64: rejecting those of at most alpha errs at all with probability alpha at most.

    Source: Holm, "A Simple Sequentially Rejective Multiple Test Procedure", 1979, Scandinavian
    Journal of Statistics 6.
    """
    p_values = np.asarray(p_values, np.float64)
    corrected = np.full(p_values.shape, np.nan)
    order = np.argsort(p_values, kind="stable")[: np.sum(~np.isnan(p_values))]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.maximum.accumulate(np.minimum(factors * p_values[order], 1.0))
    return corrected


class _Differences:
    """The four differences of each class as a function of the labels, (..., N) -> (..., K, 4)."""

    def __init__(
        self, first_failure: np.ndarray, log_failure: np.ndarray, max_steps: int, num_classes: int
    ) -> None:
        self._bins = first_failure.astype(np.int64)
        self._log_failure = log_failure
        self._shape = (num_classes, max_steps + 2)

    def __call__(self, labels: np.ndarray, axis: int = -1) -> np.ndarray:
        """`axis` is SciPy's, which always gives the last."""
        rows = labels.reshape(-1, labels.shape[-1])
        group = np.arange(len(rows))[:, None] * self._shape[0] + rows
        num_groups = len(rows) * self._shape[0]
        cells = group * self._shape[1] + self._bins
        failures = np.bincount(cells.ravel(), minlength=num_groups * self._shape[1])
        failures = failures.reshape(len(rows), *self._shape)
        weights = np.broadcast_to(self._log_failure, rows.shape).ravel()
        sums = np.bincount(group.ravel(), weights, minlength=num_groups)
        counts = np.sum(failures, axis=-1)
        survivors = counts[..., None] - np.cumsum(failures, axis=-1)[..., :-1]
        gaps = _against_the_rest(survivors, counts[..., None])
        largest = np.argmax(np.abs(gaps), axis=-1, keepdims=True)
        statistics = (
            gaps[..., -1],
            np.sum(gaps[..., :-1], axis=-1),
            np.take_along_axis(gaps, largest, axis=-1)[..., 0],
            _against_the_rest(sums.reshape(counts.shape), counts),
        )
        return np.stack(statistics, axis=-1).reshape(*labels.shape[:-1], self._shape[0], 4)


def _against_the_rest(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Returns each class's mean minus that of the rest, from sums; the classes are axis 1."""
    rest_sums, rest_counts = (np.sum(x, axis=1, keepdims=True) - x for x in (sums, counts))
    return sums / np.maximum(counts, 1) - rest_sums / np.maximum(rest_counts, 1)
