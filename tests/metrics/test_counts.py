from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from rbjax import metrics

JITTED = jax.jit(metrics.confusion_matrix, static_argnums=2)


def test_rows_are_true_classes():
    matrix = metrics.confusion_matrix(jnp.array([0, 0, 2]), jnp.array([0, 1, 1]), 3)
    np.testing.assert_array_equal(matrix, [[1, 1, 0], [0, 0, 0], [0, 1, 0]])
    assert matrix.dtype == jnp.int32


def test_equals_scikit_learn():
    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(0, 7, 500), rng.integers(0, 7, 500)
    expected = sklearn.metrics.confusion_matrix(labels, predictions, labels=range(9))
    np.testing.assert_array_equal(metrics.confusion_matrix(labels, predictions, 9), expected)


def test_masked_examples_do_not_count_whatever_they_hold():
    labels, predictions = jnp.array([0, 1, -1, 9]), jnp.array([0, 0, 1, 1])
    mask = jnp.array([True, True, False, False])
    expected = metrics.confusion_matrix(labels[:2], predictions[:2], 2)
    np.testing.assert_array_equal(metrics.confusion_matrix(labels, predictions, 2, mask), expected)
    np.testing.assert_array_equal(JITTED(labels, predictions, 2, mask), expected)
    with pytest.raises(ValueError, match=r"mask is int\w+ of shape \(4,\); it must be bool"):
        metrics.confusion_matrix(labels, predictions, 2, mask.astype(int))


def test_batches_add_up():
    rng = np.random.default_rng(1)
    labels, predictions = rng.integers(0, 4, 64), rng.integers(0, 4, 64)
    halves = sum(
        np.asarray(metrics.confusion_matrix(labels[part], predictions[part], 4))
        for part in (slice(0, 20), slice(20, 64))
    )
    np.testing.assert_array_equal(halves, metrics.confusion_matrix(labels, predictions, 4))


@pytest.mark.parametrize("value", [-2, 3, 128])
@pytest.mark.parametrize("dtype", ["int16", "int64"])
def test_class_out_of_range_is_refused(value: int, dtype: str):
    good, wrong = jnp.array([0, 1]), np.array([0, value], dtype)
    with pytest.raises(ValueError, match=f"labels holds {value}; allowed: 0 to 2"):
        metrics.confusion_matrix(wrong, good, 3)
    with pytest.raises(ValueError, match=f"predictions holds {value}; allowed: -1 to 2"):
        metrics.confusion_matrix(good, wrong, 3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.eye(3)[[0, 1]], r"has shape \(2, 3\); it must be \(2,\).*: \w+\.argmax\(axis=-1\)"),
        (np.array([[0], [1]]), r"has shape \(2, 1\).*: \w+\[:, 0\]"),
        (np.array([0.0, 1.0]), "has dtype float64"),
        (np.array([False, True]), "has dtype bool"),
        (np.array([-1, 0]), None),
        ([0, 3], "holds 3"),
    ],
)
def test_other_labels_are_refused(wrong, message):
    good = np.array([0, 1])
    for call in (metrics.confusion_matrix, lambda *x: metrics.classwise(*x[:2], num_classes=x[2])):
        with pytest.raises(ValueError, match=message or "labels holds -1; allowed: 0 to 2"):
            call(wrong, good, 3)
        if message is not None:
            with pytest.raises(ValueError, match=message):
                call(good, wrong, 3)
        call(good, good, 3)


@pytest.mark.parametrize(
    ("dtype", "other"),
    [
        ("int8", "int8"),
        ("uint8", "uint8"),
        ("uint8", "int32"),
        ("int16", "int16"),
        ("int64", "uint32"),
    ],
)
def test_labels_of_any_width_are_counted_as_they_are(dtype: str, other: str):
    num_classes = 120 if dtype == "int8" else 200
    rng = np.random.default_rng(2)
    labels = rng.integers(0, num_classes, 600)
    predictions = np.where(rng.random(600) < 0.7, labels, rng.integers(0, num_classes, 600))
    expected = np.zeros((num_classes, num_classes), int)
    np.add.at(expected, (labels, predictions), 1)
    pair = labels.astype(dtype), predictions.astype(other)
    np.testing.assert_array_equal(metrics.confusion_matrix(*pair, num_classes), expected)
    np.testing.assert_array_equal(JITTED(*pair, num_classes), expected)
    recall = np.diagonal(expected) / np.maximum(expected.sum(axis=1), 1)
    found = metrics.classwise(*pair, num_classes=num_classes)
    np.testing.assert_allclose(found.recall, recall, rtol=1e-6)


def test_an_answer_of_no_class_is_wrong():
    labels, predictions = np.array([0, 0, 2, 1]), np.array([0, -1, -1, 1])
    matrix = metrics.confusion_matrix(labels, predictions, 3)
    np.testing.assert_array_equal(matrix, [[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 1]])
    summary = metrics.summarize(matrix)
    assert (summary["accuracy"], summary["num_examples"]) == (0.5, 4)
    for form in (metrics.classwise, jax.jit(metrics.classwise, static_argnames="num_classes")):
        found = form(labels, predictions, num_classes=3)
        np.testing.assert_array_equal(found.recall, [0.5, 1, 0])
        np.testing.assert_array_equal(found.count, [2, 1, 1])
        np.testing.assert_array_equal(found.predicted, [1, 1, 0])
    rate, _ = metrics.error_rates(np.asarray(matrix))
    assert rate == 0.5
    stacked = metrics.stack_confusions([matrix, matrix[:, :3]])
    np.testing.assert_array_equal(stacked[:, :, 3], [[1, 0, 1], [0, 0, 0]])


def test_class_out_of_range_is_not_counted_inside_jit():
    matrix = JITTED(jnp.array([0, -1, 3, 1]), jnp.array([0, 1, 1, 5]), 3)
    np.testing.assert_array_equal(matrix, [[1, 0, 0], [0, 0, 0], [0, 0, 0]])
