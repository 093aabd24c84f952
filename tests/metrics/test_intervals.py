from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats

from rbjax.metrics import clopper_pearson_interval, mean_over_seeds, wilson_interval

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


def test_seeds_alone_are_students_and_images_alone_are_normal():
    values = np.array([0.9, 1.3, 1.1, 1.6])
    expected: Any = scipy.stats.ttest_1samp(values, 0.0)
    found = mean_over_seeds(values)
    np.testing.assert_allclose(found[1:3], expected.confidence_interval(0.95))
    np.testing.assert_allclose((found.value, found.p_value), (values.mean(), expected.pvalue))
    one = mean_over_seeds([1.0], variance=0.25)
    np.testing.assert_allclose(one, (1.0, 0.02002, 1.97998, 0.0455003), atol=1e-5)
    assert mean_over_seeds([0.0, 0.0]) == (0.0, 0.0, 0.0, 1.0)
    assert mean_over_seeds([2.0, 2.0]) == (2.0, 2.0, 2.0, 0.0)


def test_images_widen_the_interval_of_seeds_and_bring_it_nearer_to_the_normal_one():
    values, variance = np.array([0.9, 1.3, 1.1]), 0.04
    found = mean_over_seeds(values, variance=variance)
    of_seeds = values.var(ddof=1) / 3
    quantile = (found.high - found.value) / np.sqrt(of_seeds + variance)
    assert 1.96 < quantile < 2.1 < scipy.stats.t.ppf(0.975, 2)
    freedom = 2 * (of_seeds + variance) ** 2 / of_seeds**2
    np.testing.assert_allclose(quantile, scipy.stats.t.ppf(0.975, freedom))


def test_a_mean_over_no_seed_is_refused():
    for values in ([], [[1.0]]):
        with pytest.raises(ValueError, match="values have shape"):
            mean_over_seeds(values)
    with pytest.raises(ValueError, match="variance"):
        mean_over_seeds([1.0], variance=-1.0)
