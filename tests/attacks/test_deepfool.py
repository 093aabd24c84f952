from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from rbjax import attacks, prng
from rbjax.attacks.deepfool import SHORTEST_STEP, deepfool
from rbjax.classifier import as_classifier
from tests.attacks.linear import (
    DUAL,
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
ROWS = np.arange(NUM_IMAGES)


def distances_to(others, norm: str) -> np.ndarray:
    """Returns each image's distance to the boundary with one class, the box aside."""
    logits = np.asarray(LOGITS_FN(IMAGES), np.float64)
    normals = np.asarray(WEIGHTS[:, others] - WEIGHTS[:, LABELS], np.float64)
    gaps = logits[ROWS, LABELS] - logits[ROWS, others]
    return gaps / np.linalg.norm(normals, DUAL[norm], axis=0)


@pytest.mark.parametrize("norm", DUAL)
def test_the_smallest_perturbation_of_a_linear_model(norm):
    """|f_k| / ||w_k||_dual for the nearest class, lengthened by the overshoot."""
    result = deepfool(norm=norm, overshoot=0.03)(LOGITS_FN, KEY, IMAGES, LABELS)
    assert np.all(result.fooled)
    found = sizes(result.images - IMAGES, norm)
    np.testing.assert_allclose(found, 1.03 * distances(norm), rtol=1e-3)
    assert np.all(result.loss > 0)


@pytest.mark.parametrize("norm", DUAL)
def test_only_what_lies_in_the_ball_counts(norm):
    epsilon = 1.02 * between(norm)
    reachable = distances(norm) * 1.02 < epsilon
    result = deepfool(norm=norm, epsilon=epsilon)(LOGITS_FN, KEY, IMAGES, LABELS)
    np.testing.assert_array_equal(result.fooled, reachable)
    np.testing.assert_array_equal(result.images[~reachable], IMAGES[~reachable])
    np.testing.assert_array_equal(result.fooled, result.loss > 0)
    # A call's own sizes, one an image.
    own = distances(norm) * np.where(ROWS % 2 == 0, 1.1, 0.9)
    result = deepfool(norm=norm)(LOGITS_FN, KEY, IMAGES, LABELS, epsilon=jnp.asarray(own))
    np.testing.assert_array_equal(result.fooled, ROWS % 2 == 0)
    result = deepfool(norm=norm)(LOGITS_FN, KEY, IMAGES, LABELS, epsilon=0.0)
    np.testing.assert_array_equal(result.images, IMAGES)


def test_no_image_leaves_the_box():
    """Values at its edge do not help, so that the way is longer than without a box."""
    images = jnp.where(jnp.arange(36).reshape(6, 6, 1) % 3 == 0, jnp.round(IMAGES), IMAGES)
    labels = jnp.argmax(LOGITS_FN(images), -1)
    free = deepfool()(LOGITS_FN, KEY, IMAGES, LABELS)
    assert np.all(free.images == jnp.clip(free.images, 1e-6, 1 - 1e-6))
    for norm in DUAL:
        result = attacks.create("deepfool", norm=norm)(LOGITS_FN, KEY, images, labels)
        assert np.all(result.fooled)
        assert np.all((result.images >= 0) & (result.images <= 1))
        assert np.any(result.images == 0)


def test_candidates_are_the_largest_clean_logits():
    """With two, the label and the runner-up, though the boundary to the third is nearer."""
    biases = jnp.array([0.1, 0.0, -0.05])
    weights = jnp.array([[0.0, 0.5, 0.0], [0.0, 0.0, 10.0]])
    images, labels = jnp.full((1, 2, 1, 1), 0.5), jnp.array([0])

    def logits_fn(images):
        return linear(weights, images) + biases

    for num_candidates, expected in ((2, 0.1 / 0.5), (3, 0.15 / 10), (10, 0.15 / 10)):
        result = deepfool(num_candidates=num_candidates)(logits_fn, KEY, images, labels)
        found = sizes(result.images - images, "l2")
        np.testing.assert_allclose(found, 1.02 * expected, rtol=1e-3)


@pytest.mark.parametrize("norm", DUAL)
def test_targets(norm):
    """Straight to the target's boundary, and no further where no third class is in the way."""
    targets = (LABELS + 1) % NUM_CLASSES
    result = deepfool(norm=norm)(LOGITS_FN, KEY, IMAGES, LABELS, targets=targets)
    assert np.all(result.fooled)
    np.testing.assert_array_equal(result.predictions, targets)
    ratio = sizes(result.images - IMAGES, norm) / distances_to(targets, norm)
    assert np.all(ratio > 1)
    logits = LOGITS_FN(IMAGES)
    second = jnp.argsort(logits, axis=1)[:, -2] == targets
    assert second.sum() > 2
    np.testing.assert_allclose(ratio[second], 1.02, rtol=1e-3)
    # An image that is taken for the target already does not move.
    result = deepfool(norm=norm)(LOGITS_FN, KEY, IMAGES, targets, targets=LABELS)
    np.testing.assert_array_equal(result.images, IMAGES)


def test_what_is_wrong_already_stays_as_it_is():
    result = deepfool()(LOGITS_FN, KEY, IMAGES, (LABELS + 1) % NUM_CLASSES)
    assert np.all(result.fooled)
    np.testing.assert_array_equal(result.images, IMAGES)


def parabola(images):
    value = images.reshape(-1, 1) ** 2 - 0.36
    return jnp.concatenate([jnp.zeros_like(value), value], axis=1)


def test_steps_are_newtons_on_a_curve_and_end_when_it_is_crossed():
    """Steps x - 1.02 f / f' with f = x^2 - 0.36, from 0.9: three, then no more."""
    x, steps = 0.9, [0.9]
    while x > 0.6:
        x -= 1.02 * (x * x - 0.36) / (2 * x)
        steps.append(x)
    assert len(steps) == 4
    images, labels = jnp.full((1, 1, 1, 1), 0.9), jnp.array([1])
    for num_steps, expected in ((2, 0.9), (3, steps[-1]), (9, steps[-1])):
        result = deepfool(num_steps=num_steps)(parabola, KEY, images, labels)
        np.testing.assert_allclose(result.images.ravel(), expected, rtol=1e-5)
        assert bool(result.fooled[0]) == (num_steps >= 3)


def test_ties_and_flat_models():
    """On the boundary itself a step has its shortest length; without a gradient there is none."""
    centre = jnp.full((1, 6, 6, 1), 0.5)
    result = deepfool()(LOGITS_FN, KEY, centre, jnp.array([0]))
    assert bool(result.fooled[0])
    assert sizes(result.images - centre, "l2")[0] == pytest.approx(1.02 * SHORTEST_STEP, rel=1e-2)
    result = deepfool()(Partial(linear, 0 * WEIGHTS), KEY, centre, jnp.array([0]))
    np.testing.assert_array_equal(result.images, centre)
    for scale in (1e-30, 1e6):
        scaled = deepfool()(Partial(linear, scale * WEIGHTS), KEY, IMAGES, LABELS)
        np.testing.assert_allclose(
            sizes(scaled.images - IMAGES, "l2"), 1.02 * distances("l2"), rtol=1e-3
        )


def noisy(weights, keys, images):
    scales = jax.vmap(lambda key: jax.random.uniform(key, minval=0.5, maxval=1.5))(keys)
    return scales[:, None] * linear(weights, images)


def test_gradients_of_several_sums_of_logits():
    sums = jax.random.normal(jax.random.key(5), (NUM_IMAGES, 3, NUM_CLASSES))
    keys = prng.broadcast(KEY, NUM_IMAGES)
    for model in (LOGITS_FN, attacks.randomized(Partial(noisy, WEIGHTS), num_samples=3)):
        asked = as_classifier(model).asked_about(IMAGES)

        @jax.jit
        def both(images, asked=asked):
            one = asked.value_and_grad(lambda z: jnp.sum(z * sums[:, 2], axis=1), keys, images)
            return asked.logits_and_gradients(sums, keys, images), one

        (logits, gradients), one = both(IMAGES)
        np.testing.assert_allclose(logits, one.logits, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(gradients[:, 2], one.gradient, rtol=1e-4, atol=1e-5)
        ratio = gradients.reshape(NUM_IMAGES, 3, -1) / jnp.einsum("bmk,pk->bmp", sums, WEIGHTS)
        spread = jnp.max(ratio, axis=(1, 2)) - jnp.min(ratio, axis=(1, 2))
        np.testing.assert_allclose(spread, 0.0, atol=1e-3)


def test_a_randomised_model():
    model = attacks.randomized(Partial(noisy, WEIGHTS), num_samples=4)
    result = deepfool()(model, KEY, IMAGES, LABELS)
    assert np.mean(result.fooled) > 0.9
    np.testing.assert_allclose(
        sizes(result.images - IMAGES, "l2"), 1.02 * distances("l2"), rtol=0.05
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "l1"}, "norm 'l1' is unknown; allowed: linf, l2"),
        ({"epsilon": 8, "norm": "linf"}, "epsilon is 8.0; with norm 'linf'"),
        ({"num_steps": 0}, "num_steps is 0"),
        ({"num_candidates": 1}, "num_candidates is 1; it must be a whole number of at least 2"),
        ({"overshoot": -0.1}, "overshoot is -0.1"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        deepfool(**options)


def test_it_has_no_step_size():
    with pytest.raises(ValueError, match="this attack chooses its steps itself"):
        deepfool()(LOGITS_FN, KEY, IMAGES, LABELS, step_size=0.1)
