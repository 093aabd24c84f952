from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from rbjax.attacks.universal import (
    apply_classwise,
    craft_universal,
    craft_universal_classwise,
    evaluate_universal,
)

KEY = jax.random.key(0)
WEIGHTS = jax.random.normal(jax.random.key(2), (12, 3)).at[:, 2].set(0.0)
BIAS = jnp.array([0.0, 0.0, -50.0])
"""Of the third class there is no image."""
IMAGES = np.random.default_rng(0).uniform(0.3, 0.7, (50, 2, 2, 3)).astype(np.float32)
OPTIONS = {"epsilon": 0.1, "batch_size": 16, "num_epochs": 4}
SHAPE = (2, 2, 3)


def linear(weights, images):
    return (images - 0.5).reshape(images.shape[0], -1) @ weights + BIAS


LOGITS_FN = Partial(linear, WEIGHTS)
LABELS = np.asarray(jnp.argmax(LOGITS_FN(IMAGES), -1))
TOWARDS_1 = jnp.sign(WEIGHTS[:, 1] - WEIGHTS[:, 0]).reshape(SHAPE)


def craft(images=IMAGES, labels=LABELS, **options):
    return craft_universal_classwise(LOGITS_FN, KEY, images, labels, **{**OPTIONS, **options})


def test_each_class_gets_its_own_best_direction():
    """delta_c = epsilon sign(w_other - w_c); a class without images gets none."""
    result = craft()
    expected = 0.1 * jnp.stack([TOWARDS_1, -TOWARDS_1, jnp.zeros(SHAPE)])
    np.testing.assert_allclose(result.delta, expected, atol=1e-6)
    assert result.loss.shape == (3, 4)
    assert np.all(np.isnan(result.loss[2]))
    assert np.all(result.loss[:2, -1] > result.loss[:2, 0])


def test_a_class_is_as_if_it_were_alone():
    """Whatever the batches of the others, and with a start of its own."""
    options = {**OPTIONS, "random_start": True, "step_size": 0.013, "norm": "l2", "num_epochs": 2}
    result = craft(**options)
    for label in (0, 1):
        rows = label == LABELS
        key = jax.random.fold_in(KEY, label)
        ids = np.flatnonzero(rows)
        alone = craft_universal(
            LOGITS_FN, key, IMAGES[rows], LABELS[rows], example_ids=ids, **options
        )
        np.testing.assert_allclose(result.delta[label], alone.delta, atol=1e-6)
        np.testing.assert_allclose(result.loss[label], alone.loss, rtol=1e-5)


def test_own_perturbations_fool_both_classes_where_one_fools_one():
    result = evaluate_universal(LOGITS_FN, IMAGES, LABELS, craft().delta, batch_size=16)
    own = 0.1 * np.where(LABELS == 0, 1.0, -1.0)[:, None, None, None] * np.asarray(TOWARDS_1)
    predictions = jnp.argmax(LOGITS_FN(np.clip(IMAGES + own, 0, 1)), -1)
    np.testing.assert_array_equal(result.predictions, predictions)
    assert np.all(result.class_fooled[:2] > 0)
    one = craft_universal(LOGITS_FN, KEY, IMAGES, LABELS, **OPTIONS)
    single = evaluate_universal(LOGITS_FN, IMAGES, LABELS, one.delta)
    assert single.fooling_rate <= 0.5 + 0.5 * abs(np.mean(LABELS == 0) - np.mean(LABELS == 1))
    assert np.count_nonzero(single.class_fooled) <= 1
    assert result.fooling_rate > single.fooling_rate


def test_targets_and_progress():
    seen = []
    result = craft(targets=np.ones(50, int), num_epochs=2, progress=seen.append)
    for label in (0, 1):
        np.testing.assert_allclose(result.delta[label], 0.05 * TOWARDS_1 * 2, atol=1e-6)
    assert [(told.done, told.of) for told in seen] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [told.figures["loss"] for told in seen] == result.loss[:2].ravel().tolist()


def test_devices_do_not_matter():
    one, eight = (craft(num_epochs=2, devices=jax.local_devices()[:n]) for n in (1, 8))
    np.testing.assert_allclose(one.delta, eight.delta, atol=1e-6)
    np.testing.assert_allclose(one.loss, eight.loss, rtol=1e-5)


def test_the_order_of_storage_does_not_matter():
    order = np.random.default_rng(3).permutation(50)
    options = {"num_epochs": 2, "step_size": 0.013}
    one = craft(example_ids=np.arange(50), **options)
    other = craft(IMAGES[order], LABELS[order], example_ids=order, **options)
    np.testing.assert_array_equal(one.delta, other.delta)


def test_applied_to_each_its_own():
    images = np.full((3, 1, 1, 1), 128, np.uint8)
    moved = apply_classwise(images, np.array([1, 0, 1]), np.array([0.1, 0.6]).reshape(2, 1, 1, 1))
    np.testing.assert_allclose(moved.ravel(), [1.0, 128 / 255 + 0.1, 1.0], rtol=1e-6)


def test_wrong_input():
    with pytest.raises(ValueError, match=r"epsilon is 2\.0; with norm 'linf'"):
        craft(epsilon=2.0)
    with pytest.raises(ValueError, match="labels holds 3; allowed: 0 to 2"):
        craft(labels=LABELS + 2)
    with pytest.raises(ValueError, match=r"delta has shape \(2, 2, 2, 3\); .* \(3, 2, 2, 3\), one"):
        evaluate_universal(LOGITS_FN, IMAGES, LABELS, np.zeros((2, *SHAPE)))
