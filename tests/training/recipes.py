"""Recipes of small models that the tests of methods train, and how they are compared."""

import atexit
import functools
import shutil
import tempfile

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import rbjax
from rbjax import command_line, losses, methods, models
from rbjax import config as schema
from rbjax.models.model import Classifier, from_module
from rbjax.training import run_directory, setup
from rbjax.training.method import Epoch
from rbjax.training.state import create_state, on_host, place
from rbjax.training.step import Recipe, make_train_step

BATCH, SHAPE, CLASSES, RATE = 16, (8, 8, 1), 3, 0.1
KEY = jax.random.key(7)


def make_split():
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (BATCH, *SHAPE), dtype=np.uint8)
    labels = (np.arange(BATCH) % CLASSES).astype(np.int32)
    return images, labels, np.arange(BATCH, dtype=np.int32)


class Normalized(nn.Module):
    """A dense layer and batch norm, where the statistics matter."""

    axis_name: str | None

    @nn.compact
    def __call__(self, x, keys=None, *, train=False):
        axis_name = None if self.is_initializing() else self.axis_name
        x = nn.Dense(6)(x.reshape(x.shape[0], -1))
        return nn.relu(nn.BatchNorm(not train, momentum=0.9, axis_name=axis_name)(x))


@functools.cache
def make_model(name, axis_name):
    if name == "mlp":
        return models.create(
            "mlp", num_classes=CLASSES, image_shape=SHAPE, mean=(0.5,), std=(0.25,), widths=(4,)
        )
    module = Classifier(Normalized(axis_name), CLASSES, (0.5,), (0.25,), jnp.dtype("float32"))
    return from_module("normalized", module, SHAPE)


def make_recipe(method, *, model_name="mlp", axis_name=None, **fields) -> Recipe:
    defaults = {
        "model": make_model(model_name, axis_name),
        "method": method,
        "loss_fn": losses.create("cross_entropy"),
        "optimizer": optax.sgd(RATE, momentum=0.9),
        "augment": lambda key, image: image,
        "steps_per_epoch": 2,
    }
    return Recipe(**{**defaults, **fields})


def initial(recipe):
    state = create_state(KEY, recipe.model, recipe.method, recipe.optimizer, num_rows=BATCH)
    return jax.device_get(state)


def run(recipe, split, *, num_devices=1, num_steps=1, state=None):
    """Returns the state after some steps on the same batch, and the last metrics."""
    devices = jax.devices()[:num_devices]
    state = place(initial(recipe) if state is None else state, devices)
    step = make_train_step(recipe, KEY, devices=devices)
    rows = np.arange(BATCH, dtype=np.int32).reshape(num_devices, 1, BATCH // num_devices)
    metrics = None
    for _ in range(num_steps):
        state, metrics = step(state, *split, rows)
    return on_host(state), jax.device_get(metrics)


def assert_close(actual, expected, tolerance=5e-6):
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def assert_equal(actual, expected):
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(a, b)


def told(number=1, **fields) -> Epoch:
    """Returns what `after_epoch` is told; None for what a method does not look at."""
    known: dict = dict.fromkeys(Epoch._fields)
    return Epoch(**{**known, "number": number, "num_epochs": 3, **fields})


@functools.cache
def finished_run(**model) -> str:
    """Returns a run directory with a checkpoint, of the model that `rbjax.testing` trains."""
    folder = tempfile.mkdtemp(prefix="rbjax-run-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    config = schema.default()
    config.model.update({"widths": (2, 3)} if "name" not in model else {}, **model)
    config = command_line.resolve(config, folder)
    run_directory.prepare(folder, schema.stamped(config.to_dict(), rbjax.__version__))
    model = setup.create_model(config, setup.info(config))
    state = create_state(KEY, model, methods.Method(), optax.sgd(RATE), num_rows=1)
    setup.checkpoints(folder).save(0, jax.device_get(state), extra={})
    return folder
