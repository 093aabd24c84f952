"""MART's loss by hand, and a whole step of it."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import losses, methods, prng
from rbjax.methods import MethodState, Output, Seen
from tests.training.recipes import (
    BATCH,
    KEY,
    RATE,
    assert_close,
    initial,
    make_recipe,
    make_split,
    run,
)


def loss_of(clean, perturbed, labels, **options):
    """Returns the loss of probabilities: their logarithms are the logits."""
    nothing: Any = dict.fromkeys(("logits_fn", "images", "inputs", "keys"))
    outputs = [Output(jnp.log(jnp.asarray(p, jnp.float32)), None) for p in (clean, perturbed)]
    labels = jnp.asarray(labels)
    cross_entropy = losses.create("cross_entropy")
    seen = Seen(
        outputs=tuple(outputs),
        labels=labels,
        task_loss=lambda logits: cross_entropy(logits, labels),
        state=MethodState((), ()),
        **nothing,
    )
    loss = methods.mart(**options).loss
    assert loss is not None
    return loss(seen)


def test_values_of_two_and_three_classes():
    # KL((0.9, 0.1), (0.5, 0.5)) is 0.368064.
    expected = math.log(2) - math.log(1.0001 - 0.5) + 5 * 0.368064 * (1 - 0.9)
    found = loss_of([[0.9, 0.1]], [[0.5, 0.5]], [0])
    np.testing.assert_allclose(found, [expected], rtol=1e-5)
    # The strongest wrong class is the last; what is right is not among the wrong ones.
    clean, perturbed = [0.2, 0.3, 0.5], [0.5, 0.1, 0.4]
    divergence = sum(p * math.log(p / q) for p, q in zip(clean, perturbed, strict=True))
    expected = -math.log(0.5) - math.log(1.0001 - 0.4) + 2 * divergence * (1 - 0.2)
    found = loss_of([clean], [perturbed], [0], beta=2.0)
    np.testing.assert_allclose(found, [expected], rtol=1e-5)


def test_a_clean_image_that_is_certain_has_no_regulariser():
    """And one that is certainly wrong has all of it."""
    clean, perturbed = [[1.0, 0.0], [0.0, 1.0]], [[0.6, 0.4], [0.6, 0.4]]
    with_it, without = (loss_of(clean, perturbed, [0, 0], beta=beta) for beta in (100.0, 0.0))
    assert with_it[0] == without[0]
    assert with_it[1] - without[1] == pytest.approx(-100 * math.log(0.4), rel=1e-5)


def test_a_class_that_is_certain_and_wrong_has_a_finite_loss():
    assert np.all(np.isfinite(loss_of([[0.5, 0.5]], [[1e-30, 1.0]], [0])))


def test_a_step_by_hand():
    """The statistics follow clean and then perturbed images; both predictions are descended."""
    split = make_split()
    method = methods.mart(epsilon=0.1, num_steps=2, beta=5.0)
    recipe = make_recipe(method, model_name="normalized")
    state, keys = initial(recipe), prng.per_example(KEY, jnp.arange(BATCH))
    images, labels = jnp.asarray(split[0] / np.float32(255)), jnp.asarray(split[1])
    method_keys = prng.per_draw(
        prng.per_example(prng.named(KEY, "method"), jnp.asarray(split[2])), 0
    )
    logits_fn = jax.tree_util.Partial(recipe.model.apply, state.variables)
    craft = jax.jit(functools.partial(method.inputs, logits_fn))
    _, perturbed = craft(method_keys, state.method_state, images, labels)
    assert 0.04 < np.abs(perturbed - images).max() <= 0.1 + 1e-6
    rows = jnp.arange(BATCH)

    def loss(params):
        variables, outputs = {**state.variables, "params": params}, []
        for seen in (images, perturbed):
            logits, stats = recipe.model.apply_train(variables, seen, keys)
            variables = {**variables, "batch_stats": stats}
            outputs.append(jax.nn.log_softmax(logits))
        p, q = outputs
        wrong = jnp.max(jnp.exp(q).at[rows, labels].set(0.0), axis=1)
        divergence = jnp.sum(jnp.exp(p) * (p - q), axis=1)
        boosted = -q[rows, labels] - jnp.log(1.0001 - wrong)
        value = boosted + 5.0 * divergence * (1 - jnp.exp(p[rows, labels]))
        return jnp.mean(value), variables["batch_stats"]

    grad = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (value, stats), gradient = grad(state.variables["params"])
    after, metrics = run(recipe, split)
    np.testing.assert_allclose(metrics.loss[0], value, rtol=1e-5)
    expected = jax.tree.map(lambda p, g: p - RATE * g, state.variables["params"], gradient)
    assert_close(after.variables["params"], expected)
    assert_close(after.variables["batch_stats"], stats)
