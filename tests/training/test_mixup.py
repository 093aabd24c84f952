"""Mixup's losses and partners, and that devices, order and repeats do not matter to a step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rbjax import losses, methods, models, prng
from rbjax.blocks import AXIS
from rbjax.data import augment
from rbjax.training import mixup
from rbjax.training.state import create_state, on_host, place
from rbjax.training.step import Recipe, _repeat, make_train_step

BATCH, SHAPE, KEY = 16, (8, 8, 1), jax.random.key(7)
IDS = np.array([9, 4, 4, 7, 30, 31, 32, 33, 4, 50, 51, 52, 9, 53, 54, 55], np.int32)


def make_recipe(**fields) -> Recipe:
    defaults = {
        "model": models.create(
            "mlp",
            num_classes=3,
            image_shape=SHAPE,
            mean=(0.5,),
            std=(0.25,),
            widths=(4,),
        ),
        "method": methods.standard(),
        "loss_fn": losses.create("cross_entropy", label_smoothing=0.1),
        "optimizer": optax.sgd(0.1),
        "augment": augment.create(flip_horizontal=True, crop_padding=1, cutout_size=3),
        "steps_per_epoch": 2,
    }
    return Recipe(**{**defaults, **fields})


@pytest.fixture(scope="module")
def split():
    """Rows of equal ids are equal examples."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (60, *SHAPE), dtype=np.uint8)[IDS]
    return images, (IDS % 3).astype(np.int32), IDS


def initial(recipe: Recipe):
    return create_state(KEY, recipe.model, recipe.method, recipe.optimizer, num_rows=BATCH)


def run(recipe: Recipe, split, *, num_devices: int = 1, order=None, num_steps: int = 2):
    devices = jax.devices()[:num_devices]
    state = place(on_host(initial(recipe)), devices)
    step = make_train_step(recipe, KEY, devices=devices)
    rows = np.arange(BATCH, dtype=np.int32) if order is None else order.astype(np.int32)
    rows = rows.reshape(num_devices, 1, BATCH // num_devices)
    values = []
    for _ in range(num_steps):
        state, metrics = step(state, *split, rows)
        values.append(float(metrics.loss[0]))
    return on_host(state), values


def test_mixed_losses_are_the_loss_of_the_mixed_labels():
    generator = np.random.default_rng(0)
    logits = jnp.asarray(generator.normal(size=(5, 3)).astype(np.float32))
    labels, others = jnp.array([0, 1, 2, 0, 1]), jnp.array([2, 1, 0, 1, 0])
    one_hot = 0.3 * jax.nn.one_hot(labels, 3) + 0.7 * jax.nn.one_hot(others, 3)
    expected = optax.softmax_cross_entropy(logits, one_hot)
    targets = mixup.Targets(labels, others, jnp.float32(0.3))
    actual = targets.loss(losses.create("cross_entropy"), logits)
    np.testing.assert_allclose(actual, expected, rtol=1e-6)
    np.testing.assert_array_equal(targets.most, others)
    np.testing.assert_array_equal(mixup.Targets(labels).most, labels)


def test_partners_are_a_circle_that_follows_the_examples():
    # Many bits are equal.
    bits = jnp.asarray(np.random.default_rng(0).integers(0, 4, 40).astype(np.uint32))
    ids = jnp.asarray(np.random.default_rng(1).permutation(40))
    partner = np.asarray(mixup.partners(bits, ids))
    row, seen = 0, []
    for _ in range(40):
        seen.append(row)
        row = partner[row]
    assert row == 0
    assert sorted(seen) == list(range(40))
    order = np.random.default_rng(2).permutation(40)
    moved = np.asarray(mixup.partners(bits[order], ids[order]))
    np.testing.assert_array_equal(ids[order][moved], ids[partner][order])


def test_shares_are_of_the_beta_distribution():
    """4,000 draws: mean 1/2 and variance 1 / (4 (2 a + 1)) within 4 standard errors (0.4 each)."""
    draw = jax.jit(jax.vmap(lambda step: mixup.draw_share(KEY, step, alpha=0.2)))
    shares = np.asarray(draw(jnp.arange(4000)))
    variance = 1 / (4 * 1.4)
    assert abs(shares.mean() - 0.5) < 4 * np.sqrt(variance / 4000)
    assert abs(shares.var() - variance) < 0.006
    assert shares.min() >= 0
    assert shares.max() <= 1


def test_a_step_trains_on_the_mixture(split):
    """Without augmentation, a step's loss is that of the images and labels mixed by hand."""
    recipe = make_recipe(augment=lambda key, image: image, mixup_alpha=1.0)
    images, labels, _ = split
    ids = jnp.arange(BATCH, dtype=jnp.int32)
    _, (actual,) = run(recipe, (images, labels, ids), num_steps=1)
    keys = prng.per_draw(prng.per_example(prng.named(KEY, "mixup"), ids), 0)
    partner = np.asarray(mixup.partners(jax.vmap(jax.random.bits)(keys), ids))
    share = mixup.draw_share(KEY, 0, alpha=1.0)
    pixels = jnp.asarray(images / np.float32(255))
    logits = recipe.model.apply(
        initial(recipe).variables, share * pixels + (1 - share) * pixels[partner]
    )
    soft = share * jax.nn.one_hot(labels, 3) + (1 - share) * jax.nn.one_hot(labels[partner], 3)
    expected = optax.softmax_cross_entropy(logits, 0.9 * soft + 0.1 / 3).mean()
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_eight_devices_and_another_order_of_the_rows_give_the_numbers_of_one(split):
    recipe = make_recipe(mixup_alpha=0.4, repeats=True)
    one, first = run(recipe, split)
    order = np.random.default_rng(1).permutation(BATCH)
    eight, second = run(recipe, split, num_devices=8, order=order)
    np.testing.assert_allclose(first, second, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(one.variables), jax.tree.leaves(eight.variables), strict=True):
        np.testing.assert_allclose(a, b, rtol=5e-6, atol=5e-6)


def test_repeats_are_counted_over_the_whole_batch():
    expected = [sum(IDS[:row] == IDS[row]) for row in range(BATCH)]
    counted = jax.pmap(_repeat, axis_name=AXIS)(IDS.reshape(8, 2))
    np.testing.assert_array_equal(counted.reshape(-1), expected)


def test_an_example_that_repeats_has_keys_of_its_own_each_time(split):
    """Random images: equal rows have one image, other keys another."""

    def noise(key, image):
        return jax.random.uniform(key, image.shape)

    images, labels, _ = split
    same = (images[:1].repeat(BATCH, 0), labels[:1].repeat(BATCH), IDS[:1].repeat(BATCH))
    recipe = make_recipe(augment=noise, optimizer=optax.sgd(0.0))
    _, (first, second) = run(recipe, same)  # two steps of one epoch
    assert first == second
    _, (first, second) = run(recipe._replace(repeats=True), same)
    assert first != second
    alone = tuple(part[:1] for part in same)
    key = prng.per_draw(prng.per_example(prng.named(KEY, "augment"), jnp.asarray(alone[2])), 0)
    pixels = jnp.stack(
        [noise(prng.per_draw(key, repeat)[0], jnp.zeros(SHAPE)) for repeat in range(BATCH)]
    )
    logits = recipe.model.apply(initial(recipe).variables, pixels)
    expected = recipe.loss_fn(logits, jnp.asarray(same[1])).mean()
    np.testing.assert_allclose(first, expected, rtol=1e-5)
