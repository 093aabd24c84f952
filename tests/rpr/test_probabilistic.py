"""PRBench's measures: on the draws of scoring, against counts by hand, and their intervals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from rbjax import rpr
from tests.rpr.known import KEY, LOGITS_FN, MIXED, make_images, redraw, score

COUNTS = np.array([0, 1, 0, 5, 10, 0])
LABELS = np.array([0, 0, 0, 1, 1, 1])


def count(probabilities, labels=None, logits_fn: Callable[..., Any] = LOGITS_FN, **options: Any):
    images = make_images(probabilities)
    labels = np.zeros(len(images), np.int32) if labels is None else labels
    return rpr.count_failures(
        logits_fn, KEY, images, labels, perturbation=redraw, block_size=64, **options
    )


def test_accuracy_at_a_hundredth_of_100_draws_is_the_robust_ratio():
    """P4's RPR with MAX_STEPS 100 of the correctly classified, image by image."""
    labels = np.arange(len(MIXED)) % 2  # half are of a class that is wrong unless a draw fails
    drawn, scored = count(MIXED, labels, num_draws=100), score(MIXED, 100, labels)
    np.testing.assert_array_equal(drawn.failures == 0, scored.robust)
    np.testing.assert_array_equal(drawn.clean_correct, scored.clean_correct)
    assert 0 < scored.robust[scored.clean_correct].sum() < scored.clean_correct.sum()
    measure = rpr.probabilistic_accuracy(
        drawn.failures, 100, labels, num_classes=3, tolerance=0.01, counted=drawn.clean_correct
    )
    ratio = rpr.robust_ratio(
        scored.first_failure, 100, labels, num_classes=3, counted=scored.clean_correct
    )
    assert measure.overall.value == ratio.overall
    np.testing.assert_array_equal(measure.classes.value, ratio.classes)
    np.testing.assert_array_equal(measure.counts, ratio.counts)
    first = score(MIXED, 1, labels)
    np.testing.assert_array_equal(count(MIXED, labels, num_draws=1).failures == 0, first.robust)


def test_ties_fail_as_prbench_counts_them():
    """Where a draw is not below p the first two logits are equal, and class 0 is the first."""

    def tied(images):
        fails = images[:, 0, 0, 1] < images[:, 0, 0, 0]
        return jnp.stack([~fails, jnp.ones_like(fails), fails], axis=1).astype(jnp.float32)

    probabilities = np.full(8, 0.3)
    strict = count(probabilities, logits_fn=tied, num_draws=20)
    np.testing.assert_array_equal(strict.failures, 20)
    assert not strict.clean_correct.any()
    lenient = count(probabilities, logits_fn=tied, num_draws=20, ties="first")
    np.testing.assert_array_equal(lenient.failures, count(probabilities, num_draws=20).failures)
    assert lenient.clean_correct.all()
    assert 0 < lenient.failures.min() <= lenient.failures.max() < 20


def test_measures_are_shares_of_draws_and_of_images():
    robustness = rpr.probabilistic_robustness(COUNTS, 10, LABELS, num_classes=3)
    assert robustness.overall.value == pytest.approx(1 - 16 / 60)
    np.testing.assert_allclose(robustness.classes.value, [29 / 30, 0.5, np.nan])
    np.testing.assert_array_equal(robustness.counts, [3, 3, 0])
    # Fewer than q T fail: strictly, and 10 times the float 0.1 or 0.7 is not what is typed.
    for tolerance, share in ((0.05, 3), (0.1, 3), (0.11, 4), (0.5, 4), (0.51, 5), (1.0, 5)):
        accuracy = rpr.probabilistic_accuracy(
            COUNTS, 10, LABELS, num_classes=2, tolerance=tolerance
        )
        assert accuracy.overall.value == share / 6
    seven = rpr.probabilistic_accuracy(
        np.array([7]), 100, np.array([0]), num_classes=1, tolerance=0.07
    )
    assert seven.overall.value == 0
    counted = rpr.probabilistic_robustness(COUNTS, 10, LABELS, num_classes=2, counted=COUNTS == 0)
    assert counted.overall.value == 1
    assert counted.overall.low == pytest.approx(3 / (3 + 1.96**2), abs=1e-3)  # as of 3 images
    np.testing.assert_array_equal(counted.counts, [2, 1])


@pytest.mark.parametrize("law", [(0.02, 0.1), (2.0, 30.0)])
def test_the_interval_holds_the_mean_of_the_law(law):
    """400 samples of 300 images whose failure probabilities are of a beta law."""
    generator = np.random.default_rng(0)
    true, held, width = 1 - law[0] / sum(law), 0, 0.0
    for _ in range(400):
        failures = generator.binomial(100, generator.beta(law[0], law[1], 300))
        found = rpr.probabilistic_robustness(failures, 100, np.zeros(300, int), num_classes=1)
        held += found.overall.low <= true <= found.overall.high
        width += (found.overall.high - found.overall.low) / 400
    assert stats.binomtest(held, 400, 0.95).pvalue > 1e-3
    # Of a beta-binomial law: p (1 - p) (1 + (T - 1) / (a + b + 1)) / T.
    clustered = (1 + 99 / (sum(law) + 1)) / 100
    spread = np.sqrt(true * (1 - true) * clustered / 300)
    assert width == pytest.approx(2 * 1.96 * spread, rel=0.1)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="tolerance is 0"):
        rpr.probabilistic_accuracy(COUNTS, 10, LABELS, num_classes=2, tolerance=0)
    with pytest.raises(ValueError, match="failures is 10 of 5 draws"):
        rpr.probabilistic_robustness(COUNTS, 5, LABELS, num_classes=2)
    with pytest.raises(ValueError, match="counted is int64"):
        rpr.probabilistic_robustness(COUNTS, 10, LABELS, num_classes=2, counted=COUNTS)
    with pytest.raises(ValueError, match="did you mean 'first'"):
        count([0.5], ties="frist")  # pyright: ignore[reportArgumentType]
