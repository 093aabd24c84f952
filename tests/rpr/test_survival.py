from __future__ import annotations

import numpy as np
import pytest

from rbjax import rpr
from rbjax.rpr.survival import kaplan_meier

FIRST_FAILURE = np.array([1, 2, 4, 4, 2, 3])
LABELS = np.array([0, 0, 0, 2, 2, 2])


def test_golden_curve():
    """max_steps 3: 4 means that no draw failed."""
    curves = rpr.survival_curve(FIRST_FAILURE, 3, LABELS, num_classes=3)
    np.testing.assert_allclose(curves.overall, [1, 5 / 6, 3 / 6, 2 / 6])
    np.testing.assert_allclose(curves.classes[0], [1, 2 / 3, 1 / 3, 1 / 3])
    np.testing.assert_allclose(curves.classes[2], [1, 1, 2 / 3, 1 / 3])
    assert np.isnan(curves.classes[1]).all()
    assert curves.counts.tolist() == [3, 0, 3]


def test_golden_ratio():
    ratio = rpr.robust_ratio(FIRST_FAILURE, 3, LABELS, num_classes=3)
    assert ratio.counts.tolist() == [3, 0, 3]
    assert ratio.robust.tolist() == [1, 0, 1]
    assert ratio.overall == pytest.approx(2 / 6)
    np.testing.assert_allclose(ratio.classes, [1 / 3, np.nan, 1 / 3])


def test_among_the_images_that_count():
    counted = np.array([False, True, True, True, False, True])
    ratio = rpr.robust_ratio(FIRST_FAILURE, 3, LABELS, num_classes=3, counted=counted)
    assert ratio.counts.tolist() == [2, 0, 2]
    assert ratio.overall == pytest.approx(2 / 4)
    curves = rpr.survival_curve(FIRST_FAILURE, 3, LABELS, num_classes=3, counted=counted)
    np.testing.assert_allclose(curves.overall, [1, 1, 3 / 4, 2 / 4])
    none = rpr.robust_ratio(FIRST_FAILURE, 3, LABELS, num_classes=3, counted=np.zeros(6, bool))
    assert np.isnan(none.overall)


def test_the_end_of_the_curve_is_the_ratio():
    rng = np.random.default_rng(0)
    first_failure, labels = rng.integers(1, 12, 500), rng.integers(0, 4, 500)
    curves = rpr.survival_curve(first_failure, 10, labels, num_classes=4)
    ratio = rpr.robust_ratio(first_failure, 10, labels, num_classes=4)
    np.testing.assert_allclose(curves.classes[:, -1], ratio.classes)
    assert curves.overall[-1] == pytest.approx(ratio.overall)
    for t in range(11):
        assert curves.overall[t] == pytest.approx(np.mean(first_failure > t))
    assert np.all(np.diff(curves.overall) <= 0)


@pytest.mark.parametrize(
    ("first_failure", "labels", "message"),
    [
        ([0, 1], [0, 0], "first_failure holds 0; allowed: 1 to 4"),
        ([5, 1], [0, 0], "first_failure holds 5"),
        ([1, 1], [0, 3], "labels holds 3; allowed: 0 to 2"),
        ([1, 1], [0], "have shapes"),
    ],
)
def test_wrong_input(first_failure, labels, message):
    with pytest.raises(ValueError, match=message):
        rpr.survival_curve(np.array(first_failure), 3, np.array(labels), num_classes=3)


DRAWS = np.array([3, 1, 2, 3, 2, 3])
FAILED = np.array([False, True, True, False, False, True])


def test_golden_kaplan_meier():
    """One of six fails at 1, one of five at 2 (another is stopped), one of three at 3."""
    found = kaplan_meier(DRAWS, FAILED, LABELS, num_classes=3)
    survival = [1, 5 / 6, 5 / 6 * 4 / 5, 5 / 6 * 4 / 5 * 2 / 3]
    np.testing.assert_allclose(found.overall.survival, survival)
    assert found.overall.mean_steps == pytest.approx(sum(survival[:3]))
    np.testing.assert_allclose(found.classes.survival[0], [1, 2 / 3, 1 / 3, 1 / 3])
    np.testing.assert_allclose(found.classes.survival[2], [1, 1, 1, 1 / 2])
    assert np.isnan(found.classes.survival[1]).all()
    assert np.isnan(found.classes.high[1]).all()
    assert found.counts.tolist() == [3, 0, 3]


def test_golden_band():
    """Log-log with Greenwood's variance: 1 / (6 5) and 1 / (5 4)."""
    curve = kaplan_meier(DRAWS, FAILED, LABELS, num_classes=3).overall
    z = 1.959963984540054
    for t, variance in ((1, 1 / 30), (2, 1 / 30 + 1 / 20)):
        log = np.log(curve.survival[t])
        reach = np.exp(z * np.sqrt(variance) / -log)
        assert curve.low[t] == pytest.approx(np.exp(log * reach))
        assert curve.high[t] == pytest.approx(np.exp(log / reach))


def test_band_where_none_or_all_have_failed():
    draws, failed = np.array([1, 2, 2, 3, 3]), np.array([False, True, True, True, True])
    curve = kaplan_meier(draws, failed, np.zeros(5, int), num_classes=1).overall
    np.testing.assert_allclose(curve.survival, [1, 1, 0.5, 0])
    assert (curve.low[0], curve.high[0]) == (1, 1)
    assert curve.low[1] == pytest.approx(0.025 ** (1 / 5))  # none of five
    assert curve.high[1] == 1
    assert curve.low[3] == 0
    assert curve.high[3] == pytest.approx(1 - 0.025 ** (1 / 4))  # four of those not stopped


def test_curve_ends_where_all_that_are_left_were_stopped():
    labels = np.array([0, 0, 1, 1])
    found = kaplan_meier(
        np.array([1, 2, 1, 4]), np.array([True, False, True, True]), labels, num_classes=2
    )
    np.testing.assert_allclose(found.classes.survival[0], [1, 0.5, 0.5, np.nan, np.nan])
    np.testing.assert_allclose(found.classes.survival[1], [1, 0.5, 0.5, 0.5, 0])
    assert np.isnan(found.classes.low[0, 3])
    assert np.isnan(found.classes.mean_steps[0])
    assert found.classes.mean_steps[1] == pytest.approx(2.5)


def test_without_early_stops_it_is_the_share_of_survivors():
    rng = np.random.default_rng(0)
    first_failure, labels = rng.integers(1, 12, 500), rng.integers(0, 4, 500)
    counted = rng.random(500) < 0.7
    draws, failed = np.minimum(first_failure, 10), first_failure <= 10
    found = kaplan_meier(draws, failed, labels, num_classes=4, counted=counted)
    curves = rpr.survival_curve(first_failure, 10, labels, num_classes=4, counted=counted)
    np.testing.assert_allclose(found.overall.survival, curves.overall)
    np.testing.assert_allclose(found.classes.survival, curves.classes)
    assert found.counts.tolist() == curves.counts.tolist()
    assert found.overall.mean_steps == pytest.approx(np.mean(draws[counted]))


def test_coverage_of_the_band_with_early_stops():
    """Failure probability 0.02, up to 60 draws of 200 datapoints, a third stopped earlier.

    In 1,000 experiments the band of 95 % has (1 - p)^t in 93.5 % or more at each t from 2 on, and
    in 92 % after a single draw, when four have failed on average.
    """
    p, steps, trials = 0.02, 60, 1000
    rng = np.random.default_rng(0)
    truth = (1 - p) ** np.arange(steps + 1)
    covered = np.zeros(steps + 1)
    estimates = np.zeros(steps + 1)
    for _ in range(trials):
        first_failure = rng.geometric(p, 200)
        most = np.where(rng.random(200) < 1 / 3, rng.integers(1, steps, 200), steps)
        curve = kaplan_meier(
            np.minimum(first_failure, most),
            first_failure <= most,
            np.zeros(200, int),
            num_classes=1,
        ).overall
        covered += (curve.low <= truth) & (truth <= curve.high)
        estimates += curve.survival
    assert covered[2:].min() / trials >= 0.935
    assert covered[1] / trials >= 0.92
    np.testing.assert_allclose(estimates / trials, truth, atol=0.005)


def test_constant_failure_probability():
    """S(t) = (1 - p)^t: 20,000 datapoints that fail with 0.01 a draw, 250 draws."""
    first_failure = np.minimum(np.random.default_rng(0).geometric(0.01, 20_000), 251)
    zeros = np.zeros(20_000, int)
    curve = rpr.survival_curve(first_failure, 250, zeros, num_classes=1).overall
    np.testing.assert_allclose(curve, 0.99 ** np.arange(251), atol=0.015)


@pytest.mark.parametrize(
    ("draws", "failed", "labels", "message"),
    [
        ([0, 1], [True, True], [0, 0], "first_failure holds 0"),
        ([1, 1], [True], [0, 0], "draws and failed have shapes"),
        ([], [], [], "N at least 1"),
        ([1, 2], [True, True], [0, 3], "labels holds 3; allowed: 0 to 2"),
    ],
)
def test_wrong_draws(draws, failed, labels, message):
    with pytest.raises(ValueError, match=message):
        kaplan_meier(draws, failed, labels, num_classes=3)
