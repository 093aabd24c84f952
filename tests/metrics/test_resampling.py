"""Draws of images class by class: means, their error, and differences that are paired."""

import numpy as np
import pytest

from rbjax.metrics import resample_classes

LABELS = np.array([2, 0, 0, 2, 0, 0, 2, 2, 0])


def test_each_class_is_drawn_by_itself():
    found = list(resample_classes(LABELS, num_draws=50))
    assert [label for label, _, _ in found] == [0, 2]  # class 1 has no image
    for label, rows, weights in found:
        np.testing.assert_array_equal(rows, np.flatnonzero(label == LABELS))
        assert weights.shape == (50, len(rows))
        np.testing.assert_allclose(weights.sum(axis=1), 1)
        np.testing.assert_allclose(weights * len(rows), np.round(weights * len(rows)), atol=1e-12)


def test_the_spread_of_draws_is_the_error_of_a_mean():
    """Of n numbers of variance s^2 the mean of a draw has the variance s^2 / n."""
    numbers = np.random.default_rng(0).normal(size=400)
    ((_, rows, weights),) = resample_classes(np.zeros(400, int), num_draws=4000)
    means = weights @ numbers[rows]
    assert means.mean() == pytest.approx(numbers.mean(), abs=4 * 0.05 / np.sqrt(4000))
    assert means.std() == pytest.approx(numbers.std() / 20, rel=0.05)  # 1 / sqrt(2 * 4000) is 1.1 %


def test_the_same_labels_and_seed_give_the_same_draws():
    one, same, other = (
        [weights for _, _, weights in resample_classes(LABELS, num_draws=20, seed=seed)]
        for seed in (0, 0, 1)
    )
    for first, second in zip(one, same, strict=True):
        np.testing.assert_array_equal(first, second)
    assert any(np.any(first != second) for first, second in zip(one, other, strict=True))


def test_wrong_values():
    with pytest.raises(ValueError, match="num_draws is 0; it must be a whole number of at least 1"):
        resample_classes(LABELS, num_draws=0)
    with pytest.raises(ValueError, match="labels"):
        list(resample_classes(LABELS / 2))
