"""What a training run carries from step to step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rbjax import prng, processes
from rbjax.blocks import Placement
from rbjax.config import Config
from rbjax.models import Model
from rbjax.training.method import Method, MethodState, Setting, trained_part
from rbjax.typing import Array, Device, Key

PyTree = Any


class TrainState(NamedTuple):
    """Everything a checkpoint holds."""

    step: Array
    """() int32, updates made."""
    variables: PyTree
    """{"params": ..., "batch_stats": ...}."""
    opt_state: optax.OptState
    ema: PyTree
    """An exponential moving average of `variables`, or None."""
    method_state: MethodState


def create_state(
    key: Key,
    model: Model,
    method: Method,
    optimizer: optax.GradientTransformation,
    *,
    num_rows: int,
    ema: bool = False,
    variables: PyTree | None = None,
    class_counts: np.ndarray | None = None,
) -> TrainState:
    """Returns the state before the first step.

    Args:
        key: one key; the weights and the method draw from streams of it.
        model: the model.
        method: the training method.
        optimizer: the optimizer.
        num_rows: rows of a batch over all devices.
        ema: whether an average of the variables is kept.
        variables: the weights to begin with; None: the model's own random ones.
        class_counts: (K,) training examples of each class, for the method; None: unknown.

    Returns:
        The state, on the default device.

    Raises:
        ValueError: if the method trains no parameter.
    """
    key_weights, key_method = prng.split(key)
    images = jnp.zeros((1, *model.image_shape), jnp.float32)
    weights: PyTree = model.init(key_weights, images) if variables is None else variables
    opt_state = optimizer.init(trained_part(method, weights["params"]))
    setting = Setting(model, weights, opt_state, num_rows, class_counts, has_ema=ema)
    # Copied: two names of one buffer cannot both be donated.
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        variables=weights,
        opt_state=opt_state,
        ema=jax.tree.map(jnp.copy, weights) if ema else None,
        method_state=jax.tree.map(jnp.copy, method.init(key_method, setting)),
    )


def evaluation_variables(state: TrainState, weights: str = "average") -> PyTree:
    """Returns the variables a trained model is evaluated with.

    Args:
        state: of the run.
        weights: "average", where one is kept, or "plain".
    """
    return state.variables if state.ema is None or weights == "plain" else state.ema


def is_averaged(config: Config) -> bool:
    """Returns whether a run is judged by the average of its weights."""
    is_kept = config.optimizer.get("ema_decay") is not None
    return is_kept and config.checkpoint.get("weights") != "plain"


def place(state: TrainState, devices: Sequence[Device]) -> TrainState:
    """Places a state where the training step expects it.

    Args:
        state: of numpy arrays or arrays of one device; rows of `per_row`, of all processes, lead.
            Of several processes, all call it, and the state of process 0 counts.
        devices: the local devices the step runs on.

    Returns:
        The state replicated over the devices; `per_row` as (devices, rows / devices, ...).
    """
    placement, count = Placement(devices), jax.process_count()
    if count > 1:  # what hooks computed may differ in its last bits
        leaves, form = jax.tree.flatten(state)
        state = form.unflatten(processes.arrays_of_first(leaves))

    def own(rows: Any) -> np.ndarray:
        size = len(rows) // count
        mine = rows[jax.process_index() * size :][:size]
        return np.reshape(mine, (len(devices), -1, *np.shape(mine)[1:]))

    per_row = jax.tree.map(own, state.method_state.per_row)
    method_state = state.method_state._replace(per_row=())
    # Copied: on CPU a device array may share numpy's buffer, and the step donates the state.
    placed = jax.device_put(
        state._replace(method_state=method_state), placement.whole, may_alias=False
    )
    per_row = jax.device_put(per_row, placement.rows, may_alias=False)
    return placed._replace(method_state=placed.method_state._replace(per_row=per_row))


def on_host(state: TrainState) -> TrainState:
    """Returns a placed state as numpy arrays, rows leading again, as a checkpoint stores it.

    Of several processes, all call it.
    """
    per_row = state.method_state.per_row
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        per_row = jax.tree.map(lambda x: multihost_utils.process_allgather(x, tiled=True), per_row)
    placed = state._replace(method_state=state.method_state._replace(per_row=per_row))
    state = jax.device_get(placed)
    per_row = jax.tree.map(lambda x: np.reshape(x, (-1, *x.shape[2:])), state.method_state.per_row)
    return state._replace(method_state=state.method_state._replace(per_row=per_row))
