from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from rbjax.metrics import clopper_pearson_interval, wilson_interval

METHODS = [(wilson_interval, "wilson"), (clopper_pearson_interval, "exact")]


@pytest.mark.parametrize(
    ("interval", "expected"),
    [(wilson_interval, (0.4901625, 0.9433178)), (clopper_pearson_interval, (0.4439045, 0.9747893))],
)
def test_eight_of_ten(interval, expected):
    np.testing.assert_allclose(interval(8, 10), expected, atol=1e-6)


@pytest.mark.parametrize(("interval", "method"), METHODS)
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_equals_scipy(interval, method: str, confidence: float):
    pairs = [(0, 10), (1, 10), (5, 10), (10, 10), (37, 1000), (999, 1000)]
    low, high = interval(*np.array(pairs).T, confidence)
    for i, (successes, trials) in enumerate(pairs):
        expected = scipy.stats.binomtest(successes, trials).proportion_ci(confidence, method)
        np.testing.assert_allclose((low[i], high[i]), expected, atol=1e-12)


@pytest.mark.parametrize(("interval", "method"), METHODS)
def test_shapes_broadcast_and_no_trial_says_nothing(interval, method: str):
    low, high = interval(np.array([[0, 3], [0, 5]]), np.array([0, 5]))
    assert low.shape == high.shape == (2, 2)
    np.testing.assert_array_equal([low[0, 0], high[0, 0]], [0, 1])
    assert ((low >= 0) & (high <= 1) & (low < high)).all()


@pytest.mark.parametrize(("interval", "method"), METHODS)
def test_wrong_counts_are_refused(interval, method: str):
    for successes, trials in ((11, 10), (-1, 10), (1, float("nan"))):
        with pytest.raises(ValueError, match="successes"):
            interval(successes, trials)
    for confidence in (0.0, 1.0, 95):
        with pytest.raises(ValueError, match="confidence"):
            interval(1, 2, confidence)


def test_exact_interval_covers():
    """At every proportion the share of outcomes whose interval holds it is 95 % or more."""
    outcomes = np.arange(21)
    low, high = clopper_pearson_interval(outcomes, 20)
    for proportion in np.linspace(0.01, 0.99, 25):
        mass = scipy.stats.binom.pmf(outcomes, 20, proportion)
        assert mass[(low <= proportion) & (proportion <= high)].sum() >= 0.95
