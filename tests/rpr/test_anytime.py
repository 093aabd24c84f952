from __future__ import annotations

import numpy as np
import pytest
from scipy.special import beta

from rbjax.rpr.anytime import anytime_interval
from rbjax.rpr.estimators import failure_interval

NUM_PATHS = 4000
HORIZON = 2000


def ratio(p, s, n, a=0.5, b=0.5):
    return beta(a + s, b + n - s) / (beta(a, b) * p**s * (1 - p) ** (n - s))


def test_ends_are_where_the_ratio_meets_the_bound():
    s, n = np.array([1, 5, 30]), np.array([20, 100, 60])
    for end in anytime_interval(s, n):
        np.testing.assert_allclose(ratio(end, s, n), 20, rtol=1e-9)
    for end in anytime_interval(s, n, 0.99, prior=(1, 3)):
        np.testing.assert_allclose(ratio(end, s, n, 1, 3), 100, rtol=1e-9)


def test_no_failures_all_failures_and_no_draws():
    low, high = anytime_interval([0, 7, 0], [250, 7, 0])
    assert low[0] == 0
    # (1 - p)^250 = 0.05 B(1/2, 250.5) / B(1/2, 1/2)
    assert high[0] == pytest.approx(1 - (0.05 * beta(0.5, 250.5) / beta(0.5, 0.5)) ** (1 / 250))
    assert high[1] == 1
    assert low[1] == pytest.approx((0.05 * beta(7.5, 0.5) / beta(0.5, 0.5)) ** (1 / 7))
    assert (low[2], high[2]) == (0, 1)


def test_it_is_wider_than_the_interval_for_one_look():
    s, n = np.array([0, 3, 40]), np.array([250, 250, 1000])
    low, high = anytime_interval(s, n)
    fixed_low, fixed_high = failure_interval(s, n)
    assert np.all(low <= fixed_low)
    assert np.all(high > fixed_high)


@pytest.mark.parametrize("p", [0.002, 0.05, 0.5])
def test_coverage_at_all_draws_at_once(p: float):
    """4,000 paths of 2,000 draws: who stops at the worst moment errs in 5 % of them at most.

    Clopper and Pearson's interval, looked at as often, errs in 10 % or more.
    """
    rng = np.random.default_rng(int(1000 * p))
    draws = np.arange(1, HORIZON + 1)
    failures = np.cumsum(rng.random((NUM_PATHS, HORIZON)) < p, axis=1, dtype=np.int16)
    pairs, which = np.unique(failures * np.int64(HORIZON + 1) + draws, return_inverse=True)
    s, n = pairs // (HORIZON + 1), pairs % (HORIZON + 1)
    wrong = {}
    for interval in (anytime_interval, failure_interval):
        low, high = interval(s, n)
        misses = ((low > p) | (high < p))[which].reshape(failures.shape)
        wrong[interval] = np.mean(np.any(misses, axis=1))
    assert wrong[anytime_interval] <= 0.05
    assert wrong[failure_interval] > 0.1


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((3, 2), {}, "failures is 3 of 2 draws"),
        ((1, 2, 1.0), {}, "confidence is 1.0"),
        ((1, 2), {"prior": (0, 1)}, "prior is"),
        ((1, 2), {"prior": (1,)}, "prior is"),
    ],
)
def test_wrong_input(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        anytime_interval(*arguments, **options)
