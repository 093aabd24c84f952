from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax.losses import focal, sigmoid_focal
from rbjax.losses.adversarial import cross_entropy

LOGITS = jnp.array([[0.5, 0.2, -0.1]])
LABEL = jnp.array([0])


@pytest.mark.parametrize(
    ("gamma", "softmax", "sigmoid"),
    [(0.0, 0.8283902, 1.9166125), (1.0, 0.4665893, 0.9239291), (2.0, 0.2628056, 0.4542695)],
)
def test_known_logits(gamma: float, softmax: float, sigmoid: float):
    np.testing.assert_allclose(focal(gamma=gamma)(LOGITS, LABEL), [softmax], rtol=1e-6)
    np.testing.assert_allclose(sigmoid_focal(gamma=gamma)(LOGITS, LABEL), [sigmoid], rtol=1e-6)


def test_gamma_0_is_cross_entropy_bit_for_bit():
    np.testing.assert_array_equal(focal(gamma=0.0)(LOGITS, LABEL), cross_entropy(LOGITS, LABEL))


@pytest.mark.parametrize("gamma", [0.3, 1.0, 2.0])
def test_gradients_are_finite_where_the_model_is_sure(gamma: float):
    logits = jnp.array([[200.0, 0.0, -200.0], [-200.0, 0.0, 200.0]])
    for maker in (focal, sigmoid_focal):
        loss = maker(gamma=gamma)
        value, gradient = jax.value_and_grad(lambda z, loss=loss: loss(z, jnp.array([0, 0])).sum())(
            logits
        )
        assert np.isfinite(gradient).all()
        assert value == pytest.approx(400, rel=0.6)


def test_gamma_has_a_range():
    with pytest.raises(ValueError, match="gamma"):
        focal(gamma=-1.0)
