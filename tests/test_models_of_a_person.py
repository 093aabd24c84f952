"""Every entry point that goes through a dataset takes every form of a model."""

from __future__ import annotations

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import attacks, corruptions, perturbations, rpr
from rbjax.rpr.closed_form import taylor

KEY = jax.random.key(0)
IMAGES = np.random.default_rng(0).random((12, 8, 8, 3)).astype(np.float32)
IMAGES[:, 0, 0] = np.linspace(0.1, 0.9, 12, dtype=np.float32)[:, None]
IMAGES[:, 0, 1] = 0.1  # so that a model can tell the row, also of brighter images
LABELS = jnp.zeros(12, jnp.int32)
ATTACK = attacks.fgsm(epsilon=1e-4)
NOISE = perturbations.gaussian_noise(sigma=1e-4)


def suite(model):
    return attacks.run_attacks(model, KEY, IMAGES, LABELS, attacks={"a": ATTACK})


def universal(model):
    crafted = attacks.craft_universal(model, KEY, IMAGES, LABELS, epsilon=1e-4, num_epochs=1)
    return attacks.evaluate_universal(model, IMAGES, LABELS, crafted.delta)


ENTRY_POINTS = {
    "run_attacks, clean": lambda model: suite(model).clean == LABELS,
    "run_attacks": lambda model: suite(model).outcomes["a"].correct,
    "run_autoattack": lambda model: (
        attacks.run_autoattack(
            model,
            KEY,
            IMAGES,
            LABELS,
            epsilon=1e-6,
            version="rand" if is_random(model) else "standard",
        ).robust
    ),
    "rpr.score": lambda model: (
        rpr.score(model, KEY, IMAGES, LABELS, max_steps=2, perturbation=NOISE).robust
    ),
    "rpr.score, clean": lambda model: (
        rpr.score(model, KEY, IMAGES, LABELS, max_steps=1, perturbation=NOISE).clean_correct
    ),
    "run_corruptions": lambda model: (
        corruptions.run_corruptions(
            model, KEY, IMAGES, LABELS, profile="cifar", severities={"brightness": (1,)}
        ).predictions["brightness"][0]
        == LABELS
    ),
    "universal": lambda model: universal(model).predictions == LABELS,
}


ROWS = [0.0, np.nan, 0.0, np.inf, -np.inf, 0.0, 0.0, 0.0, np.nan, 0.0, 0.0, 0.0]
"""What is added to all logits of each image; 0 leaves it right."""


def partly(images):
    """Logits of the first class, but for rows of no class, and a NaN for one class alone."""
    row = jnp.rint((images[:, 0, 0, 0] - images[:, 0, 1, 0]) * 11 / 0.8).astype(jnp.int32)
    of_class = jnp.where((row == 6)[:, None] & (jnp.arange(3) == 2), jnp.nan, 0.0)
    logits = 0.01 * images.reshape(len(images), -1)[:, :3] + jnp.array([5.0, 0.0, 0.0])
    # A class that is masked makes no row one of none.
    masked = jnp.where((row == 7)[:, None] & (jnp.arange(3) == 1), -jnp.inf, 0.0)
    return (logits + of_class + masked + jnp.array(ROWS)[row][:, None]).astype(jnp.bfloat16)


@pytest.mark.parametrize("name", sorted({*ENTRY_POINTS} - {"run_autoattack"}))
def test_rows_of_no_class_are_wrong_and_no_others(name):
    right = np.array(ROWS) == 0
    right[6] = False
    np.testing.assert_array_equal(ENTRY_POINTS[name](partly), right)


@pytest.mark.parametrize("ask", ENTRY_POINTS.values(), ids=ENTRY_POINTS)
@pytest.mark.parametrize("shape", [(-1, 1), (-1,)])
def test_one_logit_is_refused(ask, shape):
    with pytest.raises(ValueError, match="one logit an image; it must give one a class"):
        ask(lambda images: images[:, 0, 0, 0].reshape(shape))


def is_random(model):
    return isinstance(model, attacks.Classifier)


class Biased:
    """A model whose bias is exchanged; what it says of an image hangs on the bias alone."""

    def __init__(self):
        self.choose(0)

    def choose(self, label):
        self.bias = 5.0 * jax.nn.one_hot(label, 3)

    def logits(self, images):
        return 0.01 * images.reshape(len(images), -1)[:, :3] + self.bias

    def noisy(self, keys, images):
        noise = jax.vmap(lambda key: jax.random.normal(key, (3,)))(keys)
        return self.logits(images) + 0.01 * noise


@pytest.mark.parametrize("ask", ENTRY_POINTS.values(), ids=ENTRY_POINTS)
def test_the_weights_of_the_moment_and_nothing_is_kept(ask):
    model = Biased()
    for take in (
        lambda model: model.logits,
        lambda model: attacks.randomized(model.noisy, num_samples=2),
    ):
        model.choose(0)
        assert np.all(ask(take(model)))
        model.choose(1)
        assert not np.any(ask(take(model)))
    kept = weakref.ref(model), weakref.ref(model.bias)
    del model
    gc.collect()
    assert [reference() for reference in kept] == [None, None]


def test_what_jax_remembers_of_a_function_is_not_taken():
    model = Biased()

    def add(carry, _):
        return carry + model.bias, None

    forms = (
        jax.checkpoint(lambda images: model.logits(images)),
        lambda images: jax.lax.scan(add, 0.01 * images[:, 0, 0], length=1)[0],
        attacks.randomized(model.noisy, num_samples=2),
    )
    transferred = attacks.transfer(ATTACK, forms[0])
    arguments = KEY, jnp.asarray(IMAGES), jnp.asarray(LABELS)
    for label in (0, 1, 0):
        model.choose(label)
        for form in forms:
            for attack in (ATTACK, transferred):
                np.testing.assert_array_equal(attack(form, *arguments).predictions, label)


def test_each_draw_of_a_score_is_of_another_draw_of_the_model():
    """Of 3 classes drawn at random the first is right in 1 of 3 draws, whatever the image."""

    def guess(keys, images):
        return jax.vmap(lambda key: jax.random.normal(key, (3,)))(keys) + 0 * images[:, 0, 0]

    images = np.broadcast_to(IMAGES[:1], (4096, 8, 8, 3))
    scores = rpr.score(
        attacks.randomized(guess, num_samples=1),
        KEY,
        images,
        np.zeros(4096, np.int32),
        max_steps=3,
        perturbation=NOISE,
    )
    # Five deviations of 4,096 draws are 0.037.
    assert scores.clean_correct.mean() == pytest.approx(1 / 3, abs=0.037)
    assert (scores.first_failure > 1).mean() == pytest.approx(1 / 3, abs=0.037)
    assert (scores.first_failure > 2).mean() == pytest.approx(1 / 9, abs=0.037)


def test_estimates_of_one_function_refuse_a_random_one():
    model = attacks.randomized(Biased().noisy)
    with pytest.raises(ValueError, match=r"logits_fn is a randomised classifier; .* fix the keys"):
        taylor(model, IMAGES, LABELS, sigma=0.1)


def test_a_black_box_goes_wherever_no_gradient_is_needed(tmp_path):
    offset = 0.0

    def predict(images):
        assert isinstance(images, np.ndarray)
        return (images.mean(axis=(1, 2, 3)) + offset > 0.5).astype(int)

    box = rpr.black_box(predict, num_classes=2, fingerprint="offset 0")
    expected = predict(IMAGES)
    assert 0 < expected.mean() < 1
    delta = np.full((8, 8, 3), 0.2, np.float32)
    evaluation = attacks.evaluate_universal(box, IMAGES, LABELS, delta)
    np.testing.assert_array_equal(evaluation.clean_predictions, expected)
    np.testing.assert_array_equal(evaluation.predictions, predict(np.clip(IMAGES + delta, 0, 1)))
    corrupted = corruptions.run_corruptions(
        box, KEY, IMAGES, LABELS, profile="cifar", severities={"brightness": (5,)}
    )
    np.testing.assert_array_equal(corrupted.clean, expected)
    square = {"square": attacks.square(epsilon=0.1, num_queries=20)}
    suite = attacks.run_attacks(box, KEY, IMAGES, LABELS, attacks=square, journal=tmp_path)
    np.testing.assert_array_equal(suite.clean, expected)
    assert np.all(suite.outcomes["square"].correct <= suite.clean_correct)
    with pytest.raises(ValueError, match="a black box has no gradients; it can be attacked by"):
        attacks.pgd(epsilon=0.1)(box, KEY, jax.numpy.asarray(IMAGES), jax.numpy.asarray(LABELS))
    with pytest.raises(ValueError, match="does not say how many classes there are"):
        suite = attacks.run_attacks(rpr.black_box(predict), KEY, IMAGES, LABELS, attacks=square)
    offset = 0.1  # another model under the same name
    other = rpr.black_box(predict, num_classes=2, fingerprint="offset 0.1")
    with pytest.raises(ValueError, match="belongs to a run with model"):
        attacks.run_attacks(other, KEY, IMAGES, LABELS, attacks=square, journal=tmp_path)
    unknown = rpr.black_box(predict, num_classes=2)
    with pytest.raises(ValueError, match=r"cannot be known; give black_box\(predict, fingerprint="):
        attacks.run_attacks(unknown, KEY, IMAGES, LABELS, attacks=square, journal=tmp_path)


STRENGTH = 0.0


def darker(key, image):
    return image - STRENGTH


def signed_loss(logits, labels):
    return (0.5 - STRENGTH) * jax.vmap(lambda row, label: -row[label])(logits, labels)


def slope_model(images):
    """Class 0 for what is bright."""
    mean = 10 * jnp.mean(images, axis=(1, 2, 3))
    return jnp.stack([mean, 4.5 - mean], axis=-1)


CHANGING = {
    "rpr.score": lambda x: (
        rpr.score(slope_model, KEY, x, LABELS, max_steps=1, perturbation=darker, devices=ONE).robust
    ),
    "rpr.score, a black box": lambda x: (
        rpr.score(
            rpr.black_box(lambda images: (np.mean(images, axis=(1, 2, 3)) < 0.225).astype(int)),
            *(KEY, x, LABELS),
            max_steps=1,
            perturbation=darker,
        ).robust
    ),
    "run_corruptions": lambda x: (
        corruptions.run_corruptions(
            *(slope_model, KEY, x, LABELS),
            profile="cifar",
            severities={},
            corruptions={"darker": darker},
        ).predictions["darker"][0]
        == LABELS
    ),
    "an attack": lambda x: (
        ~attacks.pgd(epsilon=0.3, step_size=0.3, num_steps=1, random_start=False, loss=signed_loss)(
            slope_model, KEY, x, LABELS
        ).fooled
    ),
}
ONE = jax.devices()[:1]


@pytest.mark.parametrize("call", CHANGING.values(), ids=CHANGING)
def test_a_function_that_reads_another_global_is_another_function(call, monkeypatch):
    images = np.full((12, 8, 8, 3), 0.4, np.float32)
    # Darkened by 1, or not at all; the loss is climbed, or its opposite.
    shares = []
    for strength in (0.0, 1.0, 0.0):
        monkeypatch.setitem(globals(), "STRENGTH", strength)
        shares.append(float(np.mean(call(images))))
    assert shares in ([1.0, 0.0, 1.0], [0.0, 1.0, 0.0])
