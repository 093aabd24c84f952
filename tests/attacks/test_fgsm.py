from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from rbjax import attacks


def two_class(weights, images):
    """The sign of w.x: logits (w.x, -w.x)."""
    score = images.reshape(images.shape[0], -1) @ weights
    return jnp.stack([score, -score], axis=-1)


def test_golden_step():
    """With w = (1, -2, 0.5), x = (0.5, 0.5, 0.5), epsilon = 0.1: w.x goes from -0.25 to -0.60."""
    weights = jnp.array([1.0, -2.0, 0.5])
    image = jnp.full((1, 1, 3, 1), 0.5)
    label = jnp.array([0])
    result = attacks.fgsm(epsilon=0.1)(Partial(two_class, weights), jax.random.key(0), image, label)
    np.testing.assert_allclose(result.images.ravel(), [0.4, 0.6, 0.4], rtol=1e-6)
    assert float(result.images.ravel() @ weights) == pytest.approx(-0.60)
    # The logits are (-0.6, 0.6): cross-entropy log(1 + e^1.2).
    assert float(result.loss[0]) == pytest.approx(math.log1p(math.exp(1.2)), rel=1e-5)
    assert bool(result.fooled[0])
    descent = attacks.fgsm(epsilon=0.1, direction="descent")
    result = descent(Partial(two_class, weights), jax.random.key(0), image, label)
    assert float(result.images.ravel() @ weights) == pytest.approx(0.10)
    assert float(result.loss[0]) == pytest.approx(-math.log1p(math.exp(-0.2)), rel=1e-5)


def test_golden_l2_step():
    weights = jnp.array([3.0, 4.0])
    image = jnp.full((1, 1, 2, 1), 0.5)
    attack = attacks.fgsm(epsilon=0.25, norm="l2")
    result = attack(Partial(two_class, weights), jax.random.key(0), image, jnp.array([0]))
    np.testing.assert_allclose(result.images.ravel(), [0.5 - 0.15, 0.5 - 0.2], rtol=1e-6)


@pytest.mark.parametrize(("epsilon", "accuracy"), [(0.0, 0.94308), (0.1, 0.89705), (0.25, 0.78540)])
def test_robust_accuracy_of_the_gaussian_model(epsilon, accuracy):
    """For x | y ~ N(y theta, I), theta = 0.5 in 10 dimensions, f = sign(theta.x), 20,000 points.

    Robust accuracy is Phi((||theta||^2 - epsilon ||theta||_1) / ||theta||). The points are scaled
    by 1/40 around 0.5 to lie in [0, 1]; five standard deviations of the estimate are 0.0145.
    """
    labels = jnp.arange(20_000) % 2
    sign = jnp.where(labels == 0, 1.0, -1.0)[:, None]
    points = sign * 0.5 + jax.random.normal(jax.random.key(0), (20_000, 10))
    images = (0.5 + points / 40).reshape(-1, 1, 10, 1)
    logits_fn = Partial(lambda theta, images: two_class(theta, images - 0.5), jnp.full(10, 0.5))
    result = attacks.fgsm(epsilon=epsilon / 40)(logits_fn, jax.random.key(0), images, labels)
    bound = 5 * math.sqrt(accuracy * (1 - accuracy) / 20_000)
    assert 1 - float(jnp.mean(result.fooled)) == pytest.approx(accuracy, abs=bound)
