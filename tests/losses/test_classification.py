from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import losses
from rbjax.losses import adversarial, classification

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


def of_targets(logits, labels):
    return adversarial.targeted_dlr(logits, jnp.zeros(len(labels), jnp.int32), labels)


OF_LABELS = {
    "smoothed": losses.create("cross_entropy", label_smoothing=0.1),
    **{name: losses.create(name, class_counts=[40, 20, 10]) for name in losses.LOSSES},
    **{name: loss for name, loss in adversarial.LOSSES.items() if name != "kl"},
    "targeted_dlr": of_targets,
}


@pytest.mark.parametrize("name", OF_LABELS)
def test_labels_that_are_no_classes(name: str):
    loss_fn, logits = OF_LABELS[name], jnp.concatenate([LOGITS, 2 * LOGITS])
    for wrong, message in (
        (np.array([1, 3]), "holds 3; allowed: 0 to 2"),
        (np.array([-1, 1], np.int8), "holds -1; allowed: 0 to 2"),
        (np.array([1.0, 2.0]), "has dtype float64"),
        (np.array([True, False]), "has dtype bool"),
        (np.eye(3)[:2], "argmax"),
    ):
        with pytest.raises(ValueError, match=message):
            loss_fn(logits, wrong)

    @jax.jit
    def both(labels):
        gradient = jax.grad(lambda z: loss_fn(z, labels).sum())
        return loss_fn(logits, labels), gradient(logits)

    right = both(np.array([1, 2]))
    assert np.isfinite(np.concatenate([np.ravel(x) for x in right])).all()
    np.testing.assert_array_equal(right[0], loss_fn(logits, np.array([1, 2], np.uint8)))
    for wrong in (np.array([-1, 2]), np.array([3, 2]), np.array([255, 2], np.uint8)):
        for values, expected in zip(both(wrong), right, strict=True):
            assert np.isnan(values[0]).all()
            np.testing.assert_array_equal(values[1], expected[1])


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
