"""Weights, radii and a regularizer by class, against values worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import methods
from rbjax.methods.classwise import mean_similarity, measured_weights
from rbjax.training import hooks
from rbjax.training.method import ClassSums
from tests.training.recipes import (
    BATCH,
    CLASSES,
    KEY,
    RATE,
    assert_close,
    assert_equal,
    initial,
    make_recipe,
    make_split,
    run,
    told,
)

ATTACK = {"epsilon": 0.1, "num_steps": 2}
SIMPLEX = jnp.eye(4) - 0.25


@pytest.fixture(scope="module")
def split():
    return make_split()


@pytest.fixture(scope="module")
def pgd(split):
    return run(make_recipe(methods.pgd(**ATTACK)), split, num_steps=2)[0]


@pytest.mark.parametrize(
    "options",
    [
        {"reweighting": 0.0},
        {"class_weights": (1, 1, 1), "class_epsilons": (0.1,) * 3},
    ],
)
def test_where_every_class_counts_alike_it_is_pgd(split, pgd, options):
    method = methods.classwise_pgd(**ATTACK, **options)
    state, _ = run(make_recipe(method), split, num_steps=2)
    assert_equal(state.variables, pgd.variables)


def test_cosines_of_means_of_logits():
    """Of a simplex's corners -1 / (K - 1); sums of several examples have the cosines of means."""
    counts = jnp.array([3, 1, 2, 5])
    for means, expected in (
        (SIMPLEX, -1 / 3),
        (np.eye(4), 0.0),
        (np.ones((4, 4)), 1.0),
        (np.array([[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 2]]), 2**0.5 / 6),
    ):
        similarity = mean_similarity(jnp.asarray(counts[:, None] * means), counts)
        np.testing.assert_allclose(similarity, expected, atol=1e-6)


@pytest.mark.parametrize("num_present", [0, 1])
def test_classes_that_are_absent_have_no_cosines(num_present):
    counts = jnp.arange(4) < num_present
    value, gradient = jax.value_and_grad(mean_similarity)(SIMPLEX * counts[:, None], counts)
    assert value == 0
    assert np.all(np.isfinite(gradient))
    two = jnp.array([1, 0, 2, 0])
    np.testing.assert_allclose(mean_similarity(SIMPLEX * two[:, None], two), -1 / 3, atol=1e-6)


def test_measured_weights_by_hand():
    train = ClassSums(np.array([10.0, 20.0, 8.0]), None, np.array([[9.0, 5.0, 8.0]]))
    errors = np.array([2 / 12, 16 / 22, 1 / 10])
    for power in (0.0, 1.0, 2.0):
        expected = 3 * errors**power / np.sum(errors**power)
        np.testing.assert_allclose(measured_weights(train, power), expected, rtol=1e-6)


def test_classes_that_an_epoch_lacked_do_not_move_the_mean():
    """Errors 1/40 and 1/10, of mean 1/16; of no example 1/2."""
    train = ClassSums(np.array([38.0, 0, 18.0, 0]), None, np.array([[38.0, 0, 17.0, 0]]))
    np.testing.assert_allclose(measured_weights(train, 1.0), [0.4, 8, 1.6, 8], rtol=1e-6)


def test_after_an_epoch_given_and_measured_weights_are_multiplied():
    method = methods.classwise_pgd(class_weights=(1, 3, 0.5), critical_class=2, critical_weight=4)
    state = initial(make_recipe(method))
    np.testing.assert_array_equal(state.method_state.replicated, [1, 3, 2])
    train = ClassSums(np.full(3, 8.0), None, np.array([[8.0, 5.0, 2.0]]))  # errors 1, 4, 7 of 10
    after = hooks.after_epoch(method, KEY, state, told(train=train))
    expected = np.array([1 * 1, 3 * 4, 2 * 7]) / 4
    np.testing.assert_allclose(after.method_state.replicated, expected, rtol=1e-6)


def test_a_step_by_hand(split):
    """The similarity is that of means over the whole batch, whatever the devices."""
    weights = np.array([0.5, 1.0, 3.0], np.float32)
    method = methods.classwise_pgd(
        epsilon=0.0, class_weights=tuple(weights), similarity_weight=2.0, step_size=0.1
    )
    recipe = make_recipe(method)
    before, images = initial(recipe).variables, jnp.asarray(split[0] / np.float32(255))

    def value(params):
        logits = recipe.model.apply({**before, "params": params}, images)
        means = jnp.stack([jnp.mean(logits[split[1] == c], axis=0) for c in range(CLASSES)])
        units = means / jnp.linalg.norm(means, axis=1, keepdims=True)
        pairs = (units @ units.T)[np.triu_indices(CLASSES, 1)]
        weighted = weights[split[1]] * recipe.loss_fn(logits, split[1])
        return jnp.mean(weighted) + 2.0 * jnp.mean(pairs)

    expected, gradient = jax.jit(jax.value_and_grad(value))(before["params"])
    after, metrics = run(recipe, split, num_devices=8)
    np.testing.assert_allclose(metrics.loss[0], expected, rtol=1e-5)
    moved = jax.tree.map(lambda p, g: p - RATE * g, before["params"], gradient)
    assert_close(after.variables["params"], moved)


def test_each_class_is_attacked_with_its_own_radius(split):
    """Of a linear model the attack fills the ball."""
    method = methods.classwise_pgd(class_epsilons=(0.02, 0.0, 0.08), num_steps=8)
    images, labels = jnp.full((BATCH, 8, 8, 1), 0.5), jnp.asarray(split[1])

    def logits_fn(x):
        return x.reshape(len(x), -1) @ jnp.linspace(-1, 1, 64 * CLASSES).reshape(64, CLASSES)

    state = initial(make_recipe(method)).method_state
    moved = method.inputs(logits_fn, KEY, state, images, labels)
    sizes = np.max(np.abs(moved - images), axis=(1, 2, 3))
    np.testing.assert_allclose(sizes, np.array([0.02, 0, 0.08])[split[1]], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_weights": (1, 2)}, "class_weights has 2 entries; it must have 3, one a class"),
        ({"class_epsilons": (0.1,)}, "class_epsilons has 1 entries; it must have 3"),
        ({"critical_class": 3}, "method.critical_class is 3; it must be between 0 and 2"),
    ],
)
def test_other_numbers_of_classes_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        initial(make_recipe(methods.classwise_pgd(**options)))


def test_a_radius_beyond_the_images_is_refused():
    with pytest.raises(ValueError, match=r"class_epsilons is 1\.5; with norm 'linf'"):
        methods.classwise_pgd(class_epsilons=(0.1, 1.5, 0.1))
