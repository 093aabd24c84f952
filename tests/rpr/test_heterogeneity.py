from __future__ import annotations

import numpy as np
import pytest

from rbjax.rpr.estimators import count_draws
from rbjax.rpr.heterogeneity import BetaGeometric, fit_beta_geometric

MAX_STEPS = 250


def test_uniform_probabilities_have_a_harmonic_survival():
    """P(N > t) = 1 / (t + 1) for a = b = 1."""
    law = BetaGeometric(1.0, 1.0, 0.0)
    steps = np.array([0, 1, 2, 250, 10**6])
    np.testing.assert_allclose(law.survival(steps), 1 / (steps + 1), rtol=1e-7)
    assert law.mean == 0.5
    with pytest.raises(ValueError, match="steps holds -1"):
        law.survival([3, -1])


def test_fit_finds_the_law_and_extrapolates():
    """20,000 datapoints of Beta(0.5, 20), each drawn until its first failure, at most 250 times."""
    rng = np.random.default_rng(0)
    first_failure = rng.geometric(rng.beta(0.5, 20, 20_000))
    counts = count_draws(np.minimum(first_failure, MAX_STEPS + 1), MAX_STEPS)
    law = fit_beta_geometric(*counts)
    assert law.a == pytest.approx(0.5, rel=0.05)
    assert law.b == pytest.approx(20, rel=0.1)
    for steps in (10, 250, 1000, 5000):  # four standard errors of a share of 20,000 are 0.012
        assert law.survival(steps) == pytest.approx(np.mean(first_failure > steps), abs=0.012)
    for a, b in ((0.55, 20), (0.5, 24), (0.45, 18)):
        assert log_likelihood(a, b, *counts) < law.log_likelihood


def log_likelihood(a: float, b: float, failures: np.ndarray, draws: np.ndarray) -> float:
    from scipy.special import betaln

    return float(np.sum(betaln(a + failures, b + draws - failures) - betaln(a, b)))


def test_log_likelihood_is_of_the_data():
    failures, draws = np.array([1, 0, 1, 2]), np.array([3, 10, 1, 9])
    law = fit_beta_geometric(failures, draws)
    assert law.log_likelihood == pytest.approx(log_likelihood(law.a, law.b, failures, draws))


def test_equal_probabilities_give_a_narrow_law():
    rng = np.random.default_rng(1)
    first_failure = np.minimum(rng.geometric(0.01, 5000), MAX_STEPS + 1)
    law = fit_beta_geometric(*count_draws(first_failure, MAX_STEPS))
    assert law.mean == pytest.approx(0.01, rel=0.05)
    steps = np.array([10, 100, 250])
    np.testing.assert_allclose(law.survival(steps), 0.99**steps, atol=0.02)


@pytest.mark.parametrize(
    ("failures", "draws", "message"),
    [
        ([0, 0], [5, 5], "failures adds up to 0 of 10 draws"),
        ([1, 1], [1, 1], "failures adds up to 2 of 2 draws"),
        ([1, 1], [1], "have shapes"),
        ([3, 1], [2, 5], r"failures is .* draws; it must be from 0 to draws"),
    ],
)
def test_wrong_input(failures, draws, message):
    with pytest.raises(ValueError, match=message):
        fit_beta_geometric(np.array(failures), np.array(draws))
