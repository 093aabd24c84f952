from __future__ import annotations

import numpy as np
import pytest

from rbjax.rpr.estimators import (
    capped_expectation,
    count_draws,
    expected_steps,
    failure_interval,
    failure_probability,
    failure_upper_bound,
    log_failure_probability,
    robust_probability,
)

MAX_STEPS = 250


def test_golden_counts():
    """max_steps 3: 4 means that no draw failed, 0 that the repetition was not run."""
    once = count_draws(np.array([1, 3, 4]), 3)
    assert once.failures.tolist() == [1, 1, 0]
    assert once.draws.tolist() == [1, 3, 3]
    several = count_draws(np.array([[1, 2, 4], [4, 0, 0], [3, 3, 0]]), 3)
    assert several.failures.tolist() == [2, 0, 2]
    assert several.draws.tolist() == [6, 3, 6]


def test_a_repetition_may_be_missing_but_not_the_only_one():
    with pytest.raises(ValueError, match="first_failure holds 0; allowed: 1 to 4"):
        count_draws(np.array([0, 1]), 3)
    with pytest.raises(ValueError, match="first_failure holds 5; allowed: 0 to 4"):
        count_draws(np.array([[5, 1]]), 3)
    with pytest.raises(ValueError, match=r"shape \(1, 1, 1\)"):
        count_draws(np.ones((1, 1, 1), int), 3)
    with pytest.raises(ValueError, match="max_steps is 0"):
        count_draws(np.array([1]), 0)


def test_narrow_counts_do_not_overflow_and_no_draw_is_no_number():
    narrow = np.array([100, 255], np.uint8), np.array([255, 255], np.uint8)
    wide = [counts.astype(int) for counts in narrow]
    np.testing.assert_array_equal(log_failure_probability(*narrow), log_failure_probability(*wide))
    for wrong in ([np.nan, 2.0], [1.5, 2.0], [True, True]):
        with pytest.raises(ValueError, match=r"first_failure has dtype .*; it must hold whole"):
            count_draws(np.array(wrong), 254)
    with pytest.raises(ValueError, match="failures is nan of 3 draws"):
        failure_probability([np.nan], [3])


def test_zero_failures_in_250_draws():
    """1 - 0.05^(1/250) and 1 - 0.025^(1/250)."""
    assert failure_upper_bound(0, 250) == pytest.approx(0.0119114, abs=5e-8)
    low, high = failure_interval(0, 250)
    assert low == 0
    assert high == pytest.approx(0.0146472, abs=5e-8)


def test_ends_of_the_interval_by_their_definition():
    from scipy.stats import binom

    failures, draws = np.array([1, 3, 20]), np.array([40, 250, 900])
    low, high = failure_interval(failures, draws)
    np.testing.assert_allclose(binom.sf(failures - 1, draws, low), 0.025)
    np.testing.assert_allclose(binom.cdf(failures, draws, high), 0.025)
    upper = failure_upper_bound(failures, draws, 0.99)
    np.testing.assert_allclose(binom.cdf(failures, draws, upper), 0.01)
    assert failure_upper_bound(5, 5) == 1


def test_point_estimates():
    np.testing.assert_allclose(
        failure_probability([0, 1, 3, 0], [250, 4, 3, 0]), [0, 0.25, 1, np.nan]
    )
    np.testing.assert_allclose(
        log_failure_probability([0, 1], [249, 2]), np.log10([0.5 / 250, 1.5 / 3])
    )
    with pytest.raises(ValueError, match="failures is 3 of 2 draws"):
        failure_probability([1, 3], [1, 2])


@pytest.mark.parametrize("p", [1e-3, 0.02, 0.3, 1.0])
def test_both_readings_are_the_sums_they_stand_for(p: float):
    steps = np.arange(1, MAX_STEPS + 1)
    law = p * (1 - p) ** (steps - 1)
    survived = (1 - p) ** MAX_STEPS
    assert robust_probability(p, MAX_STEPS) == pytest.approx(survived)
    expected = np.sum(steps * law) + MAX_STEPS * survived
    assert expected_steps(p, MAX_STEPS) == pytest.approx(expected)
    assert capped_expectation(p, MAX_STEPS) == pytest.approx(min(MAX_STEPS, 1 / p))


def test_readings_at_tiny_probabilities():
    """T - T (T - 1) p / 2 up to p^2."""
    p = np.array([0.0, 1e-300, 1e-17, 1e-12, 1e-8])
    expected = MAX_STEPS - MAX_STEPS * (MAX_STEPS - 1) * p / 2
    np.testing.assert_allclose(expected_steps(p, MAX_STEPS), expected, rtol=1e-11)
    np.testing.assert_array_equal(capped_expectation(p, MAX_STEPS), MAX_STEPS)
    np.testing.assert_allclose(1 - robust_probability(p, MAX_STEPS), MAX_STEPS * p, atol=1e-9)
    with pytest.raises(ValueError, match=r"probability holds -0\.1; allowed: 0 to 1"):
        expected_steps(-0.1, 3)
    with pytest.raises(ValueError, match="probability holds nan"):
        robust_probability(np.nan, 3)


def exact_law(p: float, max_steps: int, repetitions: int) -> np.ndarray:
    """Returns the probability of s failures in n draws, at [s, n]."""
    law = np.zeros((repetitions + 1, repetitions * max_steps + 1))
    law[0, 0] = 1.0
    for _ in range(repetitions):
        longer = np.zeros_like(law)
        for n in range(1, max_steps + 1):
            longer[1:, n:] += p * (1 - p) ** (n - 1) * law[:-1, :-n]
        longer[:, max_steps:] += (1 - p) ** max_steps * law[:, : law.shape[1] - max_steps]
        law = longer
    return law


@pytest.mark.parametrize("repetitions", [1, 2, 5, 10])
def test_exact_coverage_of_draws_that_stop_at_a_failure(repetitions: int):
    """Every outcome of `repetitions` of 20 draws at most, at 60 probabilities."""
    max_steps = 20
    failures, draws = np.indices((repetitions + 1, repetitions * max_steps + 1))
    low, high = failure_interval(np.minimum(failures, draws), draws)
    upper = failure_upper_bound(np.minimum(failures, draws), draws)
    for p in np.geomspace(1e-4, 0.99, 60):
        law = exact_law(p, max_steps, repetitions)
        assert law.sum() == pytest.approx(1)
        assert law[p < low].sum() <= 0.025 + 1e-12
        assert law[p > high].sum() <= 0.025 + 1e-12
        assert law[p > upper].sum() <= 0.05 + 1e-12
