from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from rbjax.losses import adversarial

LOGITS = jnp.array([[3.0, 1.0, 2.0], [0.0, 4.0, -1.0], [-5.0, -7.0, -6.0]])


def test_margin_is_strongest_wrong_class_less_true_class():
    margin = adversarial.margin(LOGITS, jnp.array([0, 2, 2]))
    np.testing.assert_allclose(margin, [-1.0, 5.0, 1.0])


def test_margin_is_positive_exactly_where_misclassified():
    logits = jax.random.normal(jax.random.key(0), (200, 5))
    labels = jax.random.randint(jax.random.key(1), (200,), 0, 5)
    wrong = jnp.argmax(logits, axis=1) != labels
    assert 0 < int(wrong.sum()) < 200
    np.testing.assert_array_equal(adversarial.margin(logits, labels) > 0, wrong)


def test_margin_gradient_touches_two_classes():
    gradient = jax.grad(lambda z: adversarial.margin(z, jnp.array([0, 2, 2])).sum())(LOGITS)
    np.testing.assert_array_equal(gradient, [[-1, 0, 1], [0, 1, -1], [1, 0, -1]])


def test_cross_entropy_gradient_vanishes_where_margin_does_not():
    logits, labels = jnp.array([[200.0, 0.0]]), jnp.array([0])
    flat = jax.grad(lambda z: adversarial.cross_entropy(z, labels).sum())(logits)
    steep = jax.grad(lambda z: adversarial.margin(z, labels).sum())(logits)
    np.testing.assert_array_equal(flat, [[0, 0]])
    np.testing.assert_array_equal(steep, [[-1, 1]])


def test_two_classes():
    loss = adversarial.cross_entropy(jnp.array([[0.0, 0.0]]), jnp.array([1]))
    np.testing.assert_allclose(loss, [np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(adversarial.margin(jnp.array([[1.0, 4.0]]), jnp.array([0])), [3.0])
