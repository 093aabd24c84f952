"""Closed forms against linear models, whose failure probability under noise is known."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from scipy.stats import norm

from rbjax import perturbations
from rbjax.rpr import closed_form
from rbjax.rpr.closed_form import mmse, taylor
from rbjax.rpr.drawn_error import error_against_draws

KEY = jax.random.key(0)
SIGMA = 0.2
NUM_PIXELS, NUM_CLASSES = 12, 6


def linear(parameters, images):
    weights, bias = parameters
    return images.reshape(images.shape[0], -1) @ weights + bias


def curved(parameters, images):
    return jnp.tanh(3 * linear(parameters, images))


def make_parameters(num_classes, seed=0):
    weights = np.random.default_rng(seed).normal(size=(NUM_PIXELS, num_classes))
    return jnp.asarray(weights, jnp.float32), jnp.asarray(-0.5 * weights.sum(0), jnp.float32)


def make_images(num_images, seed=1):
    shape = (num_images, 3, 4, 1)
    return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


TWO, MANY = make_parameters(2), make_parameters(NUM_CLASSES)
IMAGES = make_images(20)
LABELS = np.random.default_rng(2).integers(0, NUM_CLASSES, 20)


@pytest.mark.parametrize("form", closed_form.FORMS)
def test_two_classes(form):
    """Phi(m / (sigma |w|)); with the logistic function where the sigmoid is asked for."""
    labels = LABELS % 2
    logits = np.asarray(linear(TWO, IMAGES), np.float64)
    margin = logits[np.arange(20), labels] - logits[np.arange(20), 1 - labels]
    weights = np.asarray(TWO[0], np.float64)
    distance = margin / (SIGMA * np.linalg.norm(weights[:, 0] - weights[:, 1]))
    assert distance.min() < -2
    assert distance.max() > 2
    expected = norm.cdf(distance) if form == "normal" else 1 / (1 + np.exp(-distance))
    result = taylor(Partial(linear, TWO), IMAGES, labels, sigma=SIGMA, form=form)
    np.testing.assert_allclose(result.p_correct, expected, atol=2e-6)
    np.testing.assert_allclose(result.failure_probability, 1 - expected, atol=2e-6)
    averaged = mmse(Partial(linear, TWO), KEY, IMAGES, labels, sigma=1e-6, num_draws=3, form=form)
    small = taylor(Partial(linear, TWO), IMAGES, labels, sigma=1e-6, form=form)
    np.testing.assert_allclose(averaged.p_correct, small.p_correct, atol=2e-6)


def test_many_classes_against_draws():
    """A linear model is its own tangent: only the draws err, 20,000 of them for 20 images."""
    logits_fn = Partial(linear, MANY)
    result = taylor(logits_fn, IMAGES, LABELS, sigma=SIGMA, block_size=8)
    noise = perturbations.gaussian_noise(sigma=SIGMA).change
    error = error_against_draws(
        result.failure_probability,
        logits_fn,
        KEY,
        IMAGES,
        LABELS,
        perturbation=noise,
        num_draws=20_000,
        confidence=0.9999,
    )
    deviation = np.sqrt(result.p_correct * result.failure_probability / 20_000)
    assert np.all(np.abs(error.difference) <= 4.5 * deviation + 1e-4)
    assert np.sum((error.drawn > 0.1) & (error.drawn < 0.9)) >= 5
    assert error.outside == 0
    assert error.mean_absolute_error < 2 * error.mean_standard_error
    assert error.rank_correlation > 0.98


def test_draws_show_what_clipping_and_curvature_change():
    """The tangent is far off where the noise is large, and the table says so."""
    logits_fn = Partial(curved, MANY)
    noise = perturbations.gaussian_noise(sigma=0.5)
    result = taylor(logits_fn, IMAGES, LABELS, sigma=0.5)
    error = error_against_draws(
        result.failure_probability,
        logits_fn,
        KEY,
        IMAGES,
        LABELS,
        perturbation=noise,
        num_draws=1000,
        num_images=12,
    )
    assert len(np.unique(error.rows)) == 12
    np.testing.assert_array_equal(error.estimated, result.failure_probability[error.rows])
    np.testing.assert_allclose(error.difference, error.estimated - error.drawn)
    assert error.mean_absolute_error > 3 * error.mean_standard_error
    assert error.outside > 0.3
    assert np.all((error.low <= error.drawn) & (error.drawn <= error.high))


def test_draws_are_the_ones_of_scoring_and_independent_of_blocks():
    from rbjax import rpr

    logits_fn, noise = Partial(linear, MANY), perturbations.gaussian_noise(sigma=1.0)
    images = make_images(60)
    labels = np.argmax(linear(MANY, images), axis=1)
    ids = np.arange(60) * 3 + 1

    def drawn(block_size):
        return error_against_draws(
            np.zeros(60),
            logits_fn,
            KEY,
            images,
            labels,
            perturbation=noise,
            num_draws=1,
            example_ids=ids,
            block_size=block_size,
        ).drawn

    scores = rpr.score(
        logits_fn,
        KEY,
        images,
        labels,
        max_steps=1,
        perturbation=noise,
        example_ids=ids,
        devices=jax.devices()[:1],
    )
    np.testing.assert_array_equal(drawn(60), ~scores.robust)
    np.testing.assert_array_equal(drawn(7), ~scores.robust)
    assert 10 < scores.robust.sum() < 50


def test_mmse_is_the_mean_of_margins_and_gradients():
    """By hand, from the draws' keys; with a model that is not linear it differs from Taylor's."""
    images, labels, ids = IMAGES[:3], LABELS[:3], np.array([5, 0, 9])
    logits_fn = Partial(curved, MANY)
    distances = []
    for image, label, example_id in zip(images, labels, ids, strict=True):
        base = jax.random.fold_in(KEY, example_id)
        draws = [
            image + SIGMA * jax.random.normal(jax.random.fold_in(base, t), image.shape)
            for t in (1, 2, 3, 4)
        ]
        logits = np.mean([logits_fn(x[None])[0] for x in draws], axis=0)
        jacobian = jax.jit(jax.jacrev(lambda x: logits_fn(x[None])[0]))
        gradients = np.mean([jacobian(x).reshape(NUM_CLASSES, -1) for x in draws], axis=0)
        others = np.arange(NUM_CLASSES) != label
        slopes = gradients[label] - gradients[others]
        distance = (logits[label] - logits[others]) / np.linalg.norm(slopes, axis=1) / SIGMA
        distances.append(distance)
    total = np.sum(np.exp(-np.array(distances)), axis=1)
    result = mmse(
        logits_fn,
        KEY,
        images,
        labels,
        sigma=SIGMA,
        num_draws=4,
        form="sigmoid",
        example_ids=ids,
        block_size=2,
    )
    np.testing.assert_allclose(result.failure_probability, total / (1 + total), rtol=1e-4)
    tangent = taylor(logits_fn, images, labels, sigma=SIGMA, form="sigmoid")
    assert np.max(np.abs(tangent.p_correct - result.p_correct)) > 0.01


def test_tails_keep_their_digits_and_no_noise_is_the_clean_prediction():
    """A small probability lies between the largest and the sum of the margins' tails."""
    logits_fn = Partial(linear, MANY)
    tangent = taylor(logits_fn, IMAGES, LABELS, sigma=1e-7)
    correct = np.argmax(linear(MANY, IMAGES), axis=1) == LABELS
    assert 0 < correct.sum() < 20
    np.testing.assert_array_equal(tangent.p_correct, correct)
    distances = np.array([[8.0, 9.0, 7.5]], np.float32)
    same = closed_form.Linearization(distances, np.eye(3, dtype=np.float32)[None])
    result = closed_form.normal_form(same)
    tails = norm.sf(distances[0])
    np.testing.assert_allclose(result.failure_probability, tails.sum(), rtol=1e-3)
    assert result.p_correct[0] > 1 - 1e-12


def test_the_scale_of_the_logits_is_of_no_account():
    """Squares of a slope of 1e30 or 1e-30 are no float32."""
    expected = taylor(Partial(linear, MANY), IMAGES, LABELS, sigma=SIGMA)
    for scale in (2.0**100, 2.0**-100):
        scaled = jax.tree.map(lambda x, scale=scale: scale * x, MANY)
        result = taylor(Partial(linear, scaled), IMAGES, LABELS, sigma=SIGMA)
        np.testing.assert_array_equal(result.p_correct, expected.p_correct)


def test_equal_correlations():
    """Of nine margins of mean 0 and correlation 1/2 all are positive once in ten."""
    correlation = (np.full((9, 9), 0.5) + 0.5 * np.eye(9)).astype(np.float32)
    flat = closed_form.Linearization(np.zeros((1, 9), np.float32), correlation[None])
    assert closed_form.normal_form(flat).p_correct[0] == pytest.approx(0.1, abs=1e-4)
    assert closed_form.sigmoid_form(flat).p_correct[0] == pytest.approx(0.1, abs=1e-9)


def test_a_model_that_does_not_look():
    """No gradient: certain, or a coin's toss where two classes tie."""

    def constant(images):
        return jnp.broadcast_to(jnp.array([1.0, 0.0]), (images.shape[0], 2)) + 0 * images[:, 0, 0]

    images = make_images(2)
    for form in closed_form.FORMS:
        result = taylor(constant, images, np.array([0, 1]), sigma=SIGMA, form=form)
        assert result.p_correct.tolist() == [1, 0]
        tied = taylor(lambda x: 0 * constant(x), images, np.array([0, 1]), sigma=SIGMA, form=form)
        assert tied.p_correct.tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.full((1, 3, 4, 1), 2.0)}, "images range from 2 to 2"),
        ({"labels": np.array([9])}, "labels holds 9; allowed: 0 to 5"),
        ({"sigma": 0}, "sigma is 0; it must be above 0"),
        ({"sigma": -1}, "sigma is -1"),
        ({"form": "sigmod"}, "form 'sigmod' is unknown.*did you mean 'sigmoid'"),
        ({"block_size": 0}, "block_size is 0"),
        ({"num_draws": 0}, "num_draws is 0"),
    ],
)
def test_wrong_input(change, message):
    call: dict[str, Any] = {"images": IMAGES[:1], "labels": LABELS[:1], "sigma": SIGMA, **change}
    with pytest.raises(ValueError, match=message):
        mmse(Partial(linear, MANY), KEY, **call)
    if "num_draws" not in change:
        with pytest.raises(ValueError, match=message):
            taylor(Partial(linear, MANY), **call)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"failure_probability": np.array([0.5, 0.5])}, r"failure_probability has shape \(2,\)"),
        ({"failure_probability": np.array([np.nan])}, "failure_probability holds nan"),
        ({"failure_probability": np.array([1.5])}, "failure_probability holds 1.5"),
        ({"num_images": 2}, "num_images is 2; there are 1 images"),
        ({"num_draws": 0}, "num_draws is 0"),
        ({"confidence": 1.0}, "confidence is 1.0"),
    ],
)
def test_wrong_input_of_the_error(change, message):
    call: dict[str, Any] = {
        "failure_probability": np.array([0.5]),
        "perturbation": perturbations.gaussian_noise(sigma=SIGMA),
        "num_draws": 2,
        **change,
    }
    with pytest.raises(ValueError, match=message):
        error_against_draws(
            logits_fn=Partial(linear, MANY), key=KEY, images=IMAGES[:1], labels=LABELS[:1], **call
        )
