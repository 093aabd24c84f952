"""Free adversarial training: the first replay is clean, the next ones climb by their own pass."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import methods
from rbjax.attacks.norms import project, steepest
from tests.training.recipes import (
    BATCH,
    RATE,
    SHAPE,
    assert_close,
    assert_equal,
    initial,
    make_recipe,
    make_split,
    run,
)

SPLIT = make_split()


def gradients(recipe, params, delta):
    """Returns those of the mean loss in the weights and in the images; no batch norm here."""
    images, labels = SPLIT[0] / np.float32(255), jnp.asarray(SPLIT[1])

    def loss(params, images):
        logits = recipe.model.apply({"params": params}, images)
        return jnp.mean(recipe.loss_fn(logits, labels))

    return jax.grad(loss, argnums=(0, 1))(params, jnp.clip(images + delta, 0, 1))


def test_one_replay_from_0_is_a_clean_step_bit_for_bit():
    standard, _ = run(make_recipe(methods.standard()), SPLIT)
    recipe = make_recipe(methods.free(epsilon=0.1, num_replays=1))
    free, _ = run(recipe, SPLIT)
    assert_equal((free.variables, free.opt_state), (standard.variables, standard.opt_state))
    before = initial(recipe).variables["params"]
    _, climb = gradients(recipe, before, jnp.zeros((BATCH, *SHAPE)))
    np.testing.assert_allclose(free.method_state.per_row, 0.1 * jnp.sign(climb), rtol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_two_replays_by_hand(norm):
    epsilon, length = (0.1, 0.06) if norm == "linf" else (0.5, 0.3)
    method = methods.free(epsilon=epsilon, step_size=length, num_replays=2, norm=norm)
    recipe = make_recipe(method)
    params, delta = initial(recipe).variables["params"], jnp.zeros((BATCH, *SHAPE))
    velocity = jax.tree.map(jnp.zeros_like, params)
    for _ in range(2):
        gradient, climb = gradients(recipe, params, delta)
        velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, gradient)
        params = jax.tree.map(lambda p, v: p - RATE * v, params, velocity)
        delta = project(delta + length * steepest(climb, norm), epsilon, norm)
    after, _ = run(recipe, SPLIT)
    assert_close(after.variables["params"], params)
    agree = np.isclose(after.method_state.per_row, delta, atol=1e-5)
    assert np.mean(agree) > 0.99  # a sign may turn where a gradient is nearly 0


def test_the_perturbation_goes_on_from_batch_to_batch():
    recipe = make_recipe(methods.free(epsilon=0.1, step_size=0.06, num_replays=1))
    one, _ = run(recipe, SPLIT)
    two, _ = run(recipe, SPLIT, num_steps=2)
    sizes = [np.abs(state.method_state.per_row).max() for state in (one, two)]
    np.testing.assert_allclose(sizes, [0.06, 0.1], rtol=1e-6)
