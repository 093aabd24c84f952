"""Two models on the same images and draws: how much more often is a flag true of one of them?

Both models answer for the same images, so that the flags come in pairs and the images on which the
models agree say nothing about the difference. Intervals and tests of independent samples would be
too wide.
"""

from __future__ import annotations

import math
import statistics
from typing import Any, NamedTuple

import numpy as np

from rbjax.inputs import check_labels, check_real

_NEAR = 1e-9
"""Nearer to the estimate than any end of an interval, for fewer than 10^8 images."""


class Comparison(NamedTuple):
    """A flag under two models, over the same images."""

    count: int
    """Images compared, n."""
    first: float
    """Share of them whose flag is true under the first model; NaN of none, as all that follow."""
    second: float
    """Under the second."""
    difference: float
    """second - first."""
    low: float
    """Lower end of Tango's score interval of the difference."""
    high: float
    """Upper end."""
    only_first: int
    """Images whose flag is true under the first model alone."""
    only_second: int
    """Under the second alone."""
    p_value: float
    """McNemar's exact test that both shares are equal, two-sided."""


def compare(
    first: np.ndarray,
    second: np.ndarray,
    *,
    counted: np.ndarray | None = None,
    confidence: float = 0.95,
) -> Comparison:
    """Compares the flags of two models on the same images: robust or correctly classified ones.

    d = (b - c) / n, with b and c the images whose flag is true under the second or the first model
    alone. The interval holds the differences that Tango's score test would not reject,
    (b - c - n d)^2 <= z^2 n (2 q(d) + d (1 - d)), with q(d) the likeliest share of c given d. The
    p-value is of b successes in b + c fair trials.

    Args:
        first: (N,) bool, of the first model; `Scores.robust` or `Scores.clean_correct`.
        second: (N,) bool, of the second model, for the same images in the same order.
        counted: (N,) bool, the images that count; None: all.
        confidence: of the interval, in (0, 1).

    Returns:
        The comparison.

    Raises:
        ValueError: for wrong shapes, flags that are not bool, or a confidence out of range.

    Source:
        Tango 1998, "Equivalence test and confidence interval for the difference in proportions for
        the paired-sample design", Statistics in Medicine 17, equations 10 to 13. McNemar 1947,
        "Note on the sampling error of the difference between correlated proportions",
        Psychometrika 12, in its exact form.

    Example:
        >>> first = np.array([True, True, False, False])
        >>> found = rbjax.rpr.compare(first, np.array([True, True, True, False]))
        >>> found.difference, found.only_first, found.only_second, found.p_value
        (0.25, 0, 1, 1.0)
    """
    from scipy.stats import binomtest

    first, second, kept = _checked(first, second, counted)
    confidence = check_real("confidence", confidence, high=1.0)
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; it must be above 0 and below 1")
    first, second = first[kept], second[kept]
    count = int(first.size)
    only_first = int(np.sum(first & ~second))
    only_second = int(np.sum(second & ~first))
    low, high = _tango_interval(only_first, only_second, count, confidence)
    share_first, share_second = (
        float(np.mean(flags)) if count else math.nan for flags in (first, second)
    )
    p_value, discordant = 1.0 if count else math.nan, only_first + only_second
    if discordant:
        p_value = float(binomtest(only_first, discordant).pvalue)  # McNemar's, exact, two-sided
    return Comparison(
        count=count,
        first=share_first,
        second=share_second,
        difference=(only_second - only_first) / count if count else math.nan,
        low=low,
        high=high,
        only_first=only_first,
        only_second=only_second,
        p_value=p_value,
    )


def compare_classes(
    first: np.ndarray,
    second: np.ndarray,
    labels: np.ndarray,
    *,
    num_classes: int,
    counted: np.ndarray | None = None,
    confidence: float = 0.95,
) -> list[Comparison]:
    """Compares the flags of two models class by class, each class as `compare` does.

    The intervals and p-values are each class's own, not corrected for their number.

    Args:
        first: as for `compare`.
        second: as for `compare`.
        labels: (N,) integers in [0, K), the true classes.
        num_classes: K.
        counted: as for `compare`.
        confidence: as for `compare`.

    Returns:
        K comparisons.

    Raises:
        ValueError: as `compare`, or for a label out of range.

    Example:
        >>> first, second = np.array([True, False, True]), np.array([True, True, False])
        >>> found = rbjax.rpr.compare_classes(first, second, np.array([0, 0, 1]), num_classes=2)
        >>> [one.difference for one in found]
        [0.5, -1.0]
    """
    first, second, kept = _checked(first, second, counted)
    labels = np.asarray(labels)
    if labels.shape != first.shape:
        raise ValueError(f"labels have shape {labels.shape}; they must have {first.shape}")
    labels = check_labels(labels, num_examples=labels.size, num_classes=num_classes)
    return [
        compare(first, second, counted=kept & (labels == label), confidence=confidence)
        for label in range(num_classes)
    ]


def _tango_interval(
    only_first: int, only_second: int, count: int, confidence: float
) -> tuple[float, float]:
    """Returns the roots of Tango's score at either quantile; (NaN, NaN) of no image."""
    from scipy.optimize import brentq

    if not count:
        return math.nan, math.nan
    z = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
    b, c, n = only_second, only_first, count

    def excess(difference: float, quantile: float) -> float:
        """The score's numerator less so many deviations; it falls as the difference grows."""
        linear = (2 * n - b + c) * difference - b - c
        constant = -c * difference * (1 - difference)
        share = (math.sqrt(linear**2 - 8 * n * constant) - linear) / (4 * n)
        variance = n * (2 * share + difference * (1 - difference))
        return b - c - n * difference - quantile * math.sqrt(max(variance, 0.0))

    # Where no image, or every one, is discordant, the estimate itself is a root, but not an end.
    below, above = (b - c) / n - _NEAR, (b - c) / n + _NEAR
    low: Any = -1.0 if below < -1 else brentq(excess, -1.0, below, args=(z,), xtol=1e-12)
    high: Any = 1.0 if above > 1 else brentq(excess, above, 1.0, args=(-z,), xtol=1e-12)
    return float(low), float(high)


def _checked(
    first: np.ndarray, second: np.ndarray, counted: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns both flags and the images that count, (N,) bool each."""
    first, second = np.asarray(first), np.asarray(second)
    kept = np.ones(first.shape, bool) if counted is None else np.asarray(counted)
    for field, flags in (("first", first), ("second", second), ("counted", kept)):
        if flags.ndim != 1 or flags.shape != first.shape or flags.dtype != np.bool_:
            raise ValueError(
                f"{field} is {flags.dtype} of shape {flags.shape}; first, second and counted must "
                "be bool (N,), of the same images"
            )
    return first, second, kept
