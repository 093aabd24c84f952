from __future__ import annotations

import numpy as np
import pytest

from rbjax.rpr.class_bias import class_bias, holm

MAX_STEPS = 250


def test_golden_differences():
    """max_steps 3: class 0 fails at 1 and 3, class 1 at 1, never and never."""
    first_failure, labels = np.array([1, 3, 1, 4, 4]), np.array([0, 0, 1, 1, 1])
    found = class_bias(first_failure, 3, labels, num_classes=3, num_resamples=99)
    gap = np.array([0, 1 / 2 - 2 / 3, 1 / 2 - 2 / 3, 0 - 2 / 3])
    assert found.robust_ratio.difference[0] == pytest.approx(gap[3])
    assert found.mean_steps.difference[0] == pytest.approx(gap[:3].sum())
    assert found.mean_steps.difference[0] == pytest.approx((1 + 3) / 2 - (1 + 3 + 3) / 3)
    assert found.largest_gap.difference[0] == pytest.approx(gap[3])
    logs = np.log10([1.5 / 2, 1.5 / 4, 1.5 / 2, 0.5 / 4, 0.5 / 4])
    assert found.log_failure.difference[0] == pytest.approx(logs[:2].mean() - logs[2:].mean())
    assert found.counts.tolist() == [2, 3, 0]
    for bias in found[:4]:
        assert bias.difference[1] == pytest.approx(-bias.difference[0])
        assert bias.p_value[0] == bias.p_value[1]
        assert np.isnan([bias.difference[2], bias.p_value[2], bias.p_holm[2]]).all()


def test_exact_p_value_of_a_small_sample():
    """720 permutations are enumerated; of the 15 pairs one has all the failures."""
    first_failure, labels = np.array([1, 2, 9, 9, 9, 9]), np.array([0, 0, 1, 1, 1, 1])
    found = class_bias(first_failure, 8, labels, num_classes=2, num_resamples=10_000)
    assert found.robust_ratio.p_value[0] == pytest.approx(1 / 15)
    assert found.robust_ratio.p_holm[0] == pytest.approx(2 / 15)


def test_planted_difference_is_found_and_only_there():
    """3,000 datapoints of 5 classes with p ~ Beta(0.5, 20); class 2 fails 2.5 times as often."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 3000)
    p = rng.beta(0.5, 20, 3000) * np.where(labels == 2, 2.5, 1)
    first_failure = np.minimum(rng.geometric(np.minimum(p, 1)), MAX_STEPS + 1)
    found = class_bias(first_failure, MAX_STEPS, labels, num_classes=5, num_resamples=999)
    signs = {"robust_ratio": -1, "mean_steps": -1, "largest_gap": -1, "log_failure": 1}
    for name, sign in signs.items():
        bias = getattr(found, name)
        assert bias.p_holm[2] <= 0.005
        assert np.sign(bias.difference[2]) == sign
        # The others differ too, from a rest that class 2 is part of, but less.
        assert np.argmax(np.abs(bias.difference)) == 2
    assert found.num_resamples == 999


def test_without_a_difference_p_values_are_uniform():
    """300 datasets of 120 datapoints in 3 classes: 5 % of tests reject at 5 %, 50 % at 50 %.

    Three standard errors are 0.04 and 0.09. Largest gaps and ratios tie often, so they reject less.
    """
    rng = np.random.default_rng(0)
    p_values = []
    for trial in range(300):
        first_failure = np.minimum(rng.geometric(0.02, 120), 61)
        labels = rng.permutation(np.repeat([0, 1, 2], 40))
        found = class_bias(first_failure, 60, labels, num_classes=3, num_resamples=99, seed=trial)
        p_values.append([bias.p_value[0] for bias in found[:4]])
    for level, tolerance in ((0.05, 0.04), (0.5, 0.09)):
        rejected = np.mean(np.array(p_values) <= level, axis=0)
        assert np.all(rejected <= level + tolerance)
        assert np.all(rejected[[1, 3]] >= level - tolerance)


def test_only_what_counts_counts():
    rng = np.random.default_rng(0)
    first_failure, labels = rng.integers(1, 12, 300), rng.integers(0, 3, 300)
    counted = rng.random(300) < 0.5
    some = class_bias(first_failure, 10, labels, num_classes=3, counted=counted, num_resamples=50)
    alone = class_bias(first_failure[counted], 10, labels[counted], num_classes=3, num_resamples=50)
    for a, b in zip(some[:4], alone[:4], strict=True):
        np.testing.assert_array_equal(a, b)


def test_repetitions_count_for_failure_probabilities():
    rng = np.random.default_rng(0)
    repeated, labels = rng.integers(1, 12, (60, 3)), rng.integers(0, 2, 60)
    several = class_bias(repeated, 10, labels, num_classes=2, num_resamples=20)
    once = class_bias(repeated[:, 0], 10, labels, num_classes=2, num_resamples=20)
    np.testing.assert_array_equal(several.mean_steps, once.mean_steps)
    assert several.log_failure.difference[0] != once.log_failure.difference[0]


def test_one_class_has_no_rest():
    found = class_bias(np.array([1, 2]), 3, np.array([1, 1]), num_classes=2, num_resamples=9)
    assert np.isnan(found.robust_ratio.p_value).all()


def test_holm():
    """0.005 x 4, 0.01 x 3, 0.03 x 2, then not below the one before."""
    p = holm(np.array([0.01, np.nan, 0.04, 0.03, 0.005]))
    np.testing.assert_allclose(p, [0.03, np.nan, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm(np.array([0.9, 0.8])), [1, 1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_resamples": 0}, "num_resamples is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"labels": np.array([0, 5])}, "labels holds 5"),
        ({"first_failure": np.array([1, 9])}, "first_failure holds 9"),
    ],
)
def test_wrong_input(changes, message):
    arguments = {"first_failure": np.array([1, 2]), "max_steps": 3, "labels": np.array([0, 1])}
    with pytest.raises(ValueError, match=message):
        class_bias(**{**arguments, "num_classes": 2, **changes})
