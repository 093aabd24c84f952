from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from rbjax import metrics


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
    jitted = jax.jit(metrics.confusion_matrix, static_argnums=2)
    np.testing.assert_array_equal(jitted(labels, predictions, 2, mask), expected)


def test_batches_add_up():
    rng = np.random.default_rng(1)
    labels, predictions = rng.integers(0, 4, 64), rng.integers(0, 4, 64)
    halves = sum(
        np.asarray(metrics.confusion_matrix(labels[part], predictions[part], 4))
        for part in (slice(0, 20), slice(20, 64))
    )
    np.testing.assert_array_equal(halves, metrics.confusion_matrix(labels, predictions, 4))


@pytest.mark.parametrize("value", [-1, 3])
def test_class_out_of_range_is_refused(value: int):
    good, wrong = jnp.array([0, 1]), jnp.array([0, value])
    with pytest.raises(ValueError, match=f"labels holds {value}; allowed: 0 to 2"):
        metrics.confusion_matrix(wrong, good, 3)
    with pytest.raises(ValueError, match=f"predictions holds {value}"):
        metrics.confusion_matrix(good, wrong, 3)


def test_class_out_of_range_is_not_counted_inside_jit():
    jitted = jax.jit(metrics.confusion_matrix, static_argnums=2)
    matrix = jitted(jnp.array([0, -1, 3, 1]), jnp.array([0, 1, 1, 5]), 3)
    np.testing.assert_array_equal(matrix, [[1, 0, 0], [0, 0, 0], [0, 0, 0]])
