from __future__ import annotations

import numpy as np
import pytest

from rbjax import rpr

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
