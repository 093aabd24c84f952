"""Scoring with a model that is known (`tests.rpr.known`)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from rbjax import perturbations, rpr
from rbjax.rpr import lanes, scoring
from rbjax.rpr.closed_form import taylor
from rbjax.rpr.drawn_error import error_against_draws
from rbjax.rpr.splitting import failure_probability
from tests.rpr.known import KEY, LOGITS_FN, MIXED, make_images, redraw, score, threshold

ONE = jax.devices()[:1]


def one_by_one(logits_fn, perturbation, images, labels, ids, max_steps):
    """The measure as the paper describes it: image by image, draw by draw."""

    @jax.jit
    def fails(image, label, example_id, draw):
        key = jax.random.fold_in(jax.random.fold_in(KEY, example_id), draw)
        return jnp.argmax(logits_fn(perturbation(key, image)[None])[0]) != label

    first = []
    for image, label, example_id in zip(images, labels, ids, strict=True):
        draws = range(1, max_steps + 1)
        failing = (draw for draw in draws if fails(image, label, example_id, draw))
        first.append(next(failing, max_steps + 1))
    return np.array(first)


def test_equals_the_loop_over_images_and_draws():
    """On real arithmetic, random pixels and a linear model of three classes."""
    images = jax.random.uniform(jax.random.key(1), (24, 4, 4, 1))
    weights = jax.random.normal(jax.random.key(2), (16, 3))
    logits_fn = Partial(lambda w, x: (x - 0.5).reshape(x.shape[0], -1) @ w, weights)
    labels = jnp.argmax(logits_fn(images), -1)
    ids = np.arange(24) * 7 + 3
    perturbation = perturbations.random_pixels(max_pixels=8)
    expected = one_by_one(logits_fn, perturbation, images, labels, ids, 12)
    scores = rpr.score(
        logits_fn,
        KEY,
        images,
        labels,
        max_steps=12,
        perturbation=perturbation,
        example_ids=ids,
        devices=ONE,
    )
    np.testing.assert_array_equal(scores.first_failure, expected)
    assert 0 < scores.robust.sum() < 24
    assert len(np.unique(expected)) > 3
    assert scores.clean_correct.all()
    np.testing.assert_array_equal(scores.labels, labels)
    lines = repr(scores).splitlines()
    assert lines[0].startswith(
        "rpr.score: 24 images, up to 12 draws of RandomPixels (max_pixels 8) each"
    )
    shown = [f"{100 * scores.robust.mean():.1f}", f"{scores.steps.mean():.4g}"]
    assert [lines[-1].split()[i] for i in (3, -1)] == shown


def test_survival_of_a_known_failure_probability():
    """S(t) = (1 - p)^t: n = 4,000, p = 0.05, five standard deviations at every t."""
    scores = score(np.full(4000, 0.05), max_steps=40)
    labels = np.zeros(4000, int)
    curve = rpr.survival_curve(scores.first_failure, 40, labels, num_classes=1).overall
    expected = 0.95 ** np.arange(41)
    bound = 5 * np.sqrt(expected * (1 - expected) / 4000)
    assert np.all(np.abs(curve - expected) <= bound)
    # Mean steps, (1 - (1 - p)^T) / p = 17.43; its standard deviation over T = 40 is below 14.
    assert abs(scores.steps.mean() - (1 - 0.95**40) / 0.05) < 5 * 14 / 4000**0.5


def test_batch_size_order_and_devices_do_not_matter(monkeypatch):
    expected = score(MIXED)
    eight = jax.devices()[:8]
    assert len(eight) == 8
    monkeypatch.setattr(scoring, "_IMAGES_PER_LANE", 1)
    for batch_size, devices in ((3, ONE), (128, ONE), (None, eight)):
        scores = score(MIXED, batch_size=batch_size, devices=devices)
        np.testing.assert_array_equal(scores.first_failure, expected.first_failure)
        np.testing.assert_array_equal(scores.clean_correct, expected.clean_correct)
    order = np.random.default_rng(1).permutation(len(MIXED))
    shuffled = score(MIXED[order], example_ids=order)
    np.testing.assert_array_equal(shuffled.first_failure, expected.first_failure[order])
    few = score(MIXED[order[:5]], example_ids=order[:5])
    np.testing.assert_array_equal(few.first_failure, expected.first_failure[order[:5]])


def test_draws_do_not_depend_on_max_steps():
    """A shorter run is the longer one cut off, and another key is another run."""
    long, short = score(MIXED), score(MIXED, max_steps=7)
    np.testing.assert_array_equal(short.first_failure, np.minimum(long.first_failure, 8))
    assert np.all(short.steps == np.minimum(long.first_failure, 7))
    assert np.all(short.robust == (long.first_failure > 7))


@pytest.mark.parametrize("max_steps", [1, 20])
def test_all_fail_and_none_fails(max_steps):
    scores = score(np.ones(50), max_steps)
    assert np.all(scores.first_failure == 1)
    assert not scores.robust.any()
    assert scores.forward_passes_needed == 50
    scores = score(np.zeros(50), max_steps)
    assert np.all(scores.first_failure == max_steps + 1)
    assert np.all(scores.steps == max_steps)
    assert scores.robust.all()
    assert scores.forward_passes_needed == 50 * max_steps


def test_one_image():
    assert score([0.0]).first_failure.tolist() == [21]


def test_clean_errors_are_told_and_still_scored():
    """The clean draw is 0.5; label 1 is right where the image fails."""
    scores = score([0.2, 0.7, 0.7], labels=np.array([0, 0, 1]))
    assert scores.clean_correct.tolist() == [True, False, True]


def test_hardly_a_pass_is_wasted():
    """Ten thousand images need 1.15 at most; these 2,000 are harder, the tail weighs five times."""
    probabilities = np.random.default_rng(2).choice([0.0, 0.01, 0.3], 2000, p=[0.6, 0.2, 0.2])
    scores = score(probabilities, max_steps=60, batch_size=64)
    assert scores.forward_passes_needed == scores.steps.sum()
    assert scores.forward_passes_run <= 1.05 * scores.forward_passes_needed
    fixed = 50 * int(np.max(scores.steps.reshape(-1, 50), axis=1).sum())
    assert fixed > 1.3 * scores.forward_passes_run


def test_lanes_are_compacted(monkeypatch):
    """What one long tail costs: 31 lanes of 32 fail at once and one goes on for 200 draws."""
    monkeypatch.setattr(scoring, "_IMAGES_PER_LANE", 1)
    monkeypatch.setattr(lanes, "FEWEST_LANES", 8)
    probabilities = np.ones(32)
    probabilities[5] = 0.0
    scores = score(probabilities, max_steps=200, batch_size=32)
    assert scores.forward_passes_needed == 231
    assert scores.forward_passes_run == 32 + 199 * 8
    monkeypatch.setattr(lanes, "FEWEST_LANES", 2)
    scores = score(probabilities, max_steps=200, batch_size=32)
    assert scores.forward_passes_run == 32 + 199 * 2
    assert scores.first_failure[5] == 201


def test_chosen_lanes():
    assert scoring._num_lanes(10_000, None, "cpu", 8) == 256
    assert scoring._num_lanes(10_000, None, "gpu", 8) == 1024
    assert scoring._num_lanes(360, None, "cpu", 8) == 32
    assert scoring._num_lanes(360, None, "cpu", 1) == 256
    assert scoring._num_lanes(5, None, "cpu", 8) == 5
    assert scoring._num_lanes(360, 256, "cpu", 8) == 32
    assert scoring._num_lanes(10_000, 100, "cpu", 8) == 100
    assert scoring._num_lanes(10_000, 3, "gpu", 8) == 3


def test_chosen_blocks():
    """About even, the same for all, within 4,096 a device on a CPU and 256 MiB anywhere."""
    eight_bit = jax.ShapeDtypeStruct((10_000, 28, 28, 1), np.uint8)
    assert scoring._block_size(Sized(eight_bit), 1, "cpu") == 3334
    assert scoring._block_size(Sized(eight_bit), 8, "cpu") == 10_000
    assert scoring._block_size(Sized(eight_bit), 1, "gpu") == 10_000
    large = jax.ShapeDtypeStruct((100_000, 512, 512, 4), np.float32)
    assert scoring._block_size(Sized(large), 1, "gpu") == 64


class Sized:
    def __init__(self, like):
        self.shape, self.dtype = like.shape, like.dtype

    def __len__(self):
        return self.shape[0]


def test_eight_bit_images_are_the_same_as_their_floats():
    images = np.random.default_rng(0).integers(0, 256, (30, 1, 1, 2), np.uint8)
    arguments = {"max_steps": 20, "perturbation": redraw, "devices": ONE}
    labels = np.zeros(30, int)
    small = rpr.score(LOGITS_FN, KEY, images, labels, **arguments)
    wide = rpr.score(LOGITS_FN, KEY, images.astype(np.float32) / 255, labels, **arguments)
    np.testing.assert_array_equal(small.first_failure, wide.first_failure)
    np.testing.assert_array_equal(small.clean_correct, wide.clean_correct)


def test_a_plain_function_and_new_weights():
    calls = []

    def apply(scale, images):
        # No numbers: a function that reads numbers counts as plain.
        calls.append(jax.ShapeDtypeStruct(images.shape, images.dtype))
        return scale * threshold(jnp.zeros(3), images)

    def run(logits_fn):
        return rpr.score(
            logits_fn,
            KEY,
            make_images(MIXED),
            np.zeros(len(MIXED), int),
            max_steps=20,
            perturbation=redraw,
            devices=ONE,
        ).first_failure

    def plain(images):
        return apply(1.0, images)

    expected = score(MIXED).first_failure
    np.testing.assert_array_equal(run(plain), expected)
    np.testing.assert_array_equal(run(Partial(apply, jnp.float32(1.0))), expected)
    traced = len(calls)
    np.testing.assert_array_equal(run(Partial(apply, jnp.float32(2.0))), expected)
    assert len(calls) == traced
    run(plain)  # is traced at each call, once for each shape
    assert len(calls) == traced + len(set(calls))


def test_progress_tells_how_far_it_is():
    seen = []
    scores = score(MIXED, progress=seen.append)
    assert all(s.of == len(MIXED) for s in seen)
    robust = [s.figures["survivors"] - (s.of - s.done) for s in seen]
    for values in ([s.done for s in seen], robust, [s.figures["passes"] for s in seen]):
        assert values == sorted(values)
    assert len(seen) > 1
    assert seen[-1].done == len(MIXED)
    assert seen[-1].figures["survivors"] == robust[-1] == scores.robust.sum()
    assert seen[-1].figures["passes"] == scores.forward_passes_run


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": make_images([2.0])}, "images range from 0.5 to 2"),
        ({"images": make_images([0.5])[0]}, "images has shape"),
        ({"images": make_images([])}, "images holds no image"),
        ({"labels": np.array([3])}, "labels holds 3; allowed: 0 to 2"),
        ({"labels": np.array([0, 0])}, r"labels has shape \(2,\)"),
        ({"example_ids": np.array([-1])}, "example_ids holds -1"),
        ({"max_steps": 0}, "max_steps is 0"),
        (
            {"max_steps": 3 * 10**9},
            "max_steps is 3000000000; it must be .* at least 1 and at most 1000000000",
        ),
        ({"perturbation": "rotation"}, "perturbation is 'rotation'; it must be a function"),
        (
            {"perturbation": lambda key, image: image[:1, :0]},
            r"perturbation returns float32 of shape \(.*\); it must return an image like the one",
        ),
        (
            {"perturbation": lambda key, image: (255 * image).astype(jnp.uint8)},
            "perturbation returns uint8",
        ),
        ({"perturbation": lambda key, image: None}, "perturbation returns None; it must return"),
        ({"stop": 0.1}, "stop is 0.1; it must be an rpr.Flattening"),
        ({"devices": []}, "devices is empty"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"key": jax.random.split(KEY, 2)}, "key"),
        ({"key": jax.random.PRNGKey(0)}, "key"),
    ],
)
def test_wrong_input(change, message):
    call = {
        "logits_fn": LOGITS_FN,
        "key": KEY,
        "images": make_images([0.5]),
        "labels": np.array([0]),
        "max_steps": 5,
        "perturbation": redraw,
        "devices": ONE,
        **change,
    }
    with pytest.raises(ValueError, match=message) as error:
        rpr.score(**call)
    assert "\n" not in str(error.value)


def test_perturbations_are_held_to_the_range_and_one_that_is_nan_fails():
    """Of six images the first three are perturbed to NaN by the second draw, or out of [0, 1]."""
    images = np.full((6, 2, 2, 1), 0.5, np.float32)
    images[:3] = 0.25

    def broken(key, image):
        number = jax.random.key_data(key)[-1] % 4  # of a key, whatever it is
        return jnp.where((image < 0.4) & (number == 0), jnp.nan, image)

    def far(key, image):
        return jnp.where(image < 0.4, -jnp.inf, 9.0)

    def blind(images):  # finite, and right, whatever it is shown
        return jnp.array([1.0, 0.0]) + 0 * jnp.nan_to_num(images[:, 0, 0])

    def seen(images):  # class 0 in [0, 1] alone
        inside = jnp.all((images >= 0) & (images <= 1), axis=(1, 2, 3))
        return jax.nn.one_hot(jnp.where(inside, 0, 1), 2)

    labels = np.zeros(6, int)
    for model in (blind, rpr.black_box(lambda images: np.zeros(len(images), int))):
        scores = rpr.score(model, KEY, images, labels, max_steps=64, perturbation=broken)
        np.testing.assert_array_equal(scores.robust, [False] * 3 + [True] * 3)
        np.testing.assert_array_equal(scores.no_class, ~scores.robust)
        assert np.all(scores.first_failure >= 1)
    scores = rpr.score(seen, KEY, images, labels, max_steps=2, perturbation=far)
    assert scores.robust.all()
    assert not scores.no_class.any()


def test_answers_of_no_class_are_failures_of_every_measure():
    images = np.random.default_rng(0).random((3, 2, 2, 1)).astype(np.float32)
    labels, noise = np.zeros(3, int), perturbations.gaussian_noise(sigma=0.1)

    def nan(images):
        return images.reshape(len(images), -1)[:, :2] * jnp.nan

    repeated = rpr.score_repeatedly(
        nan, KEY, images, labels, repetitions=2, max_steps=3, perturbation=noise
    )
    np.testing.assert_array_equal(repeated.first_failure, np.ones((3, 2)))
    assert repeated.no_class.all()
    closed = taylor(nan, images, labels, sigma=0.1)
    np.testing.assert_array_equal(closed.failure_probability, np.ones(3))
    split = failure_probability(nan, KEY, images, labels, scale=0.1, num_particles=10)
    np.testing.assert_array_equal(split.log10_probability, np.zeros(3))
    assert split.converged.all()
    drawn = error_against_draws(
        np.ones(3), nan, KEY, images, labels, perturbation=noise, num_draws=5
    )
    np.testing.assert_array_equal(drawn.drawn, np.ones(3))
