from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax.losses import classification

LOGITS = jnp.array([[0.5, 0.2, -0.1]])


def test_cross_entropy_of_known_logits():
    loss = classification.softmax_cross_entropy(LOGITS, jnp.array([0]))
    np.testing.assert_allclose(loss, [0.8283902], rtol=1e-6)


def test_uniform_logits_cost_log_k():
    loss = classification.softmax_cross_entropy(jnp.zeros((2, 4)), jnp.array([0, 3]))
    np.testing.assert_allclose(loss, np.log(4), rtol=1e-6)


def test_extreme_logits_stay_finite():
    logits = jnp.array([[1e4, -1e4], [1e4, -1e4]])
    loss = classification.softmax_cross_entropy(logits, jnp.array([0, 1]))
    np.testing.assert_allclose(loss, [0.0, 2e4])


def test_label_out_of_range_is_not_finite():
    loss = classification.softmax_cross_entropy(LOGITS, jnp.array([3]))
    assert np.isnan(loss).all()


def test_gradient_is_probability_less_one_hot():
    gradient = jax.grad(lambda z: classification.softmax_cross_entropy(z, jnp.array([1])).sum())
    expected = jax.nn.softmax(LOGITS) - jnp.array([[0.0, 1.0, 0.0]])
    np.testing.assert_allclose(gradient(LOGITS), expected, atol=1e-7)


@pytest.mark.parametrize("smoothing", [0.1, 0.5, 1.0])
def test_smoothed_loss_is_cross_entropy_with_smoothed_targets(smoothing: float):
    loss = classification.cross_entropy(label_smoothing=smoothing)(LOGITS, jnp.array([2]))
    targets = np.full(3, smoothing / 3)
    targets[2] += 1 - smoothing
    z = np.asarray(LOGITS[0], np.float64)
    expected = -targets @ (z - np.log(np.exp(z).sum()))
    np.testing.assert_allclose(loss, [expected], rtol=1e-6)


@pytest.mark.parametrize("smoothing", [-0.1, 1.1, float("nan")])
def test_label_smoothing_has_a_range(smoothing: float):
    with pytest.raises(ValueError, match="label_smoothing"):
        classification.cross_entropy(label_smoothing=smoothing)
