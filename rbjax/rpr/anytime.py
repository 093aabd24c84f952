"""Intervals of a failure probability that hold at every draw at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from rbjax.inputs import check_real
from rbjax.metrics.intervals import Interval

_BISECTIONS = 100


def anytime_interval(
    failures: ArrayLike,
    draws: ArrayLike,
    confidence: float = 0.95,
    *,
    prior: tuple[float, float] = (0.5, 0.5),
) -> Interval:
    """Returns an interval that may be looked at after every draw, and be the reason to stop.

    {p : B(a + s, b + n - s) / (B(a, b) p^s (1 - p)^(n - s)) < 1 / (1 - confidence)}, s failures in
    n draws. Under the true p that ratio of likelihoods, a beta mixture's over p's own, is a
    martingale of mean 1; so with probability `confidence` it stays below the bound at all n
    together (Ville's inequality), whatever makes one stop: the first failure, or a width of the
    interval.

    Args:
        failures: (N,) counts s.
        draws: (N,) counts n; 0 gives (0, 1).
        confidence: in (0, 1), of all n together.
        prior: (a, b) of the mixture, positive; any is valid, and narrowest where it expects p.

    Returns:
        (low, high), (N,) float64 in [0, 1] each, rounded outwards.

    Raises:
        ValueError: for a count, a confidence or a prior out of its range.

    Source: Robbins, "Statistical Methods Related to the Law of the Iterated Logarithm", 1970,
    Annals of Mathematical Statistics 41, equation 16; Howard et al., "Time-uniform, nonparametric,
    nonasymptotic confidence sequences", 2021, arXiv:1810.08240.

    Example:
        >>> low, high = rbjax.rpr.anytime_interval([0, 1], [10, 10])
        >>> low.round(2).tolist(), high.round(2).tolist()
        ([0.0, 0.0], [0.38, 0.54])
    """
    from scipy.special import betaln, xlog1py, xlogy

    s, n = np.broadcast_arrays(np.asarray(failures, np.float64), np.asarray(draws, np.float64))
    confidence = check_real("confidence", confidence, high=1.0)
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; it must be above 0 and below 1")
    if len(prior) != 2 or not min(check_real("prior", value) for value in prior) > 0:
        raise ValueError(f"prior is {prior}; it must be two positive numbers")
    wrong = ~((s >= 0) & (s <= n) & np.isfinite(n))
    if wrong.any():
        raise ValueError(
            f"failures is {s[wrong][0]:g} of {n[wrong][0]:g} draws; it must be from 0 to draws"
        )
    a, b = prior
    mixture = betaln(a + s, b + n - s) - betaln(a, b) + np.log1p(-confidence)

    def outside(p: np.ndarray) -> np.ndarray:
        return mixture >= xlogy(s, p) + xlog1py(n - s, -p)

    # -log of p's likelihood is convex with its least at s / n, so the set is an interval there.
    best = np.where(n > 0, s / np.maximum(n, 1), 0.5)
    low = np.where(outside(np.zeros_like(s)), _edge(outside, np.zeros_like(s), best), 0.0)
    high = np.where(outside(np.ones_like(s)), _edge(outside, np.ones_like(s), best), 1.0)
    return low, high


def _edge(outside, far: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Returns where the set begins between `far`, outside of it, and `near`, inside."""
    for _ in range(_BISECTIONS):
        middle = (far + near) / 2
        is_outside = outside(middle)
        far, near = np.where(is_outside, middle, far), np.where(is_outside, near, middle)
    return far
