"""The compiled training step: `jax.pmap` over the axis "data".

Every collective of rbjax's own stands here: the average of the weights' gradient, a method's sums
and those of the metrics.  (Batch norm averages its own.)  The state is replicated, without an axis.
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
from rbjax.classifier import predicted
from rbjax.convolution import loop_safe
from rbjax.data.pipeline import gather
from rbjax.losses import at_epoch
from rbjax.models import Model
from rbjax.training import mixup
from rbjax.training.forgetting import let_go_with
from rbjax.training.method import (
    ClassSums,
    Method,
    MethodState,
    Output,
    Seen,
    check,
    trained_part,
    with_frozen_statistics,
    with_the_rest,
)
from rbjax.training.optimizers import ema_update
from rbjax.training.state import TrainState
from rbjax.typing import Array, Batch, Device, Key, LogitsFn, LossFn, Perturbation

TrainStep = Callable[..., tuple[TrainState, "StepMetrics"]]


class Recipe(NamedTuple):
    """What a training step is made of."""

    model: Model
    method: Method
    loss_fn: LossFn
    """(logits, labels) -> (B,); one that takes `epoch`, counted from 0, is told it."""
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
    """The value that was descended: the mean loss on the inputs trained on."""
    correct: Array
    """Inputs correctly classified (of several, the first); a mixed one counts as the image with
    the larger share."""
    examples: Array
    gradient_norm: Array
    classes: ClassSums | None = None
    """By class; None unless the method has `average`, `guard` or `after_epoch`, which are told."""


class _StepKeys(NamedTuple):
    augment: tuple[Key, ...]
    """For each view of an image."""
    model: Key
    method: Key
    mixup: Key


class _Work(NamedTuple):
    """What one descent starts from: one device's part of the batch, and the state."""

    recipe: Recipe
    state: TrainState
    keys: _StepKeys
    images: Any
    """Augmented and mixed; a tuple of several views."""
    targets: mixup.Targets


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
        devices: all of them, of all processes.
        streamed: each device is given images, labels and ids of its own, (devices, n, ...), and
            its rows are into those.

    Returns:
        `train_step(state, images, labels, example_ids, rows) -> (state, StepMetrics of (K,))`:
        the whole split (uint8, replicated) and `rows` (devices, K, B / devices).  `state` is
        donated.

    Raises:
        ValueError: if the method's fields do not go together.
    """
    check(recipe.method)
    key = prng.check(key)

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
    mapped = jax.pmap(
        steps,
        axis_name=AXIS,
        in_axes=(axes, split, split, split, 0),
        out_axes=(axes, None),
        donate_argnums=0,
        devices=devices,
    )
    return let_go_with(mapped, steps)


def _one_step(
    recipe: Recipe, key: Key, state: TrainState, batch: Batch
) -> tuple[TrainState, StepMetrics]:
    loss_fn = at_epoch(recipe.loss_fn, state.step // recipe.steps_per_epoch)
    recipe = recipe._replace(loss_fn=loss_fn)
    keys = _step_keys(recipe, key, batch.example_ids, state.step)
    views = [jax.vmap(recipe.augment)(own, batch.images) for own in keys.augment]
    images, targets = tuple(views) if len(views) > 1 else views[0], mixup.Targets(batch.labels)
    if recipe.mixup_alpha:
        share = mixup.draw_share(key, state.step, alpha=recipe.mixup_alpha)
        images, targets = _mixed(keys.mixup, share, images, batch)
    if recipe.method.replays == 1:
        after, metrics = _descend(_Work(recipe, state, keys, images, targets))
    else:

        def replay(state: TrainState, number: Array) -> tuple[TrainState, StepMetrics]:
            own = keys._replace(
                model=prng.per_draw(keys.model, number), method=prng.per_draw(keys.method, number)
            )
            return _descend(_Work(recipe, state, own, images, targets))

        after, metrics = jax.lax.scan(replay, state, jnp.arange(recipe.method.replays))
        metrics = jax.tree.map(lambda x: x[-1], metrics)
    ema = state.ema
    if recipe.ema_decay is not None:
        ema = ema_update(state.ema, after.variables, state.step, recipe.ema_decay)
    return after._replace(step=state.step + 1, ema=ema), metrics


def _descend(work: _Work) -> tuple[TrainState, StepMetrics]:
    """Updates the weights once, and what the method learns beside them."""
    recipe, state, method = work.recipe, work.state, work.recipe.method
    whole, method_state = state.variables["params"], state.method_state
    inputs, loss = _inputs(work), partial(_loss, work)

    def gradient_fn(params: Any) -> Any:
        return jax.lax.pmean(jax.grad(loss, has_aux=True)(params, inputs)[0], AXIS)

    params = point = trained_part(method, whole)
    if method.descend_at is not None:
        point = method.descend_at(gradient_fn, params, method_state)
    simultaneous = method.update is not None and not method.alternating
    value_and_grad = jax.value_and_grad(
        loss, argnums=(0, 1) if simultaneous else (0,), has_aux=True
    )
    (value, aux), (gradient, *input_gradients) = value_and_grad(point, inputs)
    gradient = jax.lax.pmean(gradient, AXIS)
    updates, opt_state = recipe.optimizer.update(gradient, state.opt_state, params)
    params = optax.apply_updates(params, updates)
    if simultaneous:
        method_state = _learnt(work, _seen(work, point, inputs, aux), input_gradients[0])
    elif method.update is not None:
        after, aux_after = jax.grad(loss, argnums=1, has_aux=True)(params, inputs)
        method_state = _learnt(work, _seen(work, params, inputs, aux_after), after)
    variables = {**state.variables, "params": with_the_rest(params, whole)}
    if aux.batch_stats:
        # Equal on every device where batch norm is synchronised; averaged where it is not.
        stats = jax.lax.pmean(aux.batch_stats, AXIS)
        before = state.variables["batch_stats"]
        variables["batch_stats"] = with_frozen_statistics(method, whole, before, stats)
    metrics = _metrics(work, value, aux, gradient)
    return TrainState(state.step, variables, opt_state, state.ema, method_state), metrics


def _inputs(work: _Work) -> Any:
    """What the network is trained on: images augmented, then changed by the method."""
    method, variables, state = work.recipe.method, work.state.variables, work.state.method_state
    if method.craft_at is not None:
        variables = {**variables, "params": method.craft_at(variables["params"], state)}
    logits_fn = _crafting_logits(work.recipe, variables, work.keys.model)
    inputs = method.inputs(logits_fn, work.keys.method, state, work.images, work.targets.most)
    expected = jnp.shape(jax.tree.leaves(work.images)[0])
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(inputs)]
    if not shapes or any(shape != expected for shape in shapes):
        raise ValueError(
            f"the method's inputs have the shapes {shapes}; each must be {expected}, as the images"
        )
    return jax.lax.stop_gradient(inputs)


def _mixed(keys: Key, share: Array, images: Any, batch: Batch) -> tuple[Any, mixup.Targets]:
    """Mixes each image with its partner in the whole batch, which may lie on another device."""

    def gathered(x: Array) -> Array:
        return jax.lax.all_gather(x, AXIS, tiled=True)

    partners = mixup.partners(gathered(jax.vmap(prng.bits)(keys)), gathered(batch.example_ids))
    size = len(batch.labels)
    mine = jax.lax.dynamic_slice(partners, (jax.lax.axis_index(AXIS) * size,), (size,))
    mixed = jax.tree.map(lambda x: share * x + (1 - share) * gathered(x)[mine], images)
    return mixed, mixup.Targets(batch.labels, gathered(batch.labels)[mine], share)


class _Aux(NamedTuple):
    outputs: Any
    """An `Output` in the place of each array of the inputs."""
    sums: Any
    losses: Any
    batch_stats: Any


def _loss(work: _Work, params: Any, inputs: Any) -> tuple[Array, _Aux]:
    """The value to descend: a function of the trained weights and of what the network sees."""
    method = work.recipe.method
    outputs, batch_stats = _outputs(work, params, inputs)
    seen = _seen(work, params, inputs, _Aux(outputs, None, None, None))
    if method.sums is not None:
        seen = seen._replace(sums=jax.lax.psum(method.sums(seen), AXIS))
    if method.loss is None:
        losses = jnp.stack([seen.task_loss(output.logits) for output in _each(outputs)])
        losses = losses[0] if len(losses) == 1 else jnp.mean(losses, axis=0)
    else:
        losses = _per_example(method.loss(seen), seen.labels, "the method's loss")
    value = jnp.mean(losses)
    if method.weights is not None:
        weights = method.weights(seen._replace(losses=losses))
        weights = _per_example(weights, seen.labels, "the method's weights")
        value = jnp.mean(jax.lax.stop_gradient(weights) * losses)
    return value, _Aux(outputs, seen.sums, losses, batch_stats)


def _outputs(work: _Work, params: Any, inputs: Any) -> tuple[Any, Any]:
    """What the network says of each array of the inputs, and the last one's statistics."""
    method, model, variables = work.recipe.method, work.recipe.model, _variables(work, params)
    with_features = model.apply_with_features if method.features else None
    if method.features and with_features is None:
        raise ValueError(
            f"the method asks for features; model {model.name!r} does not say which layer they are"
        )

    def forward(variables: Any, images: Array, keys: Key) -> tuple[Output, Any]:
        own = keys if method.batch_norm == "train" else None
        if with_features is not None:
            logits, features, stats = loop_safe(with_features)(variables, images, own)
            return Output(logits, features), stats
        if own is None:
            return Output(loop_safe(model.apply)(variables, images), None), {}
        logits, stats = loop_safe(model.apply_train)(variables, images, own)
        return Output(logits, None), stats

    arrays, form = jax.tree.flatten(inputs)
    if method.together:
        keys = jnp.concatenate([work.keys.model] * len(arrays))
        output, stats = forward(variables, jnp.concatenate(arrays), keys)
        rows = [slice(i * len(x), (i + 1) * len(x)) for i, x in enumerate(arrays)]
        parts = [jax.tree.map(lambda x, own=own: x[own], output) for own in rows]
        return form.unflatten(parts), stats
    outputs, stats = [], {}
    for images in arrays:
        if stats:
            variables = {**variables, "batch_stats": stats}
        output, stats = forward(variables, images, work.keys.model)
        outputs.append(output)
    return form.unflatten(outputs), stats


def _seen(work: _Work, params: Any, inputs: Any, aux: _Aux) -> Seen:
    return Seen(
        outputs=aux.outputs,
        labels=work.targets.most,
        task_loss=lambda logits: _per_example(
            work.targets.loss(work.recipe.loss_fn, logits), work.targets.most, "the training loss"
        ),
        logits_fn=jax.tree_util.Partial(work.recipe.model.apply, _variables(work, params)),
        images=work.images,
        inputs=inputs,
        keys=work.keys.method,
        state=work.state.method_state,
        sums=aux.sums,
        losses=aux.losses,
    )


def _variables(work: _Work, params: Any) -> Any:
    """The network's variables at weights of which a method may train only a part."""
    variables = work.state.variables
    return {**variables, "params": with_the_rest(params, variables["params"])}


def _each(outputs: Any) -> list[Output]:
    return jax.tree.leaves(outputs, is_leaf=lambda x: isinstance(x, Output))


def _per_example(values: Any, labels: Array, name: str) -> Array:
    if jnp.shape(values) != labels.shape:
        raise ValueError(
            f"{name} has shape {jnp.shape(values)}; it must be {labels.shape}, one an example"
        )
    return values


def _step_keys(recipe: Recipe, key: Key, example_ids: Array, step: Array) -> _StepKeys:
    """An example's keys in an epoch, whatever its batch, row and device."""
    epoch = step // recipe.steps_per_epoch
    draws = [step, _repeat(example_ids)] if recipe.repeats else [epoch]

    def stream(name: str) -> Key:
        keys = prng.per_example(prng.named(key, name), example_ids)
        for draw in draws:
            keys = prng.per_draw(keys, draw)
        return keys

    more = range(1, recipe.method.views)
    augment = (stream("augment"), *(stream(f"augment view {view}") for view in more))
    return _StepKeys(augment, stream("model"), stream("method"), stream("mixup"))


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


def _learnt(work: _Work, seen: Seen, input_gradients: Any) -> MethodState:
    """What the method remembers from here on; sums and gradients are of the whole batch."""
    method = work.recipe.method
    input_gradients = jax.tree.map(lambda x: x / jax.lax.axis_size(AXIS), input_gradients)
    shared = None
    if method.gradient is not None:
        shared = jax.lax.psum(method.gradient(seen, input_gradients), AXIS)
    assert method.update is not None
    return method.update(seen, input_gradients, shared)


def _metrics(work: _Work, value: Array, aux: _Aux, gradient: Any) -> StepMetrics:
    labels = work.targets.most
    correct = [predicted(output.logits) == labels for output in _each(aux.outputs)]
    classes = None
    if any(getattr(work.recipe.method, hook) for hook in ("average", "guard", "after_epoch")):
        of_class = jax.nn.one_hot(labels, work.recipe.model.num_classes)
        classes = ClassSums(
            count=jnp.sum(of_class, axis=0),
            # Not a product: a loss that is not finite would spoil every class.
            loss=jnp.sum(jnp.where(of_class > 0, aux.losses[:, None], 0.0), axis=0),
            correct=jnp.stack(correct).astype(jnp.float32) @ of_class,
        )
    return StepMetrics(
        loss=jax.lax.pmean(value, AXIS),
        correct=jax.lax.psum(jnp.sum(correct[0]), AXIS),
        examples=jax.lax.psum(jnp.asarray(labels.shape[0]), AXIS),
        gradient_norm=optax.tree.norm(gradient),
        classes=jax.lax.psum(classes, AXIS),
    )
