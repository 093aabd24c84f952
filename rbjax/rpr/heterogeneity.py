"""How failure probabilities differ between datapoints: a beta law, fitted to censored draws."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

from rbjax.rpr.estimators import check_counts

_LOG_LARGEST = 15.0
"""Bound of both parameters' logarithms: equal probabilities would drive them to infinity."""


@dataclasses.dataclass(frozen=True)
class BetaGeometric:
    """Failure probabilities p ~ Beta(a, b), so first failures of a beta-geometric law."""

    a: float
    """How many failures the law is worth."""
    b: float
    """How many correct draws the law is worth."""
    log_likelihood: float
    """Of the draws it was fitted to."""

    @property
    def mean(self) -> float:
        """The mean failure probability, a / (a + b)."""
        return self.a / (self.a + self.b)

    def survival(self, steps: ArrayLike) -> np.ndarray:
        """Returns the share of datapoints that withstand so many draws, beyond MAX_STEPS too.

        P(N > t) = B(a, b + t) / B(a, b).

        Args:
            steps: t, any shape, at least 0.

        Returns:
            float64 of t's shape, in [0, 1].

        Raises:
            ValueError: for a negative number.
        """
        from scipy.special import betaln

        steps = np.asarray(steps, np.float64)
        if not (steps >= 0).all():
            raise ValueError(f"steps holds {steps[~(steps >= 0)][0]:g}; allowed: 0 or more")
        return np.exp(betaln(self.a, self.b + steps) - betaln(self.a, self.b))


def fit_beta_geometric(failures: ArrayLike, draws: ArrayLike) -> BetaGeometric:
    """Fits the law of failure probabilities over datapoints by maximum likelihood.

    log L = sum over i of log B(a + failures_i, b + draws_i - failures_i) - log B(a, b). A datapoint
    that never failed is thereby one that survived its draws, not one with p = 0.

    Args:
        failures: (N,) counts, as `count_draws` returns them.
        draws: (N,) counts.

    Returns:
        The fitted law.

    Raises:
        ValueError: if no draw failed or all did, for then nothing bounds the law; or for counts
            out of range.

    Source: Weinberg and Gladen, "The Beta-Geometric Distribution Applied to Comparative
    Fecundability Studies", 1986, Biometrics 42.

    Example:
        >>> found = rbjax.rpr.fit_beta_geometric([1, 1, 1, 0], [1, 2, 4, 10])
        >>> found.survival([0]).tolist(), bool(0 < found.mean < 1)
        ([1.0], True)
    """
    from scipy.optimize import minimize

    failures, draws = np.asarray(failures), np.asarray(draws)
    if failures.shape != draws.shape or failures.ndim != 1:
        raise ValueError(
            f"failures and draws have shapes {failures.shape} and {draws.shape}; both must be (N,)"
        )
    failures, draws = check_counts(failures, draws)
    total_failures, total_draws = int(failures.sum()), int(draws.sum())
    if not 0 < total_failures < total_draws:
        raise ValueError(
            f"failures adds up to {total_failures} of {total_draws} draws; to fit a law, some must "
            "fail and some must not"
        )
    pairs, weights = np.unique(np.stack([failures, draws]), axis=1, return_counts=True)
    mean = total_failures / total_draws
    optimum = minimize(
        _negative_log_likelihood,
        np.log([2 * mean, 2 * (1 - mean)]),
        args=(pairs[0], pairs[1] - pairs[0], weights),
        jac=True,
        method="L-BFGS-B",
        bounds=[(-_LOG_LARGEST, _LOG_LARGEST)] * 2,
        options={"maxiter": 1000, "ftol": 1e-13},
    )
    a, b = np.exp(optimum.x)
    return BetaGeometric(float(a), float(b), -float(optimum.fun) * len(failures))


def _negative_log_likelihood(
    log_parameters: np.ndarray, failures: np.ndarray, others: np.ndarray, weights: np.ndarray
) -> tuple[float, np.ndarray]:
    """Returns the mean of -log L over datapoints, and its gradient in log a and log b."""
    from scipy.special import betaln, digamma

    a, b = np.exp(log_parameters)
    shares = weights / weights.sum()
    value = shares @ (betaln(a + failures, b + others) - betaln(a, b))
    total = digamma(a + b + failures + others) - digamma(a + b)
    slopes = [
        shares @ (digamma(a + failures) - digamma(a) - total) * a,
        shares @ (digamma(b + others) - digamma(b) - total) * b,
    ]
    return -float(value), -np.array(slopes)
