"""Tries what a config names, on shapes alone, so that nothing of it fails once a run has begun."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rbjax import losses, prng
from rbjax.config import Config
from rbjax.data import Dataset, DatasetInfo
from rbjax.inputs import check_memory
from rbjax.models import Model
from rbjax.tables import is_path, reason
from rbjax.training import given, optimizers, posthoc, setup
from rbjax.training.state import TrainState, place
from rbjax.training.step import Recipe, make_train_step
from rbjax.typing import Array

_STEP = jax.ShapeDtypeStruct((), jnp.int32)


def splits(config: Config, info: DatasetInfo) -> None:
    """Refuses data without a split that is needed after training; of one's own it is read.

    Raises:
        ValueError: naming the split.
    """
    needed = {"test"} if config.task == "evaluate" else {"train"}
    if given.are_given(config):
        needed.discard("train")
    if config.task == "train":
        needed.add("test")
    if config.task != "evaluate" and config.score.max_steps:
        needed.add(config.score.split)
    if setup.other_test(config) is not None:
        needed.discard("test")
    for split in sorted(needed - set(info.num_examples)):
        if setup.own_data(config) is None:
            raise ValueError(
                f"{info.name} has no split {split!r}, which task = {config.task!r} needs; it has "
                f"{', '.join(list(info.num_examples)[:3])}"
            )
        setup.load(config, split)


def loss(config: Config, info: DatasetInfo) -> None:
    """Refuses a training loss that is none, or does not go with mixed images.

    Raises:
        ValueError: for one that fails, or returns anything but a number per example.
    """
    name, alpha = config.loss.name, config.dataset.mixup_alpha
    if alpha and name in losses.WITH_MARGIN:
        raise ValueError(
            f"dataset.mixup_alpha = {alpha:g}: the loss {name!r} sets an image's one class apart; "
            "leave it at 0, or take a loss without a margin, such as 'balanced_softmax'"
        )
    made = setup.create_loss(config, [1] * info.num_classes)
    logits = jax.ShapeDtypeStruct((4, info.num_classes), jnp.float32)
    labels = jax.ShapeDtypeStruct((4,), jnp.int32)
    returned = _traced(f"loss {config.loss.name!r}", made, logits, labels)
    of_form = getattr(returned, "shape", None) == (4,)
    if not of_form or not jnp.issubdtype(returned.dtype, jnp.floating):
        raise ValueError(
            f"loss {config.loss.name!r} returns {returned} for 4 examples; it must return one "
            "number per example, not their mean"
        )


def model(config: Config, info: DatasetInfo) -> None:
    """Refuses a model that is none, whose weights this machine cannot hold, or given ones misfit.

    Raises:
        ValueError: for one that cannot be made, is too large, or is not that of the weights' file;
            or for a tau_norm where there is no linear head.
    """
    made = setup.create_model(config, info)
    images = jax.ShapeDtypeStruct((1, *info.image_shape), jnp.float32)
    what = f"model {config.model.name!r}"
    weights = _traced(what, made.init, prng.key(0), images)
    # Of each weight there is a gradient at least.
    size = 2 * sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(weights))
    check_memory("name", config.model.name, size)
    tau = config.model.get("tau_norm")
    if tau is not None:  # or it would be refused when training is over
        _traced(what, functools.partial(posthoc.normalize_head, tau=tau), weights)
    if given.are_given(config):
        given.read(config, made)


def schedule(config: Config) -> None:
    """Refuses a schedule that is none.

    Raises:
        ValueError: for one that fails, or returns anything but a number.
    """
    made = setup.create_schedule(config, steps_per_epoch=100)
    returned = _traced(f"schedule {config.schedule.name!r}", made, _STEP)
    if getattr(returned, "shape", np.shape(returned)) != ():
        raise ValueError(
            f"schedule {config.schedule.name!r} returns {returned}; it must return one number"
        )


def optimizer(config: Config) -> None:
    """Refuses an optimizer that cannot update two small arrays from their gradient alone.

    Raises:
        ValueError: for one that fails, or keeps what a checkpoint does not hold.
    """
    name = config.optimizer.name
    made = optimizers.create(
        name,
        lambda step: jnp.float32(0.1),
        gradient_clip=config.optimizer.gradient_clip,
        **setup.options(config, "optimizer"),
    )
    if not is_path(name):
        return
    params = {"kernel": jnp.zeros((2, 3)), "bias": jnp.zeros(3)}
    what = f"optimizer {name!r}"
    state = _traced(what, made.init, params)
    for leaf in jax.tree.leaves(state):
        if jnp.issubdtype(getattr(leaf, "dtype", np.float32), jax.dtypes.prng_key):
            raise ValueError(f"{what} keeps a typed key in its state, which no checkpoint holds")
    updates, after = _traced(what, made.update, params, state, params)
    if jax.tree.map(jnp.shape, updates) != jax.tree.map(jnp.shape, params):
        raise ValueError(f"{what} makes updates of other shapes than the parameters")
    if jax.tree.structure(after) != jax.tree.structure(state):
        raise ValueError(f"{what} changes the form of its state")


def perturbation(config: Config, info: DatasetInfo) -> None:
    """Refuses a random perturbation that does not return an image.

    Raises:
        ValueError: for one that fails, or returns another shape.
    """
    made = setup.create_perturbation(config)
    image = jax.ShapeDtypeStruct(info.image_shape, jnp.float32)
    what = f"perturbation {config.score.perturbation!r}"
    returned = _traced(what, made, prng.key(0), image)
    if getattr(returned, "shape", None) != info.image_shape:
        raise ValueError(f"{what} returns {returned}; it must return an image {info.image_shape}")
    repetitions, num_examples = config.score.repetitions, info.num_examples.get(config.score.split)
    check_memory("repetitions", repetitions, 4 * repetitions * (num_examples or 0))


def sampler(config: Config, train_set: Dataset, num_steps: int) -> None:
    """Refuses a sampler from outside whose first epoch is none.

    Raises:
        ValueError: for one that fails, or returns anything but rows of the training set.
    """
    name, shape = config.sampler.name, (num_steps, config.batch_size)
    if not is_path(name):
        return
    what, made = f"sampler {name!r}", setup.create_sampler(config)
    sizes = {"batch_size": config.batch_size, "num_steps": num_steps}
    try:
        rows = made(train_set.labels, seed=config.seed, epoch=config.num_epochs - 1, **sizes)
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"{what} fails: {reason(error)}") from error
    if np.shape(rows)[1:] != shape[1:] or len(rows) < 1 or np.asarray(rows).dtype.kind not in "iu":
        raise ValueError(f"{what} returns {rows!r}; it must return rows {shape} of whole numbers")
    if np.min(rows) < 0 or np.max(rows) >= train_set.num_examples:
        raise ValueError(
            f"{what} returns rows from {np.min(rows)} to {np.max(rows)}; there are "
            f"{train_set.num_examples}, numbered from 0"
        )


def adjustment(config: Config, model: Model, train_set: Dataset) -> None:
    """Refuses a training set from which the logits could not be adjusted once it is trained on.

    Raises:
        ValueError: if a class has no example.
    """
    tau = config.model.get("logit_adjustment")
    if not tau:
        return
    try:
        posthoc.adjust_logits(model, train_set.class_counts, tau=tau)
    except ValueError as error:
        raise ValueError(f"model.logit_adjustment = {tau:g}: {error}") from None


def step(config: Config, recipe: Recipe, state: TrainState, train_set: Dataset) -> None:
    """Refuses a training step that cannot be traced, or in which the config's loss has no part.

    It is traced where a part of it is from outside, or the loss is not the cross-entropy.

    Args:
        config: the run's config.
        recipe: what the step is made of.
        state: the state before the first step, on the host.
        train_set: the training set.

    Raises:
        ValueError: naming the parts from outside, and what the step says; or the method that does
            not use the loss.
    """
    groups = ("model", "method", "loss", "optimizer")
    outside = [f"{group} {config[group].name!r}" for group in groups if is_path(config[group].name)]
    is_usual = _is_cross_entropy(config)
    if is_usual and not outside:
        return
    asked = []

    def recorded(logits: Array, labels: Array, *, epoch: Array | int = 0) -> Array:
        asked.append(True)
        return losses.at_epoch(recipe.loss_fn, epoch)(logits, labels)

    watched = recipe._replace(loss_fn=recorded)
    device, size = jax.local_devices()[:1], config.batch_size
    compiled = make_train_step(watched, prng.key(0), devices=device)
    shape = (size, *train_set.info.image_shape)
    images = jax.ShapeDtypeStruct(shape, train_set.images.dtype)
    labels = jax.ShapeDtypeStruct((size,), jnp.int32)
    rows = jax.ShapeDtypeStruct((1, 1, size), jnp.int32)
    what = f"a training step with {', '.join(outside or groups)}"
    _traced(what, compiled, place(state, device), images, labels, labels, rows)
    if not asked and not is_usual:
        raise ValueError(
            f"loss.name = {config.loss.name!r}: the method {config.method.name!r} has a loss of "
            "its own and does not use it; leave loss.* as it is"
        )


def _is_cross_entropy(config: Config) -> bool:
    """Whether the loss is the one that is there when nothing is said."""
    plain = {"name": "cross_entropy", "class_weights": "none", "label_smoothing": 0.0}
    return all(config.loss.get(key, value) == value for key, value in plain.items())


def _traced(what: str, call: Callable[..., Any], *args: Any) -> Any:
    try:
        return jax.eval_shape(call, *args)
    except Exception as error:
        if type(error) is ValueError:
            raise
        raise ValueError(f"{what} fails: {reason(error)}") from error
