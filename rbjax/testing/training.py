"""What every model and every training method must do."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rbjax import losses, models
from rbjax.methods import Method
from rbjax.models import Model
from rbjax.prng import per_example
from rbjax.training.state import TrainState, create_state, on_host, place
from rbjax.training.step import Recipe, StepMetrics, make_train_step

BATCH = 8
IDS = jnp.array([5, 2, 9, 4])


def check_model(model: Model) -> None:
    """Puts a model to what rbjax's own are held to.

    Weights, logits and features are finite float32 of the right shapes; an example's logits depend
    on no other example; what is random in training follows from the example's key; statistics of
    batch norm keep their form; other weights do not trace again.

    Args:
        model: as `models.create` and `models.wrap` make it.

    Raises:
        AssertionError: for whatever it does not do, beginning with `check_model`.
    """
    shape, num_classes = model.image_shape, model.num_classes
    images = jax.random.uniform(jax.random.key(1), (4, *shape))
    keys = per_example(jax.random.key(2), IDS)
    variables = model.init(jax.random.key(0), images)
    for leaf in jax.tree.leaves(variables):
        assert leaf.dtype == jnp.float32, f"check_model: a variable is {leaf.dtype}, not float32"
        assert np.all(np.isfinite(leaf)), "check_model: an initial variable is not finite"
    num_traces = 0

    @jax.jit
    def apply(variables: Any, images: Any) -> Any:
        nonlocal num_traces
        num_traces += 1
        return model.apply(variables, images)

    logits = apply(variables, images)
    train = jax.jit(model.apply_train)
    trained, batch_stats = train(variables, images, keys)
    for values in (logits, trained):
        assert values.shape == (4, num_classes), f"check_model: logits have shape {values.shape}"
        assert values.dtype == jnp.float32, f"check_model: logits are {values.dtype}, not float32"
        assert np.all(np.isfinite(values)), "check_model: logits are not finite"
    same_form = jax.tree.map(jnp.shape, batch_stats) == jax.tree.map(
        jnp.shape, variables.get("batch_stats", {})
    )
    assert same_form, "check_model: batch statistics change their form in training"
    features = jax.eval_shape(model.features, variables, images)
    assert features.shape[:1] == (4,), "check_model: features have no row for each image"
    assert len(features.shape) == 2, "check_model: features are not (B, F)"
    alone = jnp.concatenate([model.apply(variables, images[i : i + 1]) for i in (3, 1)])
    together = logits[jnp.array([3, 1])]
    assert np.allclose(together, alone, rtol=0, atol=1e-5), "check_model: depends on the batch"
    order = jnp.array([2, 0, 3, 1])
    moved, _ = train(variables, images[order], keys[order])
    by_key = np.allclose(moved, trained[order], rtol=0, atol=1e-4)
    assert by_key, "check_model: what is random does not follow from the example's key"
    other = apply(jax.tree.map(lambda leaf: 1.5 * leaf + 0.01, variables), images)
    assert num_traces == 1, "check_model: other weights trace again"
    assert not np.allclose(other, logits), "check_model: other weights give the same logits"


def check_method(method: Method, *, num_steps: int = 4) -> None:
    """Puts a training method to what rbjax's own are held to.

    It trains a small CNN: weights stay finite and move; the state keeps its form; a run that is
    taken up from a checkpoint of its second step ends in the same bits as one that is not; and
    several devices give what one gives.

    Args:
        method: as its maker makes it.
        num_steps: steps to train, at least 3.

    Raises:
        AssertionError: for whatever it does not do, beginning with `check_method`.
    """
    first, last, history = train(method, num_steps=num_steps)
    same_form = jax.tree.structure(first) == jax.tree.structure(last)
    assert same_form, "check_method: the state changes its form"
    for before, after in zip(jax.tree.leaves(first), jax.tree.leaves(last), strict=True):
        kept = (np.shape(before), np.asarray(before).dtype) == (np.shape(after), after.dtype)
        assert kept, f"check_method: state of {after.dtype} {np.shape(after)} was another before"
        is_number = np.issubdtype(np.asarray(after).dtype, np.floating)
        assert not is_number or np.all(np.isfinite(after)), "check_method: state is not finite"
    assert all(np.isfinite(metrics.loss[0]) for metrics in history), "check_method: loss not finite"
    moved = any(
        not np.array_equal(before, after)
        for before, after in zip(
            jax.tree.leaves(first.variables), jax.tree.leaves(last.variables), strict=True
        )
    )
    assert moved, "check_method: the weights do not move"
    half = train(method, num_steps=2)[1]
    resumed = train(method, num_steps=num_steps - 2, state=half)[1]
    for own, other in zip(jax.tree.leaves(last), jax.tree.leaves(resumed), strict=True):
        assert np.array_equal(own, other), "check_method: a resumed run ends elsewhere"
    num_devices = max(n for n in (1, 2, 4, 8) if n <= jax.local_device_count())
    several = train(method, num_steps=num_steps, num_devices=num_devices)[1]
    for own, other in zip(jax.tree.leaves(last), jax.tree.leaves(several), strict=True):
        close = np.allclose(own, other, rtol=1e-3, atol=1e-4)
        assert close, f"check_method: {num_devices} devices give other numbers than one"


def train(
    method: Method,
    *,
    num_steps: int = 1,
    num_devices: int = 1,
    learning_rate: float = 0.1,
    state: TrainState | None = None,
) -> tuple[TrainState, TrainState, list[StepMetrics]]:
    """Trains a small CNN on eight images of noise, all of them in each step.

    Args:
        method: the training method.
        num_steps: steps.
        num_devices: local devices, which divide 8.
        learning_rate: of plain gradient descent.
        state: to continue from; None: the initial one.

    Returns:
        The first state and the last, on the host, and each step's metrics.
    """
    model = models.create(
        "simple_cnn", num_classes=3, image_shape=(8, 8, 1), mean=(0.5,), std=(0.25,), widths=(2, 3)
    )
    recipe = Recipe(
        model=model,
        method=method,
        loss_fn=losses.create("cross_entropy"),
        optimizer=optax.sgd(learning_rate),
        augment=lambda key, image: image,
        steps_per_epoch=100,
    )
    images = np.random.default_rng(0).integers(0, 256, (BATCH, 8, 8, 1), dtype=np.uint8)
    labels = np.arange(BATCH, dtype=np.int32) % 3
    ids = np.arange(BATCH, dtype=np.int32)
    devices = jax.local_devices()[:num_devices]
    first = state
    if first is None:
        first = create_state(jax.random.key(0), model, method, recipe.optimizer, num_rows=BATCH)
        first = jax.device_get(first)
    train_step = make_train_step(recipe, jax.random.key(1), devices=devices)
    placed, history, rows = place(first, devices), [], ids.reshape(num_devices, 1, -1)
    for _ in range(num_steps):
        placed, metrics = train_step(placed, images, labels, ids, rows)
        history.append(jax.device_get(metrics))
    return first, on_host(placed), history
