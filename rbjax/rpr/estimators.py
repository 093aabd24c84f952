"""What draws say of a datapoint's failure probability p, and what p says of RPR.

All draws of a datapoint are independent and fail with its p, so their number and the number of
those that failed say all there is; which repetition a draw belongs to does not matter.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rbjax.inputs import check_integer, check_real
from rbjax.metrics.intervals import Interval, clopper_pearson_interval


class Counts(NamedTuple):
    """The draws of each datapoint, and how many of them failed."""

    failures: np.ndarray
    """(N,) int64."""
    draws: np.ndarray
    """(N,) int64, at least `failures`."""


def count_draws(first_failure: ArrayLike, max_steps: int) -> Counts:
    """Returns how many draws each datapoint had and how many of them failed.

    failures_i = #{r : N_ir <= T}, draws_i = sum over r of min(N_ir, T).

    Args:
        first_failure: (N,) integers, 1 to max_steps, or max_steps + 1 where no draw failed; or
            (N, R) for R repetitions, 0 where a repetition was not run.
        max_steps: T, draws of a repetition at most.

    Returns:
        The counts.

    Raises:
        ValueError: for a shape or a first failure out of range.

    Example:
        >>> found = rbjax.rpr.count_draws([[3, 11], [11, 11]], 10)
        >>> found.failures.tolist(), found.draws.tolist()
        ([1, 0], [13, 20])
    """
    max_steps = check_integer("max_steps", max_steps, low=1)
    first_failure = check_draws(first_failure)
    if first_failure.ndim not in (1, 2):
        raise ValueError(
            f"first_failure has shape {first_failure.shape}; it must be (N,) or (N, R)"
        )
    low = 2 - first_failure.ndim
    wrong = first_failure[(first_failure < low) | (first_failure > max_steps + 1)]
    if wrong.size:
        raise ValueError(f"first_failure holds {wrong[0]}; allowed: {low} to {max_steps + 1}")
    repetitions = first_failure[:, None] if first_failure.ndim == 1 else first_failure
    failed = (repetitions > 0) & (repetitions <= max_steps)
    return Counts(
        failures=np.sum(failed, axis=1),
        draws=np.sum(np.minimum(repetitions, max_steps), axis=1),
    )


def check_draws(first_failure: ArrayLike) -> np.ndarray:
    """Returns numbers of draws as int64, which holds sums of them.

    Raises:
        ValueError: for what are no integers.
    """
    first_failure = np.asarray(first_failure)
    if not np.issubdtype(first_failure.dtype, np.integer):
        raise ValueError(
            f"first_failure has dtype {first_failure.dtype}; it must hold whole numbers, of an "
            "integer dtype"
        )
    return first_failure.astype(np.int64)


def failure_probability(failures: ArrayLike, draws: ArrayLike) -> np.ndarray:
    """Returns the maximum-likelihood estimate of each datapoint's failure probability.

    p = failures / draws, of the right-censored geometric law
    L(p) = p^failures (1 - p)^(draws - failures).

    Args:
        failures: (N,) counts.
        draws: (N,) counts.

    Returns:
        (N,) float64 in [0, 1]; NaN where there was no draw. Where sampling stops at a failure it
        is biased upwards: one repetition with N = 1 gives 1.

    Example:
        >>> rbjax.rpr.failure_probability([1, 0], [4, 10]).tolist()
        [0.25, 0.0]
    """
    failures, draws = check_counts(failures, draws)
    return np.where(draws > 0, failures / np.maximum(draws, 1), np.nan)


def log_failure_probability(failures: ArrayLike, draws: ArrayLike) -> np.ndarray:
    """Returns the decimal logarithm of each failure probability, finite without failures too.

    log10((failures + 1/2) / (draws + 1)), of the posterior mean under Jeffreys' prior. Failure
    probabilities span decades; and where sampling stops at a failure, the relative error depends
    on the number of failures and hardly on p, so that logarithms have about equal variances.

    Args:
        failures: (N,) counts.
        draws: (N,) counts.

    Returns:
        (N,) float64, below 0.

    Example:
        >>> rbjax.rpr.log_failure_probability([0], [4]).round(3).tolist()  # log10(0.5 / 5)
        [-1.0]
    """
    failures, draws = check_counts(failures, draws)
    return np.log10((failures + 0.5) / (draws + 1))


def failure_interval(failures: ArrayLike, draws: ArrayLike, confidence: float = 0.95) -> Interval:
    """Returns Clopper and Pearson's interval of each datapoint's failure probability.

    It is made for a fixed number of draws, and holds where sampling stops at a failure too. Let one
    repetition fail at draw n. Then P(N <= n) = P(Bin(n, p) >= 1), so the lower end is exact; and
    P(N >= n) = P(Bin(n - 1, p) = 0) <= P(Bin(n, p) <= 1), so the upper end is only too far out.
    With no failure in T draws P(N > T) = P(Bin(T, p) = 0), exact. For a number of repetitions
    settled before, coverage was enumerated (tests); for one that depends on what was drawn, take
    `anytime_interval`.

    Args:
        failures: (N,) counts.
        draws: (N,) counts; 0 gives (0, 1).
        confidence: in (0, 1), of both ends together.

    Returns:
        (low, high), (N,) float64 in [0, 1] each.

    Raises:
        ValueError: for a count or a confidence out of its range.

    Source: Clopper and Pearson 1934, Biometrika 26.

    Example:
        >>> low, high = rbjax.rpr.failure_interval([0], [10])  # 1 - 0.025**(1 / 10)
        >>> low.tolist(), high.round(3).tolist()
        ([0.0], [0.308])
    """
    return clopper_pearson_interval(failures, draws, confidence)


def failure_upper_bound(
    failures: ArrayLike, draws: ArrayLike, confidence: float = 0.95
) -> np.ndarray:
    """Returns Clopper and Pearson's one-sided upper bound of each failure probability.

    B(confidence; failures + 1, draws - failures), B the quantile of the beta distribution: no
    failure in 250 draws bounds p by 0.0119 (and by 0.0146 as the upper end of the interval).

    Args:
        failures: (N,) counts.
        draws: (N,) counts; 0 gives 1.
        confidence: in (1/2, 1).

    Returns:
        (N,) float64 in [0, 1].

    Raises:
        ValueError: for a count or a confidence out of its range.

    Source: Clopper and Pearson 1934, Biometrika 26.

    Example:
        >>> rbjax.rpr.failure_upper_bound([0], [250]).round(4).tolist()  # 1 - 0.05**(1 / 250)
        [0.0119]
    """
    confidence = check_real("confidence", confidence, low=0.5, high=1.0)
    # One end of a two-sided interval with the same probability beyond it.
    return clopper_pearson_interval(failures, draws, 2 * confidence - 1)[1]


def expected_steps(probability: ArrayLike, max_steps: int) -> np.ndarray:
    """Returns RPR read as the expectation of what is measured.

    E[min(N, T)] = (1 - (1 - p)^T) / p, and T where p = 0.

    Args:
        probability: p, any shape, in [0, 1].
        max_steps: T.

    Returns:
        float64 of p's shape, in [1, T].

    Raises:
        ValueError: for a value out of range.

    Source: Ilie, Popescu and Stefanescu 2020, section 2.1 (P4).

    Example:
        >>> rbjax.rpr.expected_steps([0.0, 0.5, 1.0], 2).tolist()  # 1 + (1 - p)
        [2.0, 1.5, 1.0]
    """
    p, max_steps = _probability(probability), check_integer("max_steps", max_steps, low=1)
    from scipy.special import xlog1py

    some = np.where(p > 0, p, 1.0)
    return np.where(p > 0, -np.expm1(xlog1py(max_steps, -some)) / some, float(max_steps))


def capped_expectation(probability: ArrayLike, max_steps: int) -> np.ndarray:
    """Returns RPR read as the text has it: the expected number of draws, cut at MAX_STEPS.

    min(T, E[N]) = min(T, 1 / p), and T where p = 0.

    Args:
        probability: p, any shape, in [0, 1].
        max_steps: T.

    Returns:
        float64 of p's shape, in [1, T]; never below `expected_steps`.

    Raises:
        ValueError: for a value out of range.

    Source: Ilie, Popescu and Stefanescu 2020, section 2.1 (P4).

    Example:
        >>> rbjax.rpr.capped_expectation([0.0, 0.25, 1.0], 10).tolist()  # 1 / p, at most 10
        [10.0, 4.0, 1.0]
    """
    p, max_steps = _probability(probability), check_integer("max_steps", max_steps, low=1)
    return 1 / np.maximum(p, 1 / max_steps)


def robust_probability(probability: ArrayLike, max_steps: int) -> np.ndarray:
    """Returns the probability that a datapoint is flagged as robust.

    P(N > T) = (1 - p)^T.

    Args:
        probability: p, any shape, in [0, 1].
        max_steps: T.

    Returns:
        float64 of p's shape, in [0, 1].

    Raises:
        ValueError: for a value out of range.

    Example:
        >>> rbjax.rpr.robust_probability([0.0, 0.5, 1.0], 2).tolist()  # (1 - p)**2
        [1.0, 0.25, 0.0]
    """
    p, max_steps = _probability(probability), check_integer("max_steps", max_steps, low=1)
    from scipy.special import xlog1py

    return np.exp(xlog1py(max_steps, -p))


def check_counts(failures: ArrayLike, draws: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Returns counts as float64: narrow integers do not hold draws + 1.

    Raises:
        ValueError: for a count out of its range.
    """
    failures, draws = np.broadcast_arrays(
        np.asarray(failures, np.float64), np.asarray(draws, np.float64)
    )
    wrong = ~((failures >= 0) & (failures <= draws) & np.isfinite(draws))
    if wrong.any():
        raise ValueError(
            f"failures is {failures[wrong][0]:g} of {draws[wrong][0]:g} draws; "
            "it must be from 0 to draws"
        )
    return failures, draws


def _probability(probability: ArrayLike) -> np.ndarray:
    p = np.asarray(probability, np.float64)
    wrong = ~((p >= 0) & (p <= 1))
    if wrong.any():
        raise ValueError(f"probability holds {p[wrong][0]:g}; allowed: 0 to 1")
    return p
