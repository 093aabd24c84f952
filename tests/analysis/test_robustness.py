"""What a report says of scores: ratios, both readings of RPR, and which classes differ."""

import numpy as np
import pytest

from rbjax.analysis import robustness


def planted(gap):
    """Returns first failures of 3 classes of 300, class 2 failing more often, and labels."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 300)
    fails = rng.random(900) < np.where(labels == 2, 0.2 + gap, 0.2)
    return np.where(fails, rng.integers(1, 11, 900), 11), labels


def test_summary_of_one_repetition():
    first_failure, labels = planted(0.4)
    counted = np.arange(900) % 2 == 0
    part = robustness.summarize(first_failure, 10, labels, num_classes=4, counted=counted)
    robust = (first_failure > 10)[counted]
    assert part["num_examples"] == 450
    assert part["robust_ratio"] == robust.mean() == part["survival"][-1]
    low, high = part["robust_ratio_interval"]
    assert low < robust.mean() < high
    assert part["mean_steps"] == np.minimum(first_failure, 10)[counted].mean()
    # With one repetition 1 / p is the failing draw itself.
    assert part["mean_capped_expectation"] == pytest.approx(part["mean_steps"])
    assert part["mean_expected_steps"] < part["mean_capped_expectation"]
    low, high = part["survival_band"]
    assert low.shape == high.shape == part["survival"].shape == (11,)
    assert np.all((low <= part["survival"]) & (part["survival"] <= high))
    assert np.isnan(part["class_survival"][3]).all()
    assert part["class_counts"].tolist() == [150, 150, 150, 0]


def test_repetitions_give_both_readings():
    """Draws of p = 1 and p = 0.5: E[min(N, 2)] is 1 and 1.5, min(2, E[N]) is 1 and 2."""
    rng = np.random.default_rng(0)
    first_failure = np.ones((2, 4000), np.int64)
    first_failure[1] = np.minimum(rng.geometric(0.5, 4000), 3)
    part = robustness.summarize(first_failure, 2, np.array([0, 1]), num_classes=2)
    assert part["mean_expected_steps"] == pytest.approx(1.25, abs=0.01)
    assert part["mean_capped_expectation"] == pytest.approx(1.5, abs=0.02)


def test_a_band_is_as_long_as_the_curve_where_all_failed():
    part = robustness.summarize(np.array([1, 2, 2]), 5, np.zeros(3, int), num_classes=1)
    assert part["survival"].tolist() == pytest.approx([1, 2 / 3, 0, 0, 0, 0])
    assert [edge.shape for edge in part["survival_band"]] == [(6,), (6,)]
    assert part["class_bias"] is None
    assert "only one class" in robustness.describe(part, ["a"])


def test_classes_that_differ_are_named():
    part = robustness.summarize(*_with_steps(planted(0.4)), num_classes=3)
    line = robustness.describe(part, ["cat", "dog", "owl"])
    assert "less robust owl (-" in line
    assert "more robust cat (+" in line
    part = robustness.summarize(*_with_steps(planted(0.0)), num_classes=3)
    assert robustness.describe(part, ["cat", "dog", "owl"]).startswith("no class differs")


def _with_steps(scored):
    first_failure, labels = scored
    return first_failure, 10, labels


def test_nothing_counted():
    part = robustness.summarize(
        np.array([1, 2]), 3, np.array([0, 1]), num_classes=2, counted=np.zeros(2, bool)
    )
    assert part["num_examples"] == 0
    assert part["mean_steps"] is None


def test_bias_is_of_what_counts():
    """Class 2 fails more often only where it does not count."""
    first_failure, labels = planted(0.4)
    counted = (labels != 2) | (np.cumsum(labels == 2) % 2 == 0)
    first_failure[(labels == 2) & counted] = first_failure[labels == 0][:150]
    part = robustness.summarize(first_failure, 10, labels, num_classes=3, counted=counted)
    assert robustness.describe(part, ["cat", "dog", "owl"]).startswith("no class differs")
    whole = robustness.summarize(first_failure, 10, labels, num_classes=3)
    assert "owl" in robustness.describe(whole, ["cat", "dog", "owl"])
