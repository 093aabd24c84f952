from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from rbjax import metrics

LABELS = np.array([0, 0, 0, 0, 1, 1, 2, 2, 2, 2])
PREDICTIONS = np.array([0, 0, 1, 0, 1, 0, 0, 0, 1, 0])


def matrix_of(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    return np.asarray(metrics.confusion_matrix(labels, predictions, num_classes))


def test_known_values():
    result = metrics.from_confusion(matrix_of(LABELS, PREDICTIONS, 3))
    np.testing.assert_array_equal(result.count, [4, 2, 4])
    np.testing.assert_array_equal(result.predicted, [7, 3, 0])
    np.testing.assert_array_equal(result.correct, [3, 1, 0])
    np.testing.assert_allclose(result.recall, [0.75, 0.5, 0])
    np.testing.assert_allclose(result.precision, [0.428571, 0.333333, 0], atol=1e-6)
    np.testing.assert_allclose(result.f1, [0.545455, 0.4, 0], atol=1e-6)


def test_known_summary():
    summary = metrics.summarize(matrix_of(LABELS, PREDICTIONS, 3))
    expected = {
        "accuracy": 0.4,
        "balanced_accuracy": 0.416667,
        "macro_f1": 0.315152,
        "weighted_f1": 0.298182,
        "worst_class_accuracy": 0.0,
        "class_spread": 0.75,
        "class_std": np.std([0.75, 0.5, 0]),
        "num_examples": 10,
    }
    assert summary.keys() == expected.keys()
    for name, value in expected.items():
        assert summary[name] == pytest.approx(value, abs=1e-6), name


def test_macro_f1_is_the_mean_of_f1s_not_the_f1_of_means():
    summary = metrics.summarize(matrix_of(LABELS, PREDICTIONS, 3))
    assert summary["macro_f1"] != pytest.approx(0.315584, abs=1e-4)


def test_absent_class_counts_in_macro_f1_but_not_in_balanced_accuracy():
    summary = metrics.summarize(matrix_of(np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1]), 4))
    assert summary["balanced_accuracy"] == pytest.approx(0.75)
    assert summary["macro_f1"] == pytest.approx(0.4166667)
    assert summary["worst_class_accuracy"] == pytest.approx(0.5)
    assert summary["class_spread"] == pytest.approx(0.5)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("present", [3, 6])
def test_equals_scikit_learn(seed: int, present: int):
    rng = np.random.default_rng(seed)
    labels, predictions = rng.integers(0, present, 80), rng.integers(0, 6, 80)
    matrix = matrix_of(labels, predictions, 6)
    result, summary = metrics.from_confusion(matrix), metrics.summarize(matrix)
    options = {"labels": range(6), "zero_division": 0}
    precision, recall, f1, support = sklearn.metrics.precision_recall_fscore_support(
        labels, predictions, **options
    )
    np.testing.assert_array_equal(result.count, support)
    for ours, theirs in ((result.precision, precision), (result.recall, recall), (result.f1, f1)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    score = sklearn.metrics.f1_score
    assert summary["macro_f1"] == pytest.approx(
        score(labels, predictions, average="macro", **options)
    )
    assert summary["weighted_f1"] == pytest.approx(
        score(labels, predictions, average="weighted", **options)
    )
    assert summary["accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(labels, predictions))
    with warnings.catch_warnings(action="ignore"):  # of predicted classes that are never true
        balanced = sklearn.metrics.balanced_accuracy_score(labels, predictions)
    assert summary["balanced_accuracy"] == pytest.approx(balanced)


def test_jit_gives_the_same_in_float32():
    jitted = jax.jit(metrics.classwise, static_argnames="num_classes")
    result = jitted(jnp.asarray(LABELS), jnp.asarray(PREDICTIONS), num_classes=4)
    exact = metrics.from_confusion(matrix_of(LABELS, PREDICTIONS, 4))
    assert result.recall.dtype == jnp.float32
    for ours, theirs in zip(result, exact, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_mask_leaves_examples_out():
    mask = np.array([True] * 6 + [False] * 4)
    result = metrics.classwise(LABELS, PREDICTIONS, num_classes=3, mask=mask)
    np.testing.assert_array_equal(result.count, [4, 2, 0])
    np.testing.assert_array_equal(result.recall, [0.75, 0.5, 0.0])


def test_no_example_is_refused():
    with pytest.raises(ValueError, match="no example"):
        metrics.summarize(np.zeros((3, 3), int))


def test_narrow_counts_and_numbers_of_classes_do_not_overflow():
    for array in (np.asarray, jnp.asarray):
        narrow = metrics.from_confusion(array(np.diag([200, 3]).astype(np.uint8)))
        np.testing.assert_array_equal(narrow.f1, [1, 1])
    labels = np.arange(255, dtype=np.uint8)
    matrix = metrics.confusion_matrix(labels, labels, np.uint8(255))  # pyright: ignore[reportArgumentType]
    np.testing.assert_array_equal(matrix, np.eye(255))


@pytest.mark.parametrize("wrong", [3.0, True, None, "3", 0])
def test_a_number_of_classes_that_is_none(wrong):
    with pytest.raises(ValueError, match=r"num_classes is .*; it must be a whole number"):
        metrics.classwise(np.array([0]), np.array([0]), num_classes=wrong)


def test_what_is_no_matrix_of_counts():
    for wrong in (np.ones((2, 2, 2), int), np.ones((2, 5), int), np.full((2, 2), 0.5)):
        with pytest.raises(ValueError, match=r"matrix is .* of shape .*; it must hold counts"):
            metrics.from_confusion(wrong)
