from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from rbjax.losses import imbalance

LONG_TAIL = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
WEIGHTS = [0.0506, 0.0769, 0.1211, 0.195, 0.3188, 0.5246, 0.8683, 1.4426, 2.4092, 3.9927]
LOGITS = jnp.array([[0.5, 0.2, -0.1]])
COUNTS = [100, 25, 4]


def test_weights_of_long_tailed_cifar10():
    weights = imbalance.class_balanced_weights(LONG_TAIL, beta=0.9999)
    np.testing.assert_allclose(weights, WEIGHTS, atol=5e-5)
    np.testing.assert_allclose(weights.sum(), 10)


def test_beta_zero_weighs_all_classes_alike():
    np.testing.assert_array_equal(imbalance.class_balanced_weights(COUNTS, beta=0.0), [1, 1, 1])


def test_beta_one_is_the_limit():
    exact = imbalance.class_balanced_weights(COUNTS, beta=1.0)
    np.testing.assert_allclose(exact / exact[0], [1, 4, 25])
    near = imbalance.class_balanced_weights(COUNTS, beta=1 - 1e-10)
    np.testing.assert_allclose(near, exact, rtol=1e-7)


def test_class_balanced_multiplies_by_the_weight_of_the_label():
    loss = imbalance.class_balanced(COUNTS, beta=0.0)(LOGITS, jnp.array([0]))
    np.testing.assert_allclose(loss, [0.8283902], rtol=1e-6)
    labels = jnp.array([0, 2])
    logits = jnp.zeros((2, 3))
    weighted = imbalance.class_balanced(COUNTS, beta=1.0)(logits, labels)
    np.testing.assert_allclose(weighted[1] / weighted[0], 25, rtol=1e-6)


@pytest.mark.parametrize(("label", "expected"), [(0, 0.1882680), (1, 1.8745625), (2, 4.0071439)])
def test_balanced_softmax_of_known_logits(label: int, expected: float):
    loss = imbalance.balanced_softmax(COUNTS)(LOGITS, jnp.array([label]))
    np.testing.assert_allclose(loss, [expected], rtol=1e-6)


def test_equal_counts_leave_cross_entropy():
    loss = imbalance.balanced_softmax([7, 7, 7])(LOGITS, jnp.array([0]))
    np.testing.assert_allclose(loss, [0.8283902], rtol=1e-6)


@pytest.mark.parametrize("maker", [imbalance.class_balanced, imbalance.balanced_softmax])
def test_empty_class_is_refused(maker):
    with pytest.raises(ValueError, match="0 for class 1; this loss needs at least 1"):
        maker([10, 0, 5])


@pytest.mark.parametrize("maker", [imbalance.class_balanced, imbalance.balanced_softmax])
def test_other_number_of_classes_is_refused(maker):
    with pytest.raises(ValueError, match="class_counts has 4 classes, the logits 3"):
        maker([1, 2, 3, 4])(LOGITS, jnp.array([0]))


def test_counts_are_one_per_class():
    with pytest.raises(ValueError, match="class_counts has shape"):
        imbalance.balanced_softmax(np.ones((2, 2)))


@pytest.mark.parametrize("beta", [-0.1, 1.5, float("nan")])
def test_beta_has_a_range(beta: float):
    with pytest.raises(ValueError, match="beta"):
        imbalance.class_balanced(COUNTS, beta=beta)
