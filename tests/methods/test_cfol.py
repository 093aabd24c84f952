"""CFOL's distribution and its update by hand, and what is left without an update."""

import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import command_line, methods
from rbjax import config as schema
from rbjax.methods.cfol import class_distribution
from rbjax.training.method import MethodState, Setting
from tests.training.recipes import (
    CLASSES,
    KEY,
    assert_equal,
    initial,
    make_model,
    make_recipe,
    make_split,
    run,
)

ATTACK = {"epsilon": 0.1, "num_steps": 2}


@pytest.fixture(scope="module")
def split():
    return make_split()


def test_the_distribution_by_hand():
    log_weights = jnp.log(jnp.array([1.0, 2.0, 5.0]))
    for share in (0.0, 0.5, 1.0):
        expected = share / 3 + (1 - share) * np.array([1, 2, 5]) / 8
        np.testing.assert_allclose(class_distribution(log_weights, share), expected, rtol=1e-6)


def test_equal_classes_are_drawn_alike_to_the_last_bit():
    for num_classes in (2, 3, 7, 10, 43, 100):
        drawn = class_distribution(jnp.full(num_classes, 0.3), 0.5)
        shares = jnp.ones(num_classes) / jnp.float32(num_classes)
        np.testing.assert_array_equal(drawn / shares, 1)


def test_without_updates_it_is_pgd(split):
    expected, _ = run(make_recipe(methods.pgd(**ATTACK)), split, num_steps=2)
    actual, _ = run(make_recipe(methods.cfol(**ATTACK, rate=0.0)), split, num_steps=2)
    assert_equal(actual.variables, expected.variables)


def test_one_step_by_hand_with_classes_of_other_sizes(split):
    """The loss counts p / q times, and a mistake moves w by rate / q, over eight devices."""
    recipe = make_recipe(methods.cfol(epsilon=0.0, rate=0.25, uniform_share=0.5))
    state = initial(recipe)
    counts = np.array([10, 30, 60])
    setting = Setting(make_model("mlp", None), state.variables, None, 16, counts)
    own = recipe.method.init(KEY, setting).replicated._replace(log_weights=np.log([1.0, 2, 5]))
    state = state._replace(method_state=MethodState(own, ()))
    logits = recipe.model.apply(state.variables, jnp.asarray(split[0] / np.float32(255)))
    q, p = counts / 100, 0.5 / 3 + 0.5 * np.array([1, 2, 5]) / 8
    after, metrics = run(recipe, split, num_devices=8, state=state)
    losses = (p / q)[split[1]] * recipe.loss_fn(logits, split[1])
    np.testing.assert_allclose(metrics.loss[0], losses.mean(), rtol=1e-5)
    mistakes = np.bincount(split[1], np.argmax(logits, axis=1) != split[1], CLASSES)
    assert 0 < mistakes.sum() < 16
    expected = np.log([1, 2, 5]) + 0.25 * mistakes / q
    np.testing.assert_allclose(after.method_state.replicated.log_weights, expected, rtol=1e-5)
    np.testing.assert_allclose(after.method_state.replicated.shares, q, rtol=1e-6)


def test_a_sampler_that_favours_classes_is_refused():
    config = schema.default()
    config.method.name = "cfol"
    command_line.resolve(config.copy_and_resolve_references(), "runs/cfol")
    config.sampler.name = "class_aware"
    with pytest.raises(ValueError, match=r"sampler.name = 'class_aware': the method 'cfol' .* twi"):
        command_line.resolve(config, "runs/cfol")
    config.method.name = "pgd"
    command_line.resolve(config, "runs/cfol")
