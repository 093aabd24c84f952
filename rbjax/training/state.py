"""What a training run carries from step to step, and what a training method is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rbjax.blocks import Placement
from rbjax.models import Model
from rbjax.typing import Array, Device, Key, LogitsFn

PyTree = Any


class MethodState(NamedTuple):
    """What a method remembers between steps."""

    replicated: PyTree
    """The same on every device, for example a universal perturbation (H, W, C)."""
    per_row: PyTree
    """Leading axis of the batch's rows, split over the devices."""


class Method(NamedTuple):
    """A training method: what the model is trained on, and what the method learns from it.

    Inputs are what the network sees, in [0, 1].  A method that learns (a universal perturbation)
    gets the gradient of the loss with respect to its inputs: `gradient` reduces it to what all
    devices share, the training step averages that over the devices, `update` applies it.
    """

    init: Callable[[Key, tuple[int, ...], int], MethodState]
    """(key, image shape, rows of a batch over all devices) -> state."""
    perturb: Callable[[LogitsFn, Key, MethodState, Array, Array], Array]
    """(logits_fn, keys (B,), state, images, labels) -> inputs, all (B, H, W, C)."""
    gradient: Callable[[Array, Array], PyTree] | None = None
    """(input gradients of the mean loss (B, H, W, C), losses (B,)) -> the shared gradient."""
    update: Callable[[MethodState, PyTree], MethodState] | None = None
    """(state, shared gradient averaged over the devices) -> state."""
    alternating: bool = False
    """Whether the input gradient is taken anew after the weights' step."""
    attack_batch_norm: str = "eval"
    """Batch norm of `logits_fn`: "eval" (running statistics) or "train" (the batch's own)."""


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
) -> TrainState:
    """Returns the state before the first step.

    Args:
        key: one key; the weights and the method draw from streams of it.
        model: the model.
        method: the training method.
        optimizer: the optimizer.
        num_rows: rows of a batch over all devices.
        ema: whether an average of the variables is kept.

    Returns:
        The state, on the default device.
    """
    key_weights, key_method = jax.random.split(key)
    images = jnp.zeros((1, *model.image_shape), jnp.float32)
    variables = jax.jit(model.init)(key_weights, images)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        variables=variables,
        opt_state=optimizer.init(variables["params"]),
        # Copied: two names of one buffer cannot both be donated.
        ema=jax.tree.map(jnp.copy, variables) if ema else None,
        method_state=method.init(key_method, model.image_shape, num_rows),
    )


def evaluation_variables(state: TrainState) -> PyTree:
    """Returns the variables a trained model is judged by: the average where one is kept."""
    return state.variables if state.ema is None else state.ema


def place(state: TrainState, devices: Sequence[Device]) -> TrainState:
    """Puts a state where the training step expects it.

    Args:
        state: of numpy arrays or arrays of one device; rows of `per_row` lead.
        devices: the local devices the step runs on.

    Returns:
        The state replicated over the devices; `per_row` as (devices, rows / devices, ...).
    """
    placement = Placement(devices)
    per_row = jax.tree.map(
        lambda x: np.reshape(x, (len(devices), -1, *np.shape(x)[1:])), state.method_state.per_row
    )
    method_state = state.method_state._replace(per_row=())
    placed = placement.replicate(state._replace(method_state=method_state))
    per_row = placement.split(per_row)
    return placed._replace(method_state=placed.method_state._replace(per_row=per_row))


def on_host(state: TrainState) -> TrainState:
    """Returns a placed state as numpy arrays, rows leading again: what a checkpoint stores."""
    state = jax.device_get(state)
    per_row = jax.tree.map(lambda x: np.reshape(x, (-1, *x.shape[2:])), state.method_state.per_row)
    return state._replace(method_state=state.method_state._replace(per_row=per_row))
