"""The compiled step: what it differentiates, and that devices and dispatches do not matter."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rbjax import losses, methods, models
from rbjax.blocks import AXIS
from rbjax.data import augment
from rbjax.models.dropout import Dropout
from rbjax.models.model import Classifier, Model, from_module
from rbjax.training.state import create_state, on_host, place
from rbjax.training.step import Recipe, make_train_step

NUM_EXAMPLES, BATCH = 32, 16
SHAPE = (10, 10, 1)


@pytest.fixture(scope="module")
def split():
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (NUM_EXAMPLES, *SHAPE), dtype=np.uint8)
    labels = generator.integers(0, 3, NUM_EXAMPLES).astype(np.int32)
    ids = generator.permutation(1000)[:NUM_EXAMPLES].astype(np.int32)
    return images, labels, ids


class Net(nn.Module):
    """A convolution, batch norm and dropout."""

    @nn.compact
    def __call__(self, x, keys=None, *, train=False):
        axis_name = None if self.is_initializing() else AXIS
        x = nn.relu(nn.Conv(4, (3, 3), strides=(2, 2))(x))
        x = nn.BatchNorm(not train, momentum=0.9, axis_name=axis_name)(x)
        return Dropout(0.4, layer=0)(x.reshape(x.shape[0], -1), keys)


def small_cnn(shape=SHAPE) -> Model:
    about = {"num_classes": 3, "image_shape": shape, "mean": (0.5,), "std": (0.25,)}
    return models.create("simple_cnn", widths=(2, 2), **about)


def make_recipe(model: Model | None = None, method=None) -> Recipe:
    """Batch norm, dropout and augmentation: everything that could see the batch or the device."""
    net = Classifier(Net(), 3, (0.5,), (0.25,), jnp.dtype("float32"))
    return Recipe(
        model=model or from_module("net", net, SHAPE),
        # In l2, since a sign would turn rounding into whole steps.
        method=method or methods.universal(epsilon=1.0, step_size=0.3, norm="l2"),
        loss_fn=losses.create("cross_entropy"),
        optimizer=optax.sgd(0.02, momentum=0.9),
        augment=augment.create(flip_horizontal=True, rotation_degrees=10.0, crop_padding=2),
        steps_per_epoch=2,
        ema_decay=0.9,
    )


def run(recipe: Recipe, split, *, num_devices: int, per_dispatch: int, num_steps: int, order=None):
    """Returns the state after some steps, and the shards of its weights on each device."""
    devices = jax.devices()[:num_devices]
    images, labels, ids = split
    key = jax.random.key(7)
    state = create_state(
        key, recipe.model, recipe.method, recipe.optimizer, num_rows=BATCH, ema=True
    )
    state = place(on_host(state), devices)
    step = make_train_step(recipe, key, num_steps=per_dispatch, devices=devices)
    rows = np.arange(NUM_EXAMPLES, dtype=np.int32).reshape(2, BATCH)
    rows = rows if order is None else rows[:, order]
    losses_ = []
    for first in range(0, num_steps, per_dispatch):
        chunk = rows[[(first + i) % 2 for i in range(per_dispatch)]]
        chunk = chunk.reshape(per_dispatch, num_devices, BATCH // num_devices).swapaxes(0, 1)
        state, metrics = step(state, images, labels, ids, chunk)
        losses_ += np.asarray(metrics.loss).tolist()
    shards = [
        [np.asarray(shard.data) for shard in leaf.addressable_shards]
        for leaf in jax.tree.leaves(state.variables)
    ]
    return on_host(state), losses_, shards


@pytest.fixture(scope="module")
def one_device(split):
    return run(make_recipe(), split, num_devices=1, per_dispatch=1, num_steps=2)


def assert_close(actual, expected, tolerance):
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def test_eight_devices_and_another_order_of_the_rows_give_the_numbers_of_one(split, one_device):
    order = np.random.default_rng(1).permutation(BATCH)
    state, losses_, shards = run(
        make_recipe(), split, num_devices=8, per_dispatch=1, num_steps=2, order=order
    )
    assert_close(state.variables, one_device[0].variables, 5e-6)
    assert_close(state.ema, one_device[0].ema, 5e-6)
    assert_close(state.method_state, one_device[0].method_state, 5e-6)
    np.testing.assert_allclose(losses_, one_device[1], rtol=1e-5)
    for leaf in shards:
        for shard in leaf[1:]:
            np.testing.assert_array_equal(shard, leaf[0])


def test_scanned_steps_equal_single_ones(split, one_device):
    state, losses_, _ = run(make_recipe(), split, num_devices=1, per_dispatch=2, num_steps=2)
    assert_close(state.variables, one_device[0].variables, 5e-6)
    np.testing.assert_allclose(losses_, one_device[1], rtol=1e-5)
    assert state.step == 2


def test_batch_statistics_and_average_move(one_device):
    state = one_device[0]
    stats = jax.tree.leaves(state.variables["batch_stats"])
    assert any(np.abs(leaf).max() > 0 for leaf in stats)
    gap = jax.tree.map(
        lambda a, b: np.abs(a - b).max(), state.ema["params"], state.variables["params"]
    )
    assert max(jax.tree.leaves(gap)) > 0


def test_perturbation_stays_in_its_ball_and_moves(one_device):
    delta = one_device[0].method_state.replicated.delta
    assert 0.3 < np.linalg.norm(delta) <= 1.0 + 1e-6


def test_an_example_is_augmented_anew_in_each_epoch(split):
    recipe = make_recipe(small_cnn(), methods.standard())
    images, labels, ids = split
    state = create_state(
        jax.random.key(0), recipe.model, recipe.method, recipe.optimizer, num_rows=BATCH, ema=True
    )
    step = make_train_step(recipe, jax.random.key(1), devices=jax.devices()[:1])
    rows = np.arange(BATCH, dtype=np.int32).reshape(1, 1, BATCH)
    seen = []
    for number in (0, 1, 2):
        placed = place(on_host(state)._replace(step=np.int32(number)), jax.devices()[:1])
        seen.append(float(step(placed, images, labels, ids, rows)[1].loss[0]))
    assert seen[0] == seen[1]  # the same epoch
    assert abs(seen[0] - seen[2]) > 1e-4


def test_state_per_row_is_dealt_over_devices_and_comes_back():
    base = methods.standard()
    method = base._replace(
        init=lambda key, setting: base.init(key, setting)._replace(
            per_row=jnp.arange(setting.num_rows * 2.0).reshape(setting.num_rows, 2)
        )
    )
    recipe = make_recipe(small_cnn((8, 8, 1)), method)
    state = create_state(jax.random.key(0), recipe.model, method, recipe.optimizer, num_rows=BATCH)
    placed = place(jax.device_get(state), jax.devices()[:8])
    assert placed.method_state.per_row.shape == (8, 2, 2)
    back = on_host(placed)
    np.testing.assert_array_equal(back.method_state.per_row, state.method_state.per_row)
