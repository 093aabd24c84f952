"""Perturbations shared by the images of a heap, of linear models and of a tiny network."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import methods, prng
from rbjax.losses.adversarial import cross_entropy
from rbjax.methods.shared import HeapAttack
from tests.training.recipes import (
    BATCH,
    KEY,
    SHAPE,
    assert_close,
    assert_equal,
    initial,
    make_recipe,
    make_split,
    run,
)

GRADIENT = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
"""Of the second logit of the linear model, less that of the first."""


def linear(images, sharpness=1.0, bias=0.0):
    """Returns the logits (0, sharpness w (x - 1/2) + bias)."""
    second = sharpness * jnp.sum(GRADIENT * (images - 0.5), axis=(1, 2, 3)) + bias
    return jnp.stack([jnp.zeros(len(images)), second], axis=1)


def heap_attack(**options):
    usual = {"epsilon": 0.1, "step_size": 0.05, "num_steps": 4, "heap_size": 2}
    usual |= {"loss_clip": 1e6, "norm": "linf", "random_start": False}
    return HeapAttack(**{**usual, **options})


def attacked(attack, labels, images=None, logits_fn=linear):
    images = jnp.full((len(labels), *SHAPE), 0.5) if images is None else images
    keys = prng.per_example(KEY, jnp.arange(len(labels)))
    return np.asarray(jax.jit(functools.partial(attack, logits_fn))(keys, images, labels)), images


@pytest.fixture(scope="module")
def split():
    return make_split()


@pytest.mark.parametrize(("norm", "random_start"), [("linf", True), ("l2", False)])
def test_heaps_of_one_are_pgd_training_bit_for_bit(split, norm, random_start):
    """Without truncation and with sigma 1; images at 0 and 1 meet the box, steps the ball."""
    size = {"linf": 0.1, "l2": 1.0}[norm]
    options = {"epsilon": size, "step_size": 0.6 * size, "num_steps": 3, "norm": norm}
    options["random_start"] = random_start
    one = methods.shared(heap_size=1, sigma=1.0, loss_clip=1e6, **options)
    shared, metrics = run(make_recipe(one), split, num_steps=2)
    pgd, expected = run(make_recipe(methods.pgd(**options)), split, num_steps=2)
    assert_equal(shared, pgd)
    assert_equal(metrics, expected)


def test_the_weights_are_perturbed_as_those_of_pgd_training(split):
    """Heaps of one: bit for bit; of size 0 as without; of 1e-30 as of 0, but computed."""
    options = {"epsilon": 1.0, "step_size": 0.6, "num_steps": 2, "norm": "l2"}
    heaps_of_one = {"heap_size": 1, "sigma": 1.0, "loss_clip": 1e6, **options}
    after = {}
    for gamma in (0.0, 1e-30, 0.1):
        one = methods.shared(weight_perturbation=gamma, **heaps_of_one)
        after[gamma], _ = run(make_recipe(one), split)
    pgd, _ = run(make_recipe(methods.pgd(weight_perturbation=0.1, **options)), split)
    plain, _ = run(make_recipe(methods.shared(**heaps_of_one)), split)
    assert_equal(after[0.1], pgd)
    assert_equal(after[0.0], plain)
    assert_equal(after[1e-30], plain)
    weights = [jax.tree.leaves(state.variables["params"]) for state in (after[0.1], plain)]
    assert any(np.any(a != b) for a, b in zip(*weights, strict=True))


def test_sigma_is_between_the_perturbed_images_and_the_clean_ones(split):
    recipe = make_recipe(methods.shared(heap_size=4, epsilon=0.1, sigma=0.3, random_start=False))
    variables = initial(recipe).variables
    logits_fn = functools.partial(recipe.model.apply, variables)
    images, labels = jnp.asarray(split[0] / np.float32(255)), jnp.asarray(split[1])
    attack = heap_attack(heap_size=4, loss_clip=-math.log(0.2))
    moved, _ = attacked(attack, labels, images, logits_fn)
    values = [
        np.mean(cross_entropy(logits_fn(seen), labels)) for seen in (jnp.asarray(moved), images)
    ]
    assert values[0] > values[1] + 0.01
    _, metrics = run(recipe, split)
    np.testing.assert_allclose(metrics.loss[0], 0.3 * values[0] + 0.7 * values[1], rtol=1e-5)


def test_opposite_labels_of_equal_margin_leave_nothing_to_climb():
    moved, images = attacked(heap_attack(), jnp.array([0, 1]))
    np.testing.assert_array_equal(moved, images)
    both, _ = attacked(heap_attack(), jnp.array([0, 0]))
    np.testing.assert_allclose(both - images, 0.1 * np.sign(GRADIENT)[None].repeat(2, 0), atol=1e-6)


def test_a_loss_is_truncated_image_by_image():
    """The image of loss 3 counts for nothing, though the heap's mean is below the limit.

    The heap goes where the image of loss 0.05 climbs; without a limit, where the other does.
    """
    bias = 3.0
    logits_fn = functools.partial(linear, bias=bias)
    labels = jnp.array([0, 1])
    losses = cross_entropy(logits_fn(jnp.full((2, *SHAPE), 0.5)), labels)
    np.testing.assert_allclose(losses, [math.log1p(math.exp(3)), math.log1p(math.exp(-3))], 1e-5)
    assert np.mean(losses) < 2.0 < losses[0]
    for limit, sign in ((2.0, -1.0), (1e6, 1.0)):
        attack = heap_attack(loss_clip=limit, step_size=0.01, num_steps=1)
        moved, images = attacked(attack, labels, logits_fn=logits_fn)
        expected = np.broadcast_to(0.01 * sign * np.sign(GRADIENT), moved.shape)
        np.testing.assert_allclose(moved - images, expected, atol=1e-6)


def test_a_heap_has_one_perturbation_and_heaps_know_nothing_of_each_other(split):
    """In any order of the heaps; and in any order of its images, from the same start."""
    images, labels = jnp.asarray(split[0] / np.float32(255)), jnp.asarray(split[1])
    recipe = make_recipe(methods.standard())
    logits_fn = functools.partial(recipe.model.apply, initial(recipe).variables)
    attack = jax.jit(functools.partial(heap_attack(heap_size=4, random_start=True), logits_fn))
    keys = prng.per_example(KEY, jnp.arange(BATCH))
    moved = np.asarray(attack(keys, images, labels))
    inside = (moved > 0) & (moved < 1)
    for heap in range(4):
        rows = slice(4 * heap, 4 * heap + 4)
        delta = np.where(inside[rows], moved[rows] - images[rows], np.nan)
        assert np.nanmax(np.nanmax(delta, 0) - np.nanmin(delta, 0)) < 1e-6
    order = np.arange(BATCH).reshape(4, 4)[np.array([2, 0, 3, 1])].ravel()
    np.testing.assert_allclose(attack(keys[order], images[order], labels[order]), moved[order])
    turned = np.arange(BATCH).reshape(4, 4)[:, np.array([3, 1, 0, 2])].ravel()
    same = attack(keys, images[turned], labels[turned])
    np.testing.assert_allclose(same, moved[turned], atol=1e-6)


def test_the_more_images_share_a_perturbation_the_less_it_raises_the_loss():
    """On 64 images of noise with random labels, n = 64, key 7; a heap of 64 hardly finds any."""
    images = jax.random.uniform(KEY, (64, *SHAPE))
    labels = jax.random.bernoulli(KEY, shape=(64,)).astype(jnp.int32)
    limit = -math.log(0.2)
    logits_fn = functools.partial(linear, sharpness=0.5)

    def mean_loss(heap_size):
        attack = heap_attack(heap_size=heap_size, loss_clip=limit, num_steps=10)
        moved, _ = attacked(attack, labels, images, logits_fn)
        return float(np.mean(np.minimum(cross_entropy(logits_fn(moved), labels), limit)))

    losses = [mean_loss(size) for size in (1, 4, 16, 64)]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > losses[-1] + 0.1


def test_eight_devices_give_the_numbers_of_one_and_heaps_lie_on_one_device(split):
    """In l2, since a sign would turn rounding into whole steps."""
    options = {"epsilon": 1.0, "step_size": 0.3, "num_steps": 2, "norm": "l2"}
    recipe = make_recipe(methods.shared(heap_size=2, **options))
    one, _ = run(recipe, split, num_steps=2)
    eight, _ = run(recipe, split, num_steps=2, num_devices=8)
    assert_close(eight, one)
    four = make_recipe(methods.shared(heap_size=4, **options))
    with pytest.raises(ValueError, match=r"heap_size is 4, and a device has 2 rows of the batch"):
        run(four, split, num_devices=8)


def test_with_sigma_0_nothing_is_crafted_and_it_is_standard_training(split):
    states = [
        run(make_recipe(method), split)[0]
        for method in (methods.shared(sigma=0.0), methods.standard())
    ]
    assert_equal(*(state.variables for state in states))
