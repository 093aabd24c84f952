from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from rbjax import attacks
from tests.attacks.linear import (
    IMAGES,
    LABELS,
    LOGITS_FN,
    NUM_CLASSES,
    NUM_IMAGES,
    WEIGHTS,
    cubic,
    distances_in_box,
    everywhere,
    iterates,
    lead_and_gradient,
    linear,
    sizes,
)

KEY = jax.random.key(0)


@pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
@pytest.mark.parametrize("num_classes", [2, NUM_CLASSES])
def test_the_smallest_perturbation_of_a_linear_model_in_the_box(loss, num_classes):
    kinds = everywhere(IMAGES)
    images = jnp.concatenate(list(kinds.values()))
    weights = WEIGHTS[:, :num_classes]
    labels = jnp.argmax(linear(weights, images), axis=-1)
    result = attacks.ddn(loss=loss)(Partial(linear, weights), KEY, images, labels)
    ratio = sizes(result.images - images, "l2") / distances_in_box(weights, images, labels, "l2")
    assert np.all(result.fooled)
    assert np.all(ratio >= 1 - 1e-5)
    if loss == "cross_entropy" and num_classes > 2:  # which goes for all classes at once
        assert np.median(ratio) < 1.25
        return
    if loss == "margin":
        assert np.max(ratio) < 1.09
    for kind, ratios in zip(kinds, np.split(ratio, len(kinds)), strict=True):
        assert np.median(ratios) < 1.005, kind


def test_only_what_lies_in_the_ball_counts():
    exact = distances_in_box(WEIGHTS, IMAGES, LABELS, "l2")
    own = exact * np.where(np.arange(NUM_IMAGES) % 2 == 0, 1.06, 0.99)
    result = attacks.ddn()(LOGITS_FN, KEY, IMAGES, LABELS, epsilon=jnp.asarray(own))
    np.testing.assert_array_equal(result.fooled, np.arange(NUM_IMAGES) % 2 == 0)
    np.testing.assert_array_equal(result.images[1::2], IMAGES[1::2])


def test_golden_steps():
    """Those of the docstring's formulas in float64, of a grey image; the first is too far."""
    num_steps, alpha, gamma = 16, 0.6, 0.2
    attack = attacks.ddn(num_steps=num_steps, step_length=alpha, gamma=gamma, initial_size=100.0)
    found = iterates(attack, cubic, jnp.full((1, 8, 1, 1), 0.5))
    delta, radius, expected = np.zeros(8), 100.0, []
    for step in range(num_steps):
        expected.append(0.5 + delta)
        lead, gradient = lead_and_gradient(delta)
        radius = min(radius * (1 - gamma if lead > 0 else 1 + gamma), math.sqrt(8) / 2)
        length = 0.01 * alpha + 0.99 * alpha * (1 + math.cos(math.pi * step / num_steps)) / 2
        delta = delta + length * radius * gradient / np.linalg.norm(gradient)
        delta = np.clip(radius * delta / np.linalg.norm(delta), -0.5, 0.5)
    np.testing.assert_allclose(found[:num_steps], expected, atol=2e-5)


def test_restarts_and_targets():
    targets = (LABELS + 1) % NUM_CLASSES

    def size(**options):
        result = attacks.ddn(num_steps=40, **options)(
            LOGITS_FN, KEY, IMAGES, LABELS, targets=targets
        )
        np.testing.assert_array_equal(result.predictions, targets)
        return sizes(result.images - IMAGES, "l2")

    assert np.all(size(num_restarts=3) <= size() + 1e-6)


def test_a_step_is_one_pass():
    passes = []

    def counted(images):
        jax.debug.callback(lambda _: passes.append(1), images[0, 0, 0, 0])
        return linear(WEIGHTS, images)

    attacks.ddn(num_steps=7, num_restarts=2)(counted, KEY, IMAGES, LABELS)
    jax.effects_barrier()
    assert len(passes) == 2 * 7 + 1  # and the verdict


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": -1}, "epsilon is -1.0; it must be at least 0"),
        ({"gamma": 0.0}, "gamma is 0.0; it must be above 0 and below 1"),
        ({"initial_size": 0.0}, "initial_size is 0.0"),
        ({"loss": "kl"}, "loss 'kl' is unknown; allowed: cross_entropy, margin, dlr, "),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        attacks.ddn(**options)
