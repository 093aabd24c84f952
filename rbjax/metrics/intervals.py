"""Confidence intervals of a proportion, and of a mean over seeds."""

from __future__ import annotations

import statistics
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rbjax.inputs import check_real

Interval = tuple[np.ndarray, np.ndarray]


def wilson_interval(successes: ArrayLike, trials: ArrayLike, confidence: float = 0.95) -> Interval:
    """Returns Wilson's score interval of a proportion.

    `(p + z²/2n ± z sqrt(p (1 - p)/n + z²/4n²)) / (1 + z²/n)`, `p = successes / n`: the proportions
    that a normal test at this level would not reject. Its coverage is the confidence on average.

    Args:
        successes: counts of any shape, in [0, trials].
        trials: counts n of a shape that broadcasts; 0 gives (0, 1).
        confidence: in (0, 1).

    Returns:
        (low, high), float64 in [0, 1].

    Raises:
        ValueError: for a count or a confidence out of its range.

    Source: Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927,
    Journal of the American Statistical Association 22.

    Example:
        >>> low, high = rbjax.metrics.wilson_interval(5, 10)
        >>> round(float(low), 3), round(float(high), 3)
        (0.237, 0.763)
    """
    successes, trials, confidence = _checked(successes, trials, confidence)
    z = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
    n = np.where(trials == 0, 1, trials)
    p = successes / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2) / (1 + z**2 / n)
    low = np.where(successes == 0, 0.0, centre - half)
    high = np.where(successes == trials, 1.0, centre + half)
    return low, high


def clopper_pearson_interval(
    successes: ArrayLike, trials: ArrayLike, confidence: float = 0.95
) -> Interval:
    """Returns the exact interval of a proportion.

    `low = B(a/2; s, n - s + 1)`, `high = B(1 - a/2; s + 1, n - s)`, B the quantile of the beta
    distribution, `a = 1 - confidence`. Its coverage is the confidence or more.

    Args:
        successes: counts s of any shape, in [0, trials].
        trials: counts n of a shape that broadcasts; 0 gives (0, 1).
        confidence: in (0, 1).

    Returns:
        (low, high), float64 in [0, 1].

    Raises:
        ValueError: for a count or a confidence out of its range.

    Source: Clopper and Pearson, "The Use of Confidence or Fiducial Limits Illustrated in the Case
    of the Binomial", 1934, Biometrika 26.

    Example:
        >>> low, high = rbjax.metrics.clopper_pearson_interval(0, 10)  # high: 1 - 0.025**(1 / 10)
        >>> float(low), round(float(high), 3)
        (0.0, 0.308)
    """
    from scipy.special import betaincinv

    successes, trials, confidence = _checked(successes, trials, confidence)
    failures, tail = trials - successes, (1 - confidence) / 2
    at_zero, at_all = successes == 0, failures == 0
    low = betaincinv(np.where(at_zero, 1, successes), failures + 1, tail)
    high = betaincinv(successes + 1, np.where(at_all, 1, failures), 1 - tail)
    return np.where(at_zero, 0.0, low), np.where(at_all, 1.0, high)


class SeedMean(NamedTuple):
    """A mean over seeds and its interval."""

    value: float
    low: float
    high: float
    p_value: float
    """Of no difference from 0, two-sided."""


def mean_over_seeds(
    values: ArrayLike, *, variance: float = 0.0, confidence: float = 0.95
) -> SeedMean:
    """Returns the mean of one number of each seed, with the error of seeds and of images.

    The squared errors `s^2 / n` of n seeds and v of the test images, which all seeds share, are
    added up, and the interval is Student's with Welch and Satterthwaite's degrees of freedom
    `(n - 1) (s^2 / n + v)^2 / (s^2 / n)^2`. Where seeds do not differ, or there is one alone, it
    is the normal one of the images.

    Args:
        values: (n,), n at least 1.
        variance: v, of the mean over seeds by which images were drawn; 0 where these count as all
            there are.
        confidence: in (0, 1).

    Returns:
        The mean, its interval, and the p-value of its being 0.

    Raises:
        ValueError: for no value, or a variance or confidence out of its range.

    Source: Welch, "The Generalization of 'Student's' Problem when Several Different Population
    Variances are Involved", 1947, Biometrika 34.

    Example:
        >>> found = rbjax.metrics.mean_over_seeds([0.5, 0.6, 0.7])  # 0.6, and 4.303 * 0.1 / sqrt(3)
        >>> round(found.value, 3), round(found.low, 3), round(found.high, 3)
        (0.6, 0.352, 0.848)
    """
    from scipy import stats

    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"values have shape {values.shape}; it must be (n,), one a seed")
    variance = check_real("variance", variance, low=0.0)
    confidence = check_real("confidence", confidence, high=1.0)
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; it must be above 0 and below 1")
    value, freedom = float(np.mean(values)), len(values) - 1
    of_seeds = float(np.var(values, ddof=1)) / len(values) if freedom else 0.0
    error = float(np.sqrt(of_seeds + variance))
    law = stats.norm
    if of_seeds:
        law = stats.t(freedom * (of_seeds + variance) ** 2 / of_seeds**2)
    half = float(law.ppf((1 + confidence) / 2)) * error
    ratio = abs(value) / error if error else np.inf if value else 0.0
    return SeedMean(value, value - half, value + half, float(2 * law.sf(ratio)))


def _checked(
    successes: ArrayLike, trials: ArrayLike, confidence: float
) -> tuple[np.ndarray, np.ndarray, float]:
    """Returns both counts as float64 of one shape, and the confidence."""
    confidence = check_real("confidence", confidence, high=1.0)
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; it must be above 0 and below 1")
    s, n = np.broadcast_arrays(
        np.asarray(successes, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    )
    wrong = ~((s >= 0) & (s <= n) & np.isfinite(n))
    if wrong.any():
        raise ValueError(
            f"successes is {s[wrong][0]:g} of {n[wrong][0]:g} trials; it must be from 0 to trials"
        )
    return s, n, confidence
