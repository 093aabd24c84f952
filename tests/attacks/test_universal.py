from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.tree_util import Partial

from rbjax import attacks
from rbjax.attacks.universal import (
    apply_classwise,
    apply_universal,
    craft_universal,
    craft_universal_deepfool,
    evaluate_universal,
)

KEY = jax.random.key(0)
WEIGHTS = jax.random.normal(jax.random.key(2), (12, 2))
IMAGES = np.random.default_rng(0).uniform(0.3, 0.7, (50, 2, 2, 3)).astype(np.float32)


def linear(weights, images):
    return (images - 0.5).reshape(images.shape[0], -1) @ weights


LOGITS_FN = Partial(linear, WEIGHTS)
LABELS = np.asarray(jnp.argmax(LOGITS_FN(IMAGES), -1))
TOWARDS_1 = jnp.sign(WEIGHTS[:, 1] - WEIGHTS[:, 0]).reshape(2, 2, 3)


def craft(images: Any = IMAGES, labels=LABELS, **options):
    options = {"epsilon": 0.1, "batch_size": 16, "num_epochs": 4, **options}
    return craft_universal(LOGITS_FN, KEY, images, labels, **options)


@pytest.mark.parametrize("random_start", [True, False])
def test_one_class_is_fooled_in_the_best_direction(random_start):
    """A class-restricted set of a linear model gives epsilon sign(w_other - w_y)."""
    ones = LABELS == 0
    assert 10 < ones.sum() < 40
    result = craft(IMAGES[ones], LABELS[ones], random_start=random_start, num_epochs=5)
    np.testing.assert_allclose(result.delta, 0.1 * TOWARDS_1, atol=1e-6)
    assert np.all(np.diff(result.loss) > -1e-6)


def test_in_l2_it_is_along_the_weights():
    ones = LABELS == 0
    result = craft(IMAGES[ones], LABELS[ones], norm="l2", epsilon=0.2)
    direction = (WEIGHTS[:, 1] - WEIGHTS[:, 0]).reshape(2, 2, 3)
    expected = 0.2 * direction / jnp.linalg.norm(direction)
    np.testing.assert_allclose(result.delta, expected, rtol=1e-4, atol=1e-6)


def test_targets_are_approached():
    """Every image is to be taken for class 1; the loss that was climbed is minus the target's."""
    result = craft(targets=np.ones(50, int))
    np.testing.assert_allclose(result.delta, 0.1 * TOWARDS_1, atol=1e-6)
    assert result.loss[-1] > result.loss[0]
    assert result.loss[-1] < 0


def test_lost_examples_stop_counting():
    """Above the clip the gradient is 0: nothing moves delta, and every loss is the clip."""
    result = craft(loss_clip=1e-6)
    np.testing.assert_array_equal(result.delta, np.zeros((2, 2, 3)))
    np.testing.assert_allclose(result.loss, 1e-6, rtol=1e-4)


def test_examples_that_only_fill_up_count_for_nothing():
    """The last batch of 50 in sixteens has two; the loss at delta = 0 is the dataset's mean."""
    result = craft(step_size=1e-9, num_epochs=1)
    losses = -jax.nn.log_softmax(LOGITS_FN(IMAGES))[jnp.arange(50), LABELS]
    assert float(result.loss[0]) == pytest.approx(float(losses.mean()), rel=1e-5)


def test_few_images_are_passed_over_more_often():
    """50 in sixteens are 4 steps an epoch: 50 epochs are 200 steps."""
    seen = []
    result = craft(num_epochs=None, progress=seen.append)
    assert len(result.loss) == len(seen) == seen[0].of == 50
    assert result.forwards == result.backwards == 50 * 50


def test_the_mean_is_taken_before_the_sign():
    """Two images of one class outvote one of the other, whatever their order in the batch."""
    weights = jnp.array([[1.0, -1.0]])
    images, labels = np.full((3, 1, 1, 1), 0.5, np.float32), np.array([1, 0, 0])
    result = craft_universal(
        Partial(linear, weights), KEY, images, labels, epsilon=0.1, num_epochs=1, step_size=0.1
    )
    assert float(result.delta.ravel()[0]) == pytest.approx(-0.1)


@pytest.mark.parametrize("options", [{}, {"norm": "l2", "batch_size": 13}])
def test_devices_do_not_matter(options):
    """One device gives what eight give, and all eight are used."""
    options = {"num_epochs": 2, "step_size": 0.013, **options}
    one = craft(devices=jax.local_devices()[:1], **options)
    eight = craft(devices=jax.local_devices(), **options)
    np.testing.assert_allclose(one.delta, eight.delta, atol=1e-6)
    np.testing.assert_allclose(one.loss, eight.loss, rtol=1e-5)
    known = [
        evaluate_universal(
            LOGITS_FN, IMAGES, LABELS, one.delta, batch_size=16, devices=jax.local_devices()[:n]
        )
        for n in (1, 8)
    ]
    for first, second in zip(*known, strict=True):
        np.testing.assert_array_equal(first, second)


def test_the_order_of_storage_does_not_matter():
    order = np.random.default_rng(3).permutation(50)
    one = craft(example_ids=np.arange(50), num_epochs=2, step_size=0.013)
    other = craft(IMAGES[order], LABELS[order], example_ids=order, num_epochs=2, step_size=0.013)
    np.testing.assert_array_equal(one.delta, other.delta)


def test_eight_bit_images_and_progress():
    images = np.round(IMAGES * 255).astype(np.uint8)
    seen = []
    small = craft(images, progress=seen.append, num_epochs=2)
    wide = craft(images.astype(np.float32) / 255, num_epochs=2)
    np.testing.assert_array_equal(small.delta, wide.delta)
    assert [(told.done, told.of) for told in seen] == [(1, 2), (2, 2)]
    assert [told.figures["loss"] for told in seen] == small.loss.tolist()


def test_not_above_the_mean_of_the_images_own_attacks():
    result = craft()
    own = attacks.fgsm(epsilon=0.1)(LOGITS_FN, KEY, jnp.asarray(IMAGES), jnp.asarray(LABELS))
    assert result.loss[-1] <= float(own.loss.mean())


@pytest.mark.parametrize(("norm", "sign"), [("linf", 1), ("l2", -1), ("l1", -1)])
def test_pixels_at_the_edge_count_in_linf(norm, sign):
    """Three images at 1 want up and three grey ones down: who counts is as the docstring says."""
    images = np.repeat([1.0, 0.5], 3).astype(np.float32).reshape(6, 1, 1, 1)
    model = Partial(linear, jnp.array([[1.0, -1.0]]))
    options = {"epsilon": 0.1, "num_epochs": 1, "step_size": 0.1, "norm": norm}
    result = craft_universal(model, KEY, images, np.repeat([1, 0], 3), **options)
    assert float(result.delta.ravel()[0]) == pytest.approx(sign * 0.1)


@pytest.mark.parametrize("kind", ["uint8", "float16"])
def test_images_of_other_kinds_keep_the_l1_budget(kind):
    images = np.round(IMAGES * 255).astype(np.uint8) if kind == "uint8" else IMAGES.astype(kind)
    delta = craft(images, norm="l1", epsilon=0.5, num_epochs=2).delta
    assert 0.4 < float(jnp.sum(jnp.abs(delta))) <= 0.5 * (1 + 1e-6)


def test_values_are_checked_where_they_are_read(tmp_path):
    """A memory map's by blocks, those of `apply_universal` at once, traced ones not at all."""
    delta = jnp.zeros((2, 2, 3))
    np.save(tmp_path / "images.npy", IMAGES)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r+")
    craft(mapped, num_epochs=1)
    mapped[41, 0, 0, 0] = 3.0
    calls = [
        lambda images: craft(images, num_epochs=1),
        lambda images: craft(images, num_epochs=1, norm="l1"),
        lambda images: craft_universal_deepfool(LOGITS_FN, KEY, images, epsilon=0.1),
        lambda images: evaluate_universal(LOGITS_FN, images, LABELS, delta),
        lambda images: apply_universal(images, delta),
        lambda images: apply_universal(images[41], delta),
        lambda images: apply_universal(jnp.asarray(images), delta),
        lambda images: apply_classwise(images, LABELS, jnp.stack([delta] * 2)),
    ]
    for call in calls:
        with pytest.raises(
            ValueError, match=r"images range from .* to 3; they must lie in \[0, 1\]"
        ):
            call(mapped)
    assert apply_universal(IMAGES[41], delta).shape == (2, 2, 3)
    assert jax.jit(apply_universal)(jnp.asarray(mapped), delta).max() == 1


def test_applied_and_clipped():
    images = jnp.array([0.0, 0.5, 1.0]).reshape(3, 1, 1, 1)
    moved = apply_universal(images, jnp.full((1, 1, 1), 0.2))
    np.testing.assert_allclose(moved.ravel(), [0.2, 0.7, 1.0], rtol=1e-6)
    bytes_ = np.array([0, 255], np.uint8).reshape(2, 1, 1, 1)
    moved = apply_universal(bytes_, jnp.full((1, 1, 1), -0.2))
    np.testing.assert_allclose(moved.ravel(), [0.0, 0.8], rtol=1e-6)


def test_evaluation_counts_every_example_once():
    labels = LABELS.copy()
    labels[:7] = 1 - labels[:7]
    delta = 0.1 * TOWARDS_1
    result = evaluate_universal(LOGITS_FN, IMAGES, labels, delta, batch_size=16)
    perturbed = np.asarray(jnp.argmax(LOGITS_FN(IMAGES + delta), -1))
    np.testing.assert_array_equal(result.predictions, perturbed)
    np.testing.assert_array_equal(result.clean_predictions, LABELS)
    assert result.fooling_rate == pytest.approx(np.mean(perturbed != LABELS))
    assert 0 < result.fooling_rate < 1
    assert result.accuracy == pytest.approx(np.mean(perturbed == labels))
    assert result.clean_accuracy == pytest.approx(43 / 50)
    assert result.class_counts.tolist() == np.bincount(labels).tolist()
    fooled = perturbed != LABELS
    assert result.class_fooled.tolist() == [np.sum(fooled & (labels == c)) for c in (0, 1)]
    shares = np.bincount(perturbed, minlength=2) / 50
    assert (result.prediction_counts / 50).tolist() == shares.tolist()
    assert result.dominant_label == 1
    assert result.dominant_share == shares[1]
    assert result.entropy == pytest.approx(scipy.stats.entropy(shares))
    assert result.class_correct.sum() == np.sum(perturbed == labels)
    assert result.class_correct[1] == np.sum((perturbed == labels) & (labels == 1))


def test_entropy_of_one_label_and_of_all_alike():
    """0 where a perturbation sends all images to one class, log K where they are spread evenly."""
    ones, zeros = IMAGES[LABELS == 1][:10], IMAGES[LABELS == 0][:10]
    images, labels = np.concatenate([zeros, ones]), np.repeat([0, 1], 10)
    still = evaluate_universal(LOGITS_FN, images, labels, jnp.zeros((2, 2, 3)))
    assert still.entropy == pytest.approx(np.log(2))
    assert (still.dominant_label, still.dominant_share) == (0, 0.5)
    assert (still.fooling_rate, still.class_fooled.tolist()) == (0.0, [0, 0])
    all_one = evaluate_universal(LOGITS_FN, images, labels, 0.3 * TOWARDS_1)
    assert all_one.entropy == 0.0
    assert (all_one.dominant_label, all_one.dominant_share) == (1, 1.0)
    assert all_one.class_fooled.tolist() == [10, 0]


def test_a_plain_function():
    def plain(images):
        return linear(WEIGHTS, images)

    result = craft_universal(plain, KEY, IMAGES, LABELS, epsilon=0.1, batch_size=16, num_epochs=4)
    np.testing.assert_allclose(result.delta, craft().delta, atol=1e-6)
    evaluate_universal(plain, IMAGES, LABELS, result.delta)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": 2.0}, "epsilon is 2.0; with norm 'linf'"),
        ({"norm": "linfty"}, "did you mean 'linf'"),
        ({"step_size": -1.0}, "step_size is -1.0"),
        ({"loss_clip": float("nan")}, "loss_clip is nan"),
        ({"num_epochs": 0}, "num_epochs is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"labels": LABELS + 1}, "labels holds 2; allowed: 0 to 1"),
        ({"labels": LABELS[:4]}, r"labels has shape \(4,\)"),
        ({"targets": LABELS[:4]}, r"targets has shape \(4,\)"),
        ({"images": IMAGES + 1}, "images range from 1.3"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "images holds no image"),
        ({"example_ids": np.arange(3)}, r"example_ids has shape \(3,\)"),
    ],
)
def test_wrong_input(options, message):
    with pytest.raises(ValueError, match=message):
        craft(**options)


def test_delta_of_another_shape():
    with pytest.raises(ValueError, match=r"delta has shape \(2, 2, 1\); it must be \(2, 2, 3\)"):
        evaluate_universal(LOGITS_FN, IMAGES, LABELS, jnp.zeros((2, 2, 1)))


def test_a_delta_that_cannot_be_applied():
    one = np.zeros((2, 2, 3), np.float32)
    for apply in (
        lambda delta: apply_universal(IMAGES, delta),
        lambda delta: apply_classwise(IMAGES, LABELS, delta),
        lambda delta: evaluate_universal(LOGITS_FN, IMAGES, LABELS, delta),
    ):
        for wrong in (np.zeros((50, 3, 2, 3), np.float32), np.zeros((2, 3), np.float32), 0.1, None):
            with pytest.raises(ValueError, match=r"deltas? (has shape|is None)"):
                apply(wrong)
    # As many perturbations as images are not one.
    with pytest.raises(ValueError, match=r"delta has shape \(50, 2, 2, 3\); it must be"):
        apply_universal(IMAGES, np.stack([one] * 50))
    for wrong in (np.inf, np.nan):
        with pytest.raises(ValueError, match="delta holds a value that is not finite"):
            apply_universal(IMAGES, one + np.float32(wrong))
        with pytest.raises(ValueError, match="deltas holds a value that is not finite"):
            apply_classwise(IMAGES, LABELS, np.stack([one, one]) + np.float32(wrong))
