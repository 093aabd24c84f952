from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from rbjax import attacks, prng
from rbjax.attacks.carlini_wagner import carlini_wagner
from tests.attacks.linear import (
    IMAGES,
    LABELS,
    LOGITS_FN,
    NUM_CLASSES,
    NUM_IMAGES,
    WEIGHTS,
    between,
    distances,
    linear,
    sizes,
)

KEY = jax.random.key(0)
TARGETS = (LABELS + 1) % NUM_CLASSES
ATTACK = carlini_wagner()


def test_the_smallest_perturbation_of_a_linear_model():
    result = ATTACK(LOGITS_FN, KEY, IMAGES, LABELS)
    assert np.all(result.fooled)
    ratio = sizes(result.images - IMAGES, "l2") / distances("l2")
    assert np.all((ratio > 1) & (ratio < 1.02))


def test_images_next_to_the_boundary():
    """Adam's first step is as long whatever c is, and further than the way; it must not count."""
    images = 0.5 + 0.05 * (IMAGES - 0.5)
    result = ATTACK(LOGITS_FN, KEY, images, LABELS)
    ratio = sizes(result.images - images, "l2") / (0.05 * distances("l2"))
    assert np.all(ratio > 1)
    assert np.median(ratio) < 1.05


def test_only_what_lies_in_the_ball_counts():
    epsilon = between("l2")
    reachable = distances("l2") < epsilon
    attack = carlini_wagner(epsilon=epsilon)
    assert attack.threat == attacks.Threat("l2", epsilon, box=True)
    result = attack(LOGITS_FN, KEY, IMAGES, LABELS)
    np.testing.assert_array_equal(result.fooled, reachable)
    np.testing.assert_array_equal(result.images[~reachable], IMAGES[~reachable])
    own = distances("l2") * np.where(np.arange(NUM_IMAGES) % 2 == 0, 1.02, 0.98)
    result = ATTACK(LOGITS_FN, KEY, IMAGES, LABELS, epsilon=jnp.asarray(own))
    np.testing.assert_array_equal(result.fooled, np.arange(NUM_IMAGES) % 2 == 0)
    result = ATTACK(LOGITS_FN, KEY, IMAGES, LABELS, epsilon=0.0)
    np.testing.assert_array_equal(result.images, IMAGES)


def test_confidence_is_the_margin_that_is_sought():
    """Of two classes, (|m| + confidence) / ||w||_2."""
    weights = WEIGHTS[:, :2]
    labels = jnp.argmax(linear(weights, IMAGES), -1)
    result = carlini_wagner(confidence=0.3)(Partial(linear, weights), KEY, IMAGES, labels)
    assert np.all(result.loss >= 0.3 - 1e-5)
    logits = np.asarray(linear(weights, IMAGES), np.float64)
    expected = (np.abs(logits[:, 0] - logits[:, 1]) + 0.3) / np.linalg.norm(
        weights[:, 0] - weights[:, 1]
    )
    ratio = sizes(result.images - IMAGES, "l2") / expected
    assert np.all((ratio > 1 - 1e-4) & (ratio < 1.02))


def test_targets():
    result = ATTACK(LOGITS_FN, KEY, IMAGES, LABELS, targets=TARGETS)
    np.testing.assert_array_equal(result.predictions, TARGETS)
    # DeepFool's is a point of the same set, and CW's the nearest one.
    other = attacks.deepfool()(LOGITS_FN, KEY, IMAGES, LABELS, targets=TARGETS)
    ratio = sizes(result.images - IMAGES, "l2") / sizes(other.images - IMAGES, "l2")
    assert np.all(ratio < 1.0)
    result = ATTACK(LOGITS_FN, KEY, IMAGES, TARGETS, targets=LABELS)
    np.testing.assert_array_equal(result.images, IMAGES)


def test_what_is_wrong_already_stays_as_it_is():
    result = ATTACK(LOGITS_FN, KEY, IMAGES, TARGETS)
    assert np.all(result.fooled)
    np.testing.assert_array_equal(result.images, IMAGES)


def test_images_at_the_edge_of_the_box():
    """Black, white and a rounding outside: they move inwards, and all stay finite."""
    edges = jnp.round(IMAGES).at[0, 0, 0, 0].set(1 + 1e-6).at[1, 0, 0, 0].set(-1e-6)
    labels = jnp.argmax(LOGITS_FN(edges), -1)
    attack = carlini_wagner(learning_rate=0.1, search_steps=6)
    result = attack(LOGITS_FN, KEY, edges, labels)
    assert np.all(np.isfinite(result.images))
    assert np.all(result.fooled)
    moved = np.any(np.asarray(result.images != edges), axis=(1, 2, 3))
    assert np.all(moved)
    assert np.all((result.images >= 0) & (result.images <= 1))


def test_an_image_does_not_depend_on_its_batch():
    """One that stands still waits for the others, and finds nothing meanwhile.

    The steps are so long that it would.
    """
    keys = prng.broadcast(KEY, NUM_IMAGES)
    attack = carlini_wagner(num_steps=100, search_steps=4, learning_rate=0.3, initial_constant=10.0)
    together = attack(LOGITS_FN, keys, IMAGES, LABELS)
    for row in range(6):
        few = slice(row, row + 1)
        alone = attack(LOGITS_FN, keys[few], IMAGES[few], LABELS[few])
        np.testing.assert_allclose(alone.images, together.images[few], atol=1e-3)


def test_what_stands_still_is_left_early():
    """A constant model: nothing to gain from the second look on, for each of two values of c."""
    passes = []

    def constant(images):
        jax.debug.callback(lambda _: passes.append(1), images[0, 0, 0, 0])
        return jnp.broadcast_to(jnp.array([1.0, 0.0]), (len(images), 2)) + 0 * images[:, 0, 0]

    for abort_early, expected in ((True, 2 * 20), (False, 2 * 50)):
        attack = carlini_wagner(num_steps=50, search_steps=2, abort_early=abort_early)
        passes.clear()
        result = attack(constant, KEY, IMAGES, jnp.zeros(NUM_IMAGES, int))
        jax.effects_barrier()
        np.testing.assert_array_equal(result.images, IMAGES)
        assert len(passes) == expected + 2  # the clean image, and the verdict


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": -1}, "epsilon is -1.0; it must be at least 0"),
        ({"confidence": -1.0}, "confidence is -1.0"),
        ({"num_steps": 0}, "num_steps is 0"),
        ({"search_steps": 0}, "search_steps is 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"initial_constant": 0.0}, "initial_constant is 0.0"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        carlini_wagner(**options)
