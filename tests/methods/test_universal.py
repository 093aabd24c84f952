"""Perturbations learnt beside the weights: how they climb, for all images and for each class."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rbjax import methods
from rbjax.methods.universal import Climber, Perturbation
from tests.training.recipes import (
    BATCH,
    CLASSES,
    SHAPE,
    assert_close,
    assert_equal,
    initial,
    make_recipe,
    make_split,
    run,
)


@pytest.fixture(scope="module")
def split():
    return make_split()


def gradients_of(recipe, split):
    """Returns each image's gradient of the mean loss, at the first weights and delta = 0."""
    variables = initial(recipe).variables

    def loss(images):
        return jnp.mean(recipe.loss_fn(recipe.model.apply(variables, images), split[1]))

    return np.asarray(jax.grad(loss)(jnp.asarray(split[0] / np.float32(255))))


def test_adams_first_step_is_the_gradient_over_its_size(split):
    """With unbiased moments m = g and v = g^2: step_size g / (|g| + 1e-8)."""
    recipe = make_recipe(methods.universal(epsilon=0.1, step_size=0.05, ascent="adam"))
    gradient = gradients_of(recipe, split).sum(axis=0)
    after, _ = run(recipe, split)
    learnt = after.method_state.replicated
    expected = 0.05 * gradient / (np.abs(gradient) + 1e-8)
    assert np.abs(expected).max() > 0.0499
    np.testing.assert_allclose(learnt.delta, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(learnt.memory.first, 0.1 * gradient, rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(learnt.memory.second, 1e-3 * gradient**2, rtol=1e-4, atol=1e-12)
    assert learnt.memory.count == 1


def test_adam_ascends_as_optax_descends_and_is_projected():
    climber = Climber(epsilon=0.1, step_size=0.04, norm="linf", ascent="adam", loss_clip=None)
    gradients = np.random.default_rng(0).normal(size=(8, *SHAPE)).astype(np.float32)
    learnt, optimizer = climber.start(SHAPE), optax.adam(0.04)
    delta = jnp.zeros(SHAPE)
    opt_state = optimizer.init(delta)
    for gradient in gradients:
        learnt = climber.climb(learnt, jnp.asarray(gradient))
        updates, opt_state = optimizer.update(-jnp.asarray(gradient), opt_state)
        delta = jnp.clip(jnp.asarray(optax.apply_updates(delta, updates)), -0.1, 0.1)
    np.testing.assert_allclose(learnt.delta, delta, rtol=1e-5, atol=1e-6)
    assert np.sum(np.abs(delta) == np.float32(0.1)) > 3
    assert np.sum(np.abs(delta) < 0.09) > 20


@pytest.mark.parametrize("ascent", ["steepest", "adam"])
def test_of_one_class_alone_the_class_wise_perturbation_is_the_universal_one(split, ascent):
    """And the classes that the batch lacks keep theirs."""
    images, _, ids = split
    of_one = images, np.full(BATCH, 1, np.int32), ids
    options = {"epsilon": 1.0, "step_size": 0.01, "norm": "l2", "ascent": ascent}
    universal, _ = run(make_recipe(methods.universal(**options)), of_one, num_steps=3)
    each, _ = run(make_recipe(methods.classwise_universal(**options)), of_one, num_steps=3)
    assert_close(each.variables, universal.variables, 1e-6)
    one, several = universal.method_state.replicated, each.method_state.replicated
    assert several.delta.shape == (CLASSES, *SHAPE)
    assert np.abs(one.delta).max() > 0.001
    assert_close(jax.tree.map(lambda x: x[1], several), one, 1e-5)
    others = jax.tree.map(lambda x: x[np.array([0, 2])], several)
    assert_equal(others, jax.tree.map(jnp.zeros_like, others))


def test_each_class_climbs_its_own_gradient(split):
    recipe = make_recipe(methods.classwise_universal(epsilon=0.1))
    gradients = gradients_of(recipe, split)
    after, _ = run(recipe, split)
    for label, delta in enumerate(after.method_state.replicated.delta):
        own = gradients[split[1] == label].sum(axis=0)
        clear = np.abs(own) > 1e-6
        assert clear.sum() > 32
        np.testing.assert_allclose(delta[clear], 0.1 * np.sign(own[clear]), rtol=1e-6)


def test_each_image_has_the_perturbation_of_its_class():
    method = methods.classwise_universal(epsilon=0.5)
    deltas = jnp.arange(3.0).reshape(3, 1, 1, 1) / 4 * jnp.ones((1, *SHAPE))
    state = methods.MethodState(Perturbation(deltas, ()), ())
    images = jnp.full((4, *SHAPE), 0.6)
    seen = method.inputs(lambda x: x, None, state, images, jnp.array([2, 0, 1, 0]))  # pyright: ignore
    np.testing.assert_allclose(seen[:, 0, 0, 0], [1.0, 0.6, 0.85, 0.6], rtol=1e-6)


def test_eight_devices_give_the_numbers_of_one(split):
    """In l2, since a sign would turn rounding into whole steps."""
    options = {"epsilon": 1.0, "step_size": 0.3, "norm": "l2"}
    recipe = make_recipe(methods.classwise_universal(**options, form="alternating"))
    one, _ = run(recipe, split, num_steps=2)
    eight, _ = run(recipe, split, num_steps=2, num_devices=8)
    assert_close(eight, one)
    assert np.abs(one.method_state.replicated.delta).max() > 0.01
