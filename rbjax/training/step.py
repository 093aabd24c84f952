"""The compiled training step: `jax.pmap` over the axis "data".

Every collective of rbjax's own stands here: the averages of the weights' gradient and of a
method's shared gradient, and the sums of the metrics.  (Batch norm averages its statistics itself,
over the axis it was given.)  The state goes in and comes out replicated, with no device axis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rbjax import prng
from rbjax.blocks import AXIS
from rbjax.convolution import loop_safe
from rbjax.data.pipeline import gather
from rbjax.models import Model
from rbjax.training import mixup
from rbjax.training.optimizers import ema_update
from rbjax.training.state import Method, MethodState, TrainState
from rbjax.typing import Array, Batch, Device, Key, LogitsFn, LossFn, Perturbation

TrainStep = Callable[..., tuple[TrainState, "StepMetrics"]]


class Recipe(NamedTuple):
    """What a training step is made of."""

    model: Model
    method: Method
    loss_fn: LossFn
    optimizer: optax.GradientTransformation
    augment: Perturbation
    steps_per_epoch: int
    ema_decay: float | None = None
    mixup_alpha: float = 0.0
    """Mixup's shares are of Beta(alpha, alpha); 0 is no Mixup."""
    repeats: bool = False
    """Whether an example may come more than once in an epoch; each time it has keys of its own."""


class StepMetrics(NamedTuple):
    """Sums over one step's batch, over all devices; (K,) for K steps a dispatch."""

    loss: Array
    """Mean loss on the inputs trained on."""
    correct: Array
    """Inputs classified right; of a mixed one, as the image with the larger share."""
    examples: Array
    gradient_norm: Array


class _StepKeys(NamedTuple):
    augment: Key
    model: Key
    method: Key
    mixup: Key


def make_train_step(
    recipe: Recipe,
    key: Key,
    *,
    num_steps: int = 1,
    devices: Sequence[Device] | None = None,
    streamed: bool = False,
) -> TrainStep:
    """Compiles K training steps into one dispatch.

    Args:
        recipe: model, method, loss, optimizer and augmentation.
        key: the run's key; an example's random numbers are `fold_in(fold_in(stream, id), epoch)`,
            or where it repeats, of the step and of its place among its repeats in the batch.
        num_steps: K.
        devices: the local devices; all of them.
        streamed: each device is given images, labels and ids of its own, (devices, n, ...), and
            its rows are into those.

    Returns:
        `train_step(state, images, labels, example_ids, rows) -> (state, StepMetrics of (K,))`:
        the whole split (uint8, replicated) and `rows` (devices, K, B / devices).  `state` is
        donated.
    """

    def steps(
        state: TrainState, images: Array, labels: Array, example_ids: Array, rows: Array
    ) -> tuple[TrainState, StepMetrics]:
        def body(state: TrainState, rows: Array) -> tuple[TrainState, StepMetrics]:
            batch = gather(images, labels, example_ids, rows)
            return _one_step(recipe, key, state, batch)

        if num_steps == 1:
            state, metrics = body(state, rows[0])
            return state, jax.tree.map(lambda x: x[None], metrics)
        return jax.lax.scan(body, state, rows)

    same: Any = None  # on every device
    split = 0 if streamed else same
    axes = TrainState(same, same, same, same, MethodState(replicated=same, per_row=0))
    return jax.pmap(
        steps,
        axis_name=AXIS,
        in_axes=(axes, split, split, split, 0),
        out_axes=(axes, None),
        donate_argnums=0,
        devices=devices,
    )


def _one_step(
    recipe: Recipe, key: Key, state: TrainState, batch: Batch
) -> tuple[TrainState, StepMetrics]:
    keys = _step_keys(recipe, key, batch.example_ids, state.step)
    images = jax.vmap(recipe.augment)(keys.augment, batch.images)
    targets = mixup.Targets(batch.labels)
    if recipe.mixup_alpha:
        share = mixup.draw_share(key, state.step, alpha=recipe.mixup_alpha)
        images, targets = _mixed(keys.mixup, share, images, batch)
    inputs = _inputs(recipe, keys, state, images, batch.labels)
    loss = partial(_loss, recipe, state.variables, targets, keys.model)
    params, method, method_state = state.variables["params"], recipe.method, state.method_state
    simultaneous = method.gradient is not None and not method.alternating
    value_and_grad = jax.value_and_grad(
        loss, argnums=(0, 1) if simultaneous else (0,), has_aux=True
    )
    (value, aux), (gradient, *input_gradient) = value_and_grad(params, inputs)
    gradient = jax.lax.pmean(gradient, AXIS)
    updates, opt_state = recipe.optimizer.update(gradient, state.opt_state, params)
    params = optax.apply_updates(params, updates)
    if simultaneous:
        method_state = _learnt(method, method_state, input_gradient[0], aux.losses)
    elif method.alternating:
        after, aux_after = jax.grad(loss, argnums=1, has_aux=True)(params, inputs)
        method_state = _learnt(method, method_state, after, aux_after.losses)
    variables = {**state.variables, "params": params}
    if aux.batch_stats:
        # Equal on every device where batch norm is synchronised; averaged where it is not.
        variables["batch_stats"] = jax.lax.pmean(aux.batch_stats, AXIS)
    ema = state.ema
    if recipe.ema_decay is not None:
        ema = ema_update(state.ema, variables, state.step, recipe.ema_decay)
    state = TrainState(state.step + 1, variables, opt_state, ema, method_state)
    return state, _metrics(value, aux, targets.most, gradient)


def _inputs(
    recipe: Recipe, keys: _StepKeys, state: TrainState, images: Array, labels: Array
) -> Array:
    """What the network is trained on: images augmented, then perturbed by the method."""
    logits_fn = _crafting_logits(recipe, state.variables, keys.model)
    inputs = recipe.method.perturb(logits_fn, keys.method, state.method_state, images, labels)
    return jax.lax.stop_gradient(inputs)


def _mixed(keys: Key, share: Array, images: Array, batch: Batch) -> tuple[Array, mixup.Targets]:
    """Mixes each image with its partner in the whole batch, which may lie on another device."""

    def gathered(x: Array) -> Array:
        return jax.lax.all_gather(x, AXIS, tiled=True)

    partners = mixup.partners(
        gathered(jax.vmap(jax.random.bits)(keys)), gathered(batch.example_ids)
    )
    size = images.shape[0]
    mine = jax.lax.dynamic_slice(partners, (jax.lax.axis_index(AXIS) * size,), (size,))
    mixed = share * images + (1 - share) * gathered(images)[mine]
    return mixed, mixup.Targets(batch.labels, gathered(batch.labels)[mine], share)


class _Aux(NamedTuple):
    logits: Array
    losses: Array
    batch_stats: Any


def _loss(
    recipe: Recipe, variables: Any, targets: mixup.Targets, keys: Key, params: Any, inputs: Array
) -> tuple[Array, _Aux]:
    """The mean loss as a function of the weights and of what the network sees."""
    logits, batch_stats = loop_safe(recipe.model.apply_train)(
        {**variables, "params": params}, inputs, keys
    )
    losses = targets.loss(recipe.loss_fn, logits)
    return jnp.mean(losses), _Aux(logits, losses, batch_stats)


def _step_keys(recipe: Recipe, key: Key, example_ids: Array, step: Array) -> _StepKeys:
    """An example's keys in an epoch, whatever its batch, row and device."""
    draws: list[Array] = [step // recipe.steps_per_epoch]
    if recipe.repeats:
        draws = [step, _repeat(example_ids)]

    def stream(name: str) -> Key:
        keys = prng.per_example(prng.named(key, name), example_ids)
        for draw in draws:
            keys = prng.per_draw(keys, draw)
        return keys

    return _StepKeys(stream("augment"), stream("model"), stream("method"), stream("mixup"))


def _repeat(example_ids: Array) -> Array:
    """How often each example came before in the whole batch, (B / devices,)."""
    everyone = jax.lax.all_gather(example_ids, AXIS, tiled=True)
    places = jax.lax.axis_index(AXIS) * len(example_ids) + jnp.arange(len(example_ids))
    earlier = jnp.arange(len(everyone)) < places[:, None]
    return jnp.sum(earlier & (everyone == example_ids[:, None]), axis=1)


def _crafting_logits(recipe: Recipe, variables: Any, keys: Key) -> LogitsFn:
    if recipe.method.attack_batch_norm == "eval":
        return jax.tree_util.Partial(recipe.model.apply, variables)
    return lambda inputs: recipe.model.apply_train(variables, inputs, keys)[0]


def _learnt(
    method: Method, state: MethodState, input_gradient: Array, losses: Array
) -> MethodState:
    if method.gradient is None or method.update is None:
        raise ValueError("a method that learns has both `gradient` and `update`")
    return method.update(state, jax.lax.pmean(method.gradient(input_gradient, losses), AXIS))


def _metrics(value: Array, aux: _Aux, labels: Array, gradient: Any) -> StepMetrics:
    correct = jnp.sum(jnp.argmax(aux.logits, axis=-1) == labels)
    return StepMetrics(
        loss=jax.lax.pmean(value, AXIS),
        correct=jax.lax.psum(correct, AXIS),
        examples=jax.lax.psum(jnp.asarray(labels.shape[0]), AXIS),
        gradient_norm=optax.tree.norm(gradient),
    )
