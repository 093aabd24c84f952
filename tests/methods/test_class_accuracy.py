"""Accuracies by class are those that were counted, and those that follow from a distribution."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from rbjax import attacks
from rbjax.methods.class_accuracy import (
    class_accuracy,
    measuring_set,
    robust_accuracy,
    validation_set,
)
from rbjax.testing.training import make_model, make_train_set
from rbjax.training.predict import predict
from tests.training.recipes import KEY, told


def test_accuracies_are_counted_by_class(monkeypatch):
    model, dataset = make_model(), make_train_set()
    variables = model.init(KEY, jnp.zeros((1, *model.image_shape)))
    logits_fn = jax.tree_util.Partial(model.apply, variables)
    right = predict(logits_fn, dataset) == dataset.labels
    expected = [right[dataset.labels == c].mean() for c in range(3)]
    attack = attacks.pgd(epsilon=0.5, num_steps=3)
    measured = class_accuracy(KEY, model, variables, dataset, attack)
    np.testing.assert_allclose(measured.clean, expected)
    assert measured.clean_of_all == right.mean()
    assert measured.robust_of_all < measured.clean_of_all
    np.testing.assert_allclose(measured.robust.mean(), measured.robust_of_all)  # 8 of each class
    monkeypatch.setattr("rbjax.methods.class_accuracy.predict", None)  # no clean pass
    robust, of_all = robust_accuracy(KEY, model, variables, dataset, attack)
    np.testing.assert_array_equal([*robust, of_all], [*measured.robust, measured.robust_of_all])


def test_what_is_measured_on_is_held_out_where_something_is():
    """A class without examples counts as right: none of it was wrong."""
    train_set = make_train_set()
    held_out = train_set.take(np.flatnonzero(train_set.labels != 2))
    epoch = told(train_set=train_set, validation_set=held_out)
    assert validation_set(epoch) is held_out
    np.testing.assert_array_equal(measuring_set(epoch, 5).example_ids, held_out.example_ids[:5])
    none = epoch._replace(validation_set=None)
    np.testing.assert_array_equal(measuring_set(none, 5).example_ids, train_set.example_ids[:5])
    one_group = dataclasses.replace(held_out, groups=np.zeros(held_out.num_examples, np.int32))
    some = measuring_set(epoch._replace(validation_set=one_group), 5)
    np.testing.assert_array_equal(some.example_ids, held_out.example_ids[:5])
    with pytest.raises(ValueError, match="measures on a validation set, and there is none"):
        validation_set(none)
    model = make_model()
    variables = model.init(KEY, jnp.zeros((1, *model.image_shape)))
    measured = class_accuracy(KEY, model, variables, held_out, attacks.pgd(epsilon=0.0))
    assert measured.clean[2] == measured.robust[2] == 1.0


def test_two_gaussian_classes_of_other_widths():
    """The wider class is the less accurate, and attacks widen the gap: n 4,000 of each, key 0.

    Of f = sign(w x + b) the error of the class around theta, of width K sigma, is
    Phi(-(w theta + b - epsilon |w|_1) / (K sigma |w|_2)), and likewise around -theta.
    """
    size, theta, sigma, wider, b, epsilon, n = 16, 0.02, 0.05, 2.0, 0.03, 0.01, 4000
    draws = np.random.default_rng(0).normal(size=(2, n, size))
    positive = theta + wider * sigma * draws[0]
    negative = -theta + sigma * draws[1]
    images = 0.5 + np.concatenate([negative, positive]).astype(np.float32)
    dataset = make_train_set()
    dataset = dataclasses.replace(
        dataset,
        info=dataset.info._replace(class_names=("-", "+")),
        images=np.clip(images, 0, 1).reshape(2 * n, 4, 4, 1),
        labels=np.repeat(np.arange(2, dtype=np.int32), n),
        index=np.arange(2 * n),
        example_ids=np.arange(2 * n, dtype=np.int32),
    )

    def apply(variables, images):
        score = jnp.sum(images - 0.5, axis=(1, 2, 3)) + variables
        return jnp.stack([-score, score], axis=1)

    model: Any = SimpleNamespace(apply=apply)
    attack = attacks.pgd(epsilon=epsilon, num_steps=8)
    measured = class_accuracy(KEY, model, jnp.float32(b), dataset, attack)
    for found, radius in ((measured.clean, 0.0), (measured.robust, epsilon)):
        reach = size * theta - size * radius
        expected = norm.cdf([(reach - b) / (sigma * 4), (reach + b) / (wider * sigma * 4)])
        deviation = np.sqrt(expected * (1 - expected) / n)
        np.testing.assert_array_less(np.abs(found - expected), 4 * deviation)
