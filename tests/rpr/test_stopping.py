"""Early stop by the flattening of the survival curve, and repetitions until p is known."""

from __future__ import annotations

import numpy as np
import pytest

from rbjax import rpr
from rbjax.rpr.anytime import anytime_interval
from tests.rpr.known import MIXED, score


def test_flat_is_a_small_fall_over_a_window():
    rule = rpr.Flattening(window=2, tolerance=0.25)
    assert not rule.is_flat(np.array([1.0, 1.0]))
    assert not rule.is_flat(np.array([1.0, 0.75, 0.5]))
    assert rule.is_flat(np.array([1.0, 0.75, 0.75]))
    assert rule.is_flat(np.array([1.0, 0.5, 0.25, 0.25]))
    assert not rule.is_flat(np.array([1.0, 0.75, 0.25, 0.25]))


def test_scores_are_the_long_run_cut_off_where_it_is_flat():
    """Probabilities 0 and 0.5 flatten at once; the draws after are saved."""
    probabilities = np.repeat([0.0, 0.5], 100)
    full = score(probabilities, max_steps=300)
    rule = rpr.Flattening(window=10, tolerance=0.01)
    stopped = score(probabilities, max_steps=300, stop=rule)
    curve = rpr.survival_curve(full.first_failure, 300, np.zeros(200, int), num_classes=1).overall
    flat = [t for t in range(10, 301, 10) if curve[t - 10] - curve[t] <= 0.01]
    assert stopped.max_steps == flat[0] < 50
    expected = np.minimum(full.first_failure, stopped.max_steps + 1)
    np.testing.assert_array_equal(stopped.first_failure, expected)
    np.testing.assert_array_equal(stopped.robust, expected > stopped.max_steps)
    assert stopped.forward_passes_needed == np.minimum(expected, stopped.max_steps).sum()
    assert stopped.forward_passes_run < full.forward_passes_run / 5


def test_a_rule_that_is_never_met_changes_nothing():
    full = score(MIXED, max_steps=30)
    rule = rpr.Flattening(window=7, tolerance=0.0)
    stopped = score(MIXED, max_steps=30, stop=rule)
    assert stopped.max_steps == 30
    np.testing.assert_array_equal(stopped.first_failure, full.first_failure)


def test_all_fail_before_the_last_window():
    stopped = score(np.ones(20), max_steps=30, stop=rpr.Flattening(window=5, tolerance=0.0))
    assert stopped.max_steps == 30
    assert np.all(stopped.first_failure == 1)
    assert stopped.forward_passes_needed == 20


def test_progress_of_a_stopped_run():
    seen = []
    score(MIXED, stop=rpr.Flattening(window=4, tolerance=0.0), progress=seen.append)
    assert [s.done for s in seen] == sorted(s.done for s in seen)
    assert seen[-1].done == len(MIXED)
    assert all(s.of - s.done <= s.figures["survivors"] <= s.of for s in seen)
    assert seen[-1].figures["survivors"] > 0


def test_repetitions_have_draws_of_their_own():
    """P = 0.1, 400 images: pairs of repetitions agree as often as chance has it."""
    repeated = score(np.full(400, 0.1), scorer=rpr.score_repeatedly, repetitions=3)
    once = score(np.full(400, 0.1))
    np.testing.assert_array_equal(repeated.first_failure[:, 0], once.first_failure)
    np.testing.assert_array_equal(repeated.clean_correct, once.clean_correct)
    law = 0.1 * 0.9 ** np.arange(20)
    by_chance = np.sum(law**2) + 0.9**40
    for one, other in ((0, 1), (0, 2), (1, 2)):
        same = np.mean(repeated.first_failure[:, one] == repeated.first_failure[:, other])
        assert abs(same - by_chance) < 5 * np.sqrt(by_chance / 400)
    assert abs(repeated.failures.sum() / repeated.draws.sum() - 0.1) < 0.01
    np.testing.assert_array_equal(
        repeated.draws, np.minimum(repeated.first_failure, 20).sum(axis=1)
    )


def test_repetitions_end_where_the_probability_is_known():
    """Certain failure and none are known soon; p = 0.5 needs more."""
    options = {"scorer": rpr.score_repeatedly, "repetitions": 200, "max_width": 0.2}
    repeated = score([0.0, 0.5, 1.0], **options)
    runs = (repeated.first_failure > 0).sum(axis=1)
    assert runs[0] < runs[2] < runs[1] < 200
    low, high = anytime_interval(repeated.failures, repeated.draws, 0.95)
    assert np.all(high - low <= 0.2)
    unlimited = score([0.0, 0.5, 1.0], **{**options, "max_width": None, "repetitions": 5})
    run = repeated.first_failure[:, :5] > 0
    np.testing.assert_array_equal(unlimited.first_failure[run], repeated.first_failure[:, :5][run])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rpr.Flattening(window=0), "window is 0"),
        (lambda: rpr.Flattening(tolerance=-0.1), "tolerance is -0.1"),
        (lambda: score(MIXED, scorer=rpr.score_repeatedly, repetitions=0), "repetitions is 0"),
        (
            lambda: score(MIXED, scorer=rpr.score_repeatedly, repetitions=1, max_width=2.0),
            "max_width is 2.0",
        ),
    ],
)
def test_wrong_options(make, message):
    with pytest.raises(ValueError, match=message):
        make()
