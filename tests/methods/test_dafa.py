"""DAFA's weights by hand, what is done with them, and what they leave where nothing is traded."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import command_line, methods
from rbjax import config as schema
from rbjax.methods.dafa import traded_weights
from rbjax.training import hooks
from tests.training.recipes import (
    BATCH,
    CLASSES,
    KEY,
    assert_close,
    assert_equal,
    initial,
    make_recipe,
    make_split,
    run,
    told,
)

ATTACK = {"epsilon": 0.1, "num_steps": 2}


@pytest.fixture(scope="module")
def split():
    return make_split()


def test_weights_by_hand():
    """Class 1 is the hardest: it gains from both, and class 0, the easiest, gives to both."""
    p = np.array([[0.8, 0.15, 0.05], [0.3, 0.4, 0.3], [0.1, 0.3, 0.6]])
    expected = [1 - 0.3 * 0.8 - 0.1 * 0.8, 1 + 0.3 * 0.8 + 0.3 * 0.6, 1 - 0.3 * 0.6 + 0.1 * 0.8]
    np.testing.assert_allclose(traded_weights(p, 1.0), expected, rtol=1e-6)
    halves = 1 + (np.array(expected) - 1) / 2
    np.testing.assert_allclose(traded_weights(p, 0.5), halves, rtol=1e-6)
    np.testing.assert_array_equal(traded_weights(p, 0.0), 1)


def test_what_is_given_is_gained():
    p = np.random.default_rng(0).dirichlet(np.full(10, 0.3), 10)
    np.testing.assert_allclose(traded_weights(p, 0.3).sum(), 10, rtol=1e-6)
    np.testing.assert_array_equal(traded_weights(np.full((4, 4), 0.25), 1.0), 1)  # none is harder
    drained = np.array([[0.9, 0.1], [0.9, 0.1]])
    np.testing.assert_allclose(traded_weights(drained, 2.0), [0.0, 1 + 2 * 0.81], rtol=1e-6)


@pytest.mark.parametrize("form", ["trades", "pgd"])
def test_where_nothing_is_traded_it_is_the_plain_method(split, form):
    """After the weights were computed, with sizes of their own and those of the attack."""
    plain = make_recipe(methods.create(form, **ATTACK, step_size=0.03))
    recipe = make_recipe(
        methods.dafa(form=form, **ATTACK, step_size=0.03, scale=0.0, warmup_epochs=1)
    )
    expected, actual = initial(plain), initial(recipe)
    for number in (1, 2):
        expected, _ = run(plain, split, state=expected)
        actual, _ = run(recipe, split, state=actual)
        actual = hooks.after_epoch(recipe.method, KEY, actual, told(number))
        assert_equal(actual.variables, expected.variables)


def test_similarities_are_means_over_the_epoch_and_forgotten_after_it(split):
    recipe = make_recipe(methods.dafa(form="pgd", epsilon=0.0, scale=1.0, warmup_epochs=2))
    before = initial(recipe)
    images = jnp.asarray(split[0] / np.float32(255))
    p = jax.nn.softmax(recipe.model.apply(before.variables, images))
    mean = np.stack([p[split[1] == c].mean(axis=0) for c in range(CLASSES)])
    first, _ = run(recipe, split, num_devices=8)
    known = first.method_state.replicated
    assert_close(known.probabilities / known.count[:, None], mean)
    np.testing.assert_array_equal(known.weights, 1)
    early = hooks.after_epoch(recipe.method, KEY, first, told(1))
    np.testing.assert_array_equal(early.method_state.replicated.weights, 1)
    after = hooks.after_epoch(recipe.method, KEY, first, told(2))
    weights = after.method_state.replicated.weights
    np.testing.assert_allclose(weights, traded_weights(mean, 1.0), rtol=1e-5)
    assert np.ptp(weights) > 0.05
    for state in (early, after):
        assert not state.method_state.replicated.count.any()
        assert not state.method_state.replicated.probabilities.any()


def test_weights_multiply_radius_and_clean_loss(split):
    method = methods.dafa(epsilon=0.04, num_steps=8, beta=0.0)
    recipe = make_recipe(method)
    state, images = initial(recipe), jnp.full((BATCH, 8, 8, 1), 0.5)
    weights = np.array([0.5, 1.0, 2.0], np.float32)
    known = state.method_state.replicated._replace(weights=weights)
    state = state._replace(method_state=state.method_state._replace(replicated=known))

    def logits_fn(x):
        return x.reshape(len(x), -1) @ jnp.linspace(-1, 1, 64 * CLASSES).reshape(64, CLASSES)

    keys = jax.random.split(KEY, BATCH)
    _, moved, _ = method.inputs(logits_fn, keys, state.method_state, images, jnp.asarray(split[1]))
    sizes = np.max(np.abs(moved - images), axis=(1, 2, 3))
    np.testing.assert_allclose(sizes, 0.04 * weights[split[1]], atol=1e-6)
    _, metrics = run(recipe, split, state=state)
    logits = recipe.model.apply(state.variables, jnp.asarray(split[0] / np.float32(255)))
    losses = weights[split[1]] * recipe.loss_fn(logits, split[1])
    np.testing.assert_allclose(metrics.loss[0], np.mean(losses), rtol=1e-5)


def test_a_warm_up_as_long_as_the_run_is_refused(tmp_path):
    config = schema.default()
    config.method.name, config.num_epochs = "dafa", 70
    with pytest.raises(ValueError, match=r"method: warmup_epochs = 70: must be below num_epochs"):
        command_line.resolve(config, str(tmp_path))
