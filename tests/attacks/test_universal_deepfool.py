from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from rbjax.attacks.universal import craft_universal_deepfool, deepfool, evaluate_universal

KEY = jax.random.key(0)
WEIGHTS = jax.random.normal(jax.random.key(2), (12, 2))
NORMAL = np.asarray(WEIGHTS[:, 1] - WEIGHTS[:, 0], np.float64)
IMAGES = np.random.default_rng(0).uniform(0.3, 0.7, (50, 2, 2, 3)).astype(np.float32)


def linear(weights, images):
    return (images - 0.5).reshape(images.shape[0], -1) @ weights


LOGITS_FN = Partial(linear, WEIGHTS)
LABELS = np.asarray(jnp.argmax(LOGITS_FN(IMAGES), -1))
ZEROS = IMAGES[LABELS == 0]
"""The images of class 0."""


def craft(images: Any = IMAGES, logits_fn: Any = LOGITS_FN, **options):
    return craft_universal_deepfool(logits_fn, KEY, images, **{"epsilon": 0.2, **options})


def size(delta, norm: str) -> float:
    flat = np.asarray(delta, np.float64).ravel()
    return float(np.linalg.norm(flat, {"linf": np.inf, "l2": 2, "l1": 1}[norm]))


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_one_class_of_a_linear_model_is_fooled_by_its_farthest_image(norm):
    """Each image lengthens v to 1.02 times its own distance at most, and all of it one way."""
    result = craft(ZEROS, epsilon=1.0, norm=norm, fooling_rate=1.0)
    farthest = np.max(-np.asarray((ZEROS - 0.5).reshape(len(ZEROS), -1) @ NORMAL))
    farthest /= np.linalg.norm(NORMAL)
    assert result.fooling_rate.tolist() == [1.0]
    assert farthest < size(result.delta, "l2") <= 1.02 * farthest * (1 + 1e-4)
    direction = NORMAL / np.linalg.norm(NORMAL)
    np.testing.assert_allclose(
        np.ravel(result.delta) / size(result.delta, "l2"), direction, atol=1e-4
    )


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
def test_it_lies_in_the_ball(norm):
    result = craft(ZEROS, epsilon=0.01, norm=norm, fooling_rate=1.0, max_passes=2)
    assert size(result.delta, norm) == pytest.approx(0.01, rel=1e-4)
    assert 0 < result.fooling_rate[-1] < 1


def test_of_two_balanced_classes_one_alone_is_fooled():
    """A linear model's boundary moves one way: at most the larger class is fooled."""
    passes = []
    result = craft(epsilon=0.5, max_passes=3, progress=passes.append)
    larger = max(np.mean(LABELS == 0), np.mean(LABELS == 1))
    assert result.fooling_rate.max() <= larger
    assert [(told.done, told.of) for told in passes] == [(1, 3), (2, 3), (3, 3)]
    assert [told.figures["fooled"] for told in passes] == result.fooling_rate.tolist()
    evaluation = evaluate_universal(LOGITS_FN, IMAGES, LABELS, result.delta)
    assert evaluation.fooling_rate == result.fooling_rate.max()
    assert np.count_nonzero(evaluation.class_fooled) <= 1


def test_it_ends_at_the_rate_that_was_asked_for():
    """Two classes next to a third, which most images can be sent to at once."""
    weights = np.zeros((12, 3), np.float32)
    weights[0, 0], weights[0, 1], weights[1:, 2] = 1.0, -1.0, 3.0
    bias = jnp.array([0.0, 0.0, -0.4])
    images = IMAGES.copy().reshape(50, 12)
    images[:, 1:] = 0.5 + 0.05 * (images[:, 1:] - 0.5)
    images[:, 0] = np.where(np.arange(50) % 2 == 0, 0.95, 0.05)
    images = images.reshape(IMAGES.shape)

    def third(images):
        return linear(jnp.asarray(weights), images) + bias

    clean = np.asarray(jnp.argmax(third(images), -1))
    assert np.bincount(clean).tolist() == [25, 25]
    for rate in (0.3, 0.9):
        result = craft(images, third, fooling_rate=rate, epsilon=0.2)
        assert result.fooling_rate[-1] >= rate
        assert np.all(result.fooling_rate[:-1] < rate)
        assert len(result.num_moves) == len(result.fooling_rate)
    evaluation = evaluate_universal(third, images, clean, result.delta)
    assert evaluation.dominant_label == 2


def test_what_is_fooled_already_does_not_move_it():
    """Of equal images the first moves v, and no other has to."""
    same = np.repeat(ZEROS[:1], 300, axis=0)  # more than one block, the last of them filled up
    result = craft(same, epsilon=1.0)
    assert result.num_moves.tolist() == [1]
    assert result.fooling_rate.tolist() == [1.0]


def test_without_a_move_there_is_no_further_pass():
    assert craft(epsilon=0.0).num_moves.tolist() == [0]
    flat = craft(logits_fn=Partial(linear, 0 * WEIGHTS))
    assert flat.num_moves.tolist() == [0]
    np.testing.assert_array_equal(flat.delta, np.zeros((2, 2, 3)))


def test_images_that_can_exist():
    """Black images are moved by what makes them brighter alone."""
    black, bias = np.zeros((4, 2, 2, 3), np.float32), jnp.array([1.0, 0.0])
    black[1:] = 0.02

    def logits_fn(images):
        return images.reshape(len(images), -1) @ WEIGHTS + bias

    result = craft(black, logits_fn, epsilon=1.0, deepfool_steps=50, fooling_rate=1.0)
    assert result.fooling_rate[-1] == 1.0
    assert np.min(result.delta) >= -0.02 - 1e-6
    # One step does not reach the boundary there: the image leaves v as it is.
    result = craft(black[:1], logits_fn, epsilon=1.0, deepfool_steps=1)
    assert result.num_moves.tolist() == [0]


def test_the_order_of_storage_does_not_matter():
    order = np.random.default_rng(3).permutation(50)
    one = craft(example_ids=np.arange(50), max_passes=2, batch_size=16)
    other = craft(IMAGES[order], example_ids=order, max_passes=2)
    np.testing.assert_array_equal(one.delta, other.delta)
    np.testing.assert_array_equal(one.fooling_rate, other.fooling_rate)
    assert np.any(craft(example_ids=np.arange(50) + 7, max_passes=2).delta != one.delta)


def test_neither_blocks_nor_devices_matter(monkeypatch):
    one = craft(epsilon=0.05, max_passes=2, devices=jax.local_devices()[:1])
    monkeypatch.setattr(deepfool, "_BLOCK", 16)
    other = craft(epsilon=0.05, max_passes=2)
    np.testing.assert_allclose(one.delta, other.delta, atol=1e-6)
    np.testing.assert_array_equal(one.num_moves, other.num_moves)


def test_eight_bit_images_and_a_plain_function():
    images = np.round(IMAGES * 255).astype(np.uint8)

    def plain(images):
        return linear(WEIGHTS, images)

    small = craft(images, max_passes=2)
    wide = craft(images.astype(np.float32) / 255, plain, max_passes=2)
    np.testing.assert_allclose(small.delta, wide.delta, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": 2.0}, "epsilon is 2.0; with norm 'linf'"),
        ({"norm": "linfty"}, "did you mean 'linf'"),
        ({"fooling_rate": 80}, "fooling_rate is 80.0; it must be between 0 and 1"),
        ({"max_passes": 0}, "max_passes is 0"),
        ({"deepfool_steps": 0}, "deepfool_steps is 0"),
        ({"num_candidates": 1}, "num_candidates is 1"),
        ({"overshoot": -1.0}, "overshoot is -1.0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"images": IMAGES + 1}, "images range from 1.3"),
        ({"images": IMAGES[:0]}, "images holds no image"),
        ({"example_ids": np.arange(3)}, r"example_ids has shape \(3,\)"),
    ],
)
def test_wrong_input(options, message):
    with pytest.raises(ValueError, match=message):
        craft(**options)
