from __future__ import annotations

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from rbjax import attacks, prng
from rbjax.attacks.transfer import transfer
from tests.attacks.linear import IMAGES, LABELS, LOGITS_FN, NUM_CLASSES, NUM_IMAGES, WEIGHTS, linear

KEYS = prng.per_example(jax.random.key(0), jnp.arange(NUM_IMAGES))
OTHER = Partial(linear, jnp.roll(WEIGHTS, 1, axis=0))
QUICK = {
    "num_steps": 3,
    "num_targets": 2,
    "num_queries": 20,
    "search_steps": 2,
    "num_candidates": 3,
}


def quick(name):
    known = inspect.signature(attacks.ATTACKS[name]).parameters
    return attacks.create(name, epsilon=0.1, **{k: v for k, v in QUICK.items() if k in known})


@pytest.mark.parametrize("name", attacks.compiled())
def test_from_a_model_to_itself_it_is_the_attack(name):
    attack = quick(name)
    own = attack(LOGITS_FN, KEYS, IMAGES, LABELS)
    moved = transfer(attack, LOGITS_FN)
    result = moved(LOGITS_FN, KEYS, IMAGES, LABELS)
    for one, other in zip(own, result, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert (moved.threat, moved.plan, moved.epsilon) == (attack.threat, attack.plan, 0.1)


def test_crafted_on_one_model_and_judged_on_the_other():
    attack = attacks.pgd(epsilon=0.1, num_steps=3)
    crafted = attack(OTHER, KEYS, IMAGES, LABELS)
    result = transfer(attack, OTHER)(LOGITS_FN, KEYS, IMAGES, LABELS)
    np.testing.assert_array_equal(result.images, crafted.images)
    logits = LOGITS_FN(crafted.images)
    predictions = jnp.argmax(logits, -1)
    np.testing.assert_array_equal(result.predictions, predictions)
    np.testing.assert_array_equal(result.fooled, predictions != LABELS)
    assert 0 < result.fooled.sum() < crafted.fooled.sum()
    losses = -jax.nn.log_softmax(logits)[jnp.arange(NUM_IMAGES), LABELS]
    np.testing.assert_allclose(result.loss, losses, rtol=1e-5)


def test_sizes_and_targets_of_a_call():
    targets, epsilon = (LABELS + 1) % NUM_CLASSES, jnp.linspace(0, 0.2, NUM_IMAGES)
    options = {"targets": targets, "epsilon": epsilon, "step_size": 0.05}
    attack = attacks.pgd(epsilon=0.1, num_steps=3)
    crafted = attack(OTHER, KEYS, IMAGES, LABELS, **options)
    result = transfer(attack, OTHER)(LOGITS_FN, KEYS, IMAGES, LABELS, **options)
    np.testing.assert_array_equal(result.images, crafted.images)
    np.testing.assert_array_equal(result.images[0], IMAGES[0])
    np.testing.assert_array_equal(result.fooled, result.predictions == targets)


def test_a_loss_of_clean_logits_is_of_the_models_own():
    """KL compares with what the model says of the image as it was, not as it was moved."""
    attack = attacks.pgd(epsilon=0.1, num_steps=1, loss="kl")
    result = transfer(attack, OTHER)(LOGITS_FN, KEYS, IMAGES, LABELS)
    clean, moved = (jax.nn.log_softmax(LOGITS_FN(x)) for x in (IMAGES, result.images))
    expected = jnp.sum(jnp.exp(clean) * (clean - moved), axis=1)
    np.testing.assert_allclose(result.loss, expected, rtol=1e-4, atol=1e-6)


def test_randomised_models():
    def noisy(keys, images):
        return linear(WEIGHTS, images) + jax.vmap(jax.random.normal)(keys)[:, None]

    model = attacks.randomized(noisy, num_samples=2)
    attack = attacks.fgsm(epsilon=0.1)
    own = attack(model, KEYS, IMAGES, LABELS)
    result = transfer(attack, model)(model, KEYS, IMAGES, LABELS)
    for one, other in zip(own, result, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    result = transfer(attack, model)(LOGITS_FN, KEYS, IMAGES, LABELS)
    np.testing.assert_array_equal(result.predictions, jnp.argmax(LOGITS_FN(result.images), -1))


def test_other_weights_do_not_compile_again():
    traces = []

    def counted(weights, images):
        traces.append(None)  # no number: a function that reads numbers counts as plain
        return linear(weights, images)

    attack = attacks.fgsm(epsilon=0.1)

    def call(source, model):
        return transfer(attack, Partial(counted, source))(
            Partial(counted, model), KEYS, IMAGES, LABELS
        )

    first = call(WEIGHTS, OTHER.args[0])
    count = len(traces)
    second = call(OTHER.args[0], WEIGHTS)
    assert len(traces) == count
    assert np.any(first.images != second.images)

    @jax.jit
    def inside(attack, logits_fn):
        return attack(logits_fn, KEYS, IMAGES, LABELS)

    moved = transfer(attack, Partial(counted, WEIGHTS))
    result = inside(moved, Partial(counted, OTHER.args[0]))
    count = len(traces)
    np.testing.assert_allclose(result.images, first.images, atol=1e-6)
    np.testing.assert_array_equal(result.fooled, first.fooled)
    inside(transfer(attack, Partial(counted, OTHER.args[0])), Partial(counted, WEIGHTS))
    assert len(traces) == count


def test_wrong_input():
    attack = attacks.fgsm(epsilon=0.1)
    with pytest.raises(ValueError, match="attack is a function; it must be an attack"):
        transfer(attacks.fgsm, LOGITS_FN)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="source is a ndarray; it must be a function"):
        transfer(attack, np.zeros(3))  # type: ignore[arg-type]
    few = Partial(linear, WEIGHTS[:, :4])
    with pytest.raises(ValueError, match="source has 4 classes; it must have the model's, 5"):
        transfer(attack, few)(LOGITS_FN, KEYS, IMAGES, jnp.minimum(LABELS, 3))
    with pytest.raises(ValueError, match="not called with 'eps'; did you mean 'epsilon'"):
        transfer(attack, OTHER)(LOGITS_FN, KEYS, IMAGES, LABELS, eps=0.1)
    for call in (attack, transfer(attack, OTHER)):
        with pytest.raises(ValueError, match="images holds no image"):
            call(LOGITS_FN, KEYS[:0], IMAGES[:0], LABELS[:0])


def test_labels_and_targets_in_a_list():
    attack = transfer(attacks.fgsm(epsilon=0.1), OTHER)
    targets = (LABELS + 1) % 5
    expected = attack(LOGITS_FN, KEYS, IMAGES, LABELS, targets=targets)
    listed: Any = LABELS.tolist(), targets.tolist()
    result = attack(LOGITS_FN, KEYS, IMAGES, listed[0], targets=listed[1])
    np.testing.assert_array_equal(result.fooled, expected.fooled)
