"""Targeted adversarial training: towards the class, or, of the class itself, away from it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import methods, prng
from rbjax.losses.adversarial import cross_entropy
from rbjax.methods import Epoch, MethodState
from rbjax.testing.training import make_train_set
from rbjax.training import hooks
from tests.training.recipes import KEY, initial, make_recipe

WEIGHTS = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
IMAGES = jnp.asarray(np.random.default_rng(1).random((9, 8, 8, 1)), jnp.float32)
LABELS = jnp.arange(9) % 3
KEYS = prng.per_example(KEY, jnp.arange(9))
OPTIONS: Any = {"epsilon": 0.05, "step_size": 0.02, "num_steps": 5}


def linear(images):
    return images.reshape(len(images), -1) @ (0.1 * WEIGHTS)


def crafted(method, target):
    state = MethodState(jnp.int32(target), ())
    return method.inputs(linear, KEYS, state, IMAGES, LABELS)


@pytest.mark.parametrize("target", [0, 2])
def test_others_come_nearer_to_the_target_and_its_own_images_are_those_of_pgd(target):
    found = crafted(methods.targeted(target_class=target, **OPTIONS), target)
    pgd = methods.pgd(**OPTIONS).inputs(linear, KEYS, MethodState((), ()), IMAGES, LABELS)
    own, aims = target == LABELS, jnp.full(9, target)
    np.testing.assert_array_equal(found[own], pgd[own])
    assert np.abs(found - IMAGES).max() <= 0.05 + 1e-6
    before, after = (np.asarray(cross_entropy(linear(x), aims)) for x in (IMAGES, found))
    assert np.all(after[~own] < before[~own])
    assert np.all(after[own] > before[own])
    # Of all images in the ball none is nearer: PGD without a target is not.
    away = np.asarray(cross_entropy(linear(pgd), aims))
    assert np.all(after[~own] <= away[~own] + 1e-5)
    assert np.any(after[~own] < away[~own] - 0.01)


def test_of_two_classes_the_target_is_reached_exactly():
    """The gradient is that of the logits' difference everywhere: the corner of the ball."""
    method = methods.targeted(target_class=1, **OPTIONS)
    state, labels = MethodState(jnp.int32(1), ()), jnp.zeros(9, int)
    found = method.inputs(lambda x: linear(x)[:, :2], KEYS, state, IMAGES, labels)
    step = np.sign(WEIGHTS[:, 1] - WEIGHTS[:, 0]).reshape(8, 8, 1)
    np.testing.assert_allclose(found, np.clip(IMAGES + 0.05 * step, 0, 1), atol=1e-6)


def test_while_no_class_is_known_it_is_pgd_bit_for_bit():
    pgd = methods.pgd(**OPTIONS).inputs(linear, KEYS, MethodState((), ()), IMAGES, LABELS)
    method = methods.targeted(**OPTIONS)
    np.testing.assert_array_equal(crafted(method, -1), pgd)
    assert initial(make_recipe(method)).method_state.replicated == -1


@pytest.mark.parametrize("answer", [0, 1])
def test_the_most_vulnerable_class_is_the_first_with_the_lowest_accuracy(answer, capsys):
    """A network that always gives one answer is wrong on all images of the others."""
    recipe = make_recipe(methods.targeted(**OPTIONS))
    state = initial(recipe)
    params = jax.tree.map(np.zeros_like, state.variables["params"])
    params["head"]["bias"] = np.eye(3, dtype=np.float32)[answer]
    state = state._replace(variables={**state.variables, "params": params})
    nothing: dict = dict.fromkeys(("train", "confusion", "train_set"))
    epoch = Epoch(
        number=1, num_epochs=2, validation_set=make_train_set(), model=recipe.model, **nothing
    )
    after = hooks.after_epoch(recipe.method, KEY, state, epoch)
    target = 1 if answer == 0 else 0
    assert after.method_state.replicated == target
    said = f"epoch 1: the target is {target}, 0.0% correct under attack"
    assert said in capsys.readouterr().out


def test_an_important_class_stays_and_must_exist():
    method = methods.targeted(target_class=2)
    assert method.after_epoch is None
    assert initial(make_recipe(method)).method_state.replicated == 2
    with pytest.raises(ValueError, match=r"method.target_class is 3; it must be between 0 and 2"):
        initial(make_recipe(methods.targeted(target_class=3)))
