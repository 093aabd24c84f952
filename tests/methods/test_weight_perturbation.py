"""Adversarial weight perturbation: by hand, and of size 0 nothing at all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import methods, prng
from rbjax.methods.weight_perturbation import worst_weights
from tests.training.recipes import (
    BATCH,
    KEY,
    RATE,
    assert_close,
    assert_equal,
    initial,
    make_recipe,
    make_split,
    run,
)

PERTURBED = ("pgd", "trades", "mart", "fast", "targeted", "shared")
PERTURBED += ("classwise_pgd", "cfa", "dafa", "cfol", "frl")
"""Methods that take the option."""


def test_each_kernel_moves_up_the_loss_by_its_share_and_nothing_else_does():
    params = {"kernel": jnp.array([[3.0, 0.0], [0.0, 4.0]]), "bias": jnp.ones(2), "frozen": None}
    gradient = {"kernel": jnp.array([[0.0, 2.0], [0.0, 0.0]]), "bias": jnp.ones(2), "frozen": None}
    descend_at = worst_weights(0.1)
    assert descend_at is not None
    moved = descend_at(lambda weights: gradient, params, methods.MethodState((), ()))
    np.testing.assert_allclose(moved["kernel"], [[3.0, 0.5], [0.0, 4.0]], rtol=1e-6)
    np.testing.assert_array_equal(moved["bias"], params["bias"])
    assert moved["frozen"] is None
    still = descend_at(
        lambda weights: jax.tree.map(jnp.zeros_like, gradient), params, methods.MethodState((), ())
    )
    assert_equal(still, params)


@pytest.mark.parametrize("name", PERTURBED)
def test_of_size_0_there_is_none(name):
    plain, of_size_0 = methods.create(name), methods.create(name, weight_perturbation=0.0)
    assert plain.descend_at is None
    assert of_size_0.descend_at is None
    assert methods.create(name, weight_perturbation=0.01).descend_at is not None


def test_too_small_to_move_a_weight_it_changes_no_bit():
    """Of size 1e-30 it adds less to a weight than float32 holds, but is computed all the same."""
    split = make_split()
    sizes = (0.0, 1e-30)
    made = [methods.pgd(epsilon=0.1, num_steps=2, weight_perturbation=gamma) for gamma in sizes]
    expected, actual = (
        run(make_recipe(method, model_name="normalized"), split)[0] for method in made
    )
    assert_equal(actual, expected)


def test_a_step_by_hand():
    """The statistics are those of the perturbed weights; the others move by their gradient."""
    split, gamma = make_split(), 0.2
    recipe = make_recipe(
        methods.pgd(epsilon=0.0, num_steps=1, weight_perturbation=gamma), model_name="normalized"
    )
    images, labels = jnp.asarray(split[0] / np.float32(255)), jnp.asarray(split[1])
    keys, state = prng.per_example(KEY, jnp.arange(BATCH)), initial(recipe)

    def loss(params):
        variables = {**state.variables, "params": params}
        logits, stats = recipe.model.apply_train(variables, images, keys)
        return jnp.mean(recipe.loss_fn(logits, labels)), stats

    loss = jax.jit(loss)
    grad = jax.jit(jax.grad(loss, has_aux=True))
    before = state.variables["params"]

    def perturbed(w, g):
        longer = gamma * jnp.sqrt(jnp.sum(w**2)) / jnp.sqrt(jnp.sum(g**2))
        return w + longer * g if w.ndim > 1 else w

    worst = jax.tree.map(perturbed, before, grad(before)[0])
    gradient, stats = grad(worst)
    after, metrics = run(recipe, split)
    expected = jax.tree.map(lambda w, g: w - RATE * g, before, gradient)
    assert_close(after.variables["params"], expected)
    assert_close(after.variables["batch_stats"], stats)
    np.testing.assert_allclose(metrics.loss[0], loss(worst)[0], rtol=1e-5)
    assert metrics.loss[0] > loss(before)[0]
