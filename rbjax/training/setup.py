"""From a resolved config to its parts: data, model, optimizer, and a run's trained weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import optax

from rbjax import losses, models, perturbations
from rbjax.blocks import AXIS
from rbjax.config import Config
from rbjax.data import Dataset, DatasetInfo, augment, sampling
from rbjax.data.pipeline import Schedule
from rbjax.paths import expanded
from rbjax.training import finite, given, hooks, optimizers, posthoc, schedules, state
from rbjax.training.checkpoint import Checkpoints
from rbjax.training.data_setup import (
    check_alike,
    check_unchanged,
    first,
    info,
    load,
    load_test,
    load_train,
    options,
    other_test,
    own_data,
    test_identity,
)
from rbjax.typing import LogitsFn, LossFn, Perturbation

__all__ = [
    "batches",
    "best_checkpoints",
    "check_alike",
    "check_unchanged",
    "checkpoints",
    "create_augment",
    "create_loss",
    "create_model",
    "create_optimizer",
    "create_perturbation",
    "create_sampler",
    "create_schedule",
    "evaluated_model",
    "first",
    "info",
    "load",
    "load_test",
    "load_train",
    "options",
    "other_test",
    "own_data",
    "test_identity",
    "trained_logits_fn",
    "trained_variables",
]


def create_model(config: Config, info: DatasetInfo) -> models.Model:
    """Returns the model of a config for a dataset."""
    synchronized = config.model.batch_norm == "synchronized"
    if not config.model.get("normalize", True):  # of an earlier version's run: it normalises
        channels = info.image_shape[-1]
        info = info._replace(mean=(0.0,) * channels, std=(1.0,) * channels)
    return models.create(
        config.model.name,
        num_classes=info.num_classes,
        image_shape=info.image_shape,
        mean=info.mean,
        std=info.std,
        axis_name=AXIS if synchronized else None,
        dtype=config.model.dtype,
        **options(config, "model"),
    )


def create_augment(config: Config, info: DatasetInfo) -> Perturbation:
    """Returns the training images' augmentation."""
    fields = ("flip_horizontal", "flip_vertical", "rotation_degrees", "crop_padding")
    fields += ("deformation", "cutout_size")
    jitter = ("brightness", "contrast", "saturation", "hue")
    return augment.create(
        **{name: config.dataset[name] for name in fields},
        **{name: config.dataset[f"jitter_{name}"] for name in jitter},
        fill=info.mean if config.dataset.fill == "mean" else (0.0,),
    )


def create_sampler(config: Config) -> sampling.Sampler:
    """Returns what chooses the rows of each training step."""
    return sampling.create(
        config.sampler.name,
        start_epoch=config.sampler.get("start_epoch") or 0,
        **options(config, "sampler"),
    )


def batches(config: Config, train_set: Dataset, steps_per_block: int, *, start: int) -> Schedule:
    """Returns which rows each dispatch uses, from a step on."""
    steps_per_epoch = train_set.num_examples // (batch_size := config.batch_size)
    sampler = create_sampler(config)

    def order(epoch: int) -> np.ndarray:
        return sampler(
            train_set.labels,
            seed=config.seed,
            epoch=epoch,
            batch_size=batch_size,
            num_steps=steps_per_epoch,
        )

    return Schedule(
        order,
        steps_per_epoch=steps_per_epoch,
        num_epochs=config.num_epochs,
        steps_per_block=steps_per_block,
        start=start,
    )


def create_perturbation(config: Config) -> Perturbation:
    """Returns the random perturbation that RPR scores with."""
    return perturbations.create(config.score.perturbation, **options(config, "score"))


def create_loss(config: Config, class_counts: Sequence[int] | np.ndarray) -> LossFn:
    """Returns the training loss; `class_counts` are those of the training set.

    Raises:
        ValueError: for an option out of range, or class weights that would never begin.
    """
    fields = config.loss
    if fields.start_epoch >= config.num_epochs:
        raise ValueError(
            f"start_epoch = {fields.start_epoch}: must be below num_epochs = {config.num_epochs}, "
            "or the class weights would never begin"
        )
    return losses.create(
        fields.name,
        class_counts=class_counts,
        logit_scale=models.logit_scale(config.model.get("head"), config.model.get("head_scale")),
        class_weights=fields.class_weights,
        weights_beta=fields.weights_beta,
        start_epoch=fields.start_epoch,
        **options(config, "loss"),
    )


def create_schedule(config: Config, *, steps_per_epoch: int) -> schedules.Schedule:
    """Returns the course of the learning rate.

    Raises:
        ValueError: for more updates than an int32 counts, or an option out of range.
    """
    num_steps = steps_per_epoch * config.num_epochs
    if num_steps > schedules.MOST_STEPS:
        raise ValueError(
            f"num_epochs = {config.num_epochs}: makes {num_steps} updates of {steps_per_epoch} an "
            f"epoch; at most {schedules.MOST_STEPS}"
        )
    return schedules.create(
        config.schedule.name,
        num_steps=num_steps,
        steps_per_epoch=steps_per_epoch,
        **options(config, "schedule"),
    )


def create_optimizer(config: Config, *, steps_per_epoch: int) -> optax.GradientTransformation:
    """Returns the optimizer with its schedule."""
    return optimizers.create(
        config.optimizer.name,
        create_schedule(config, steps_per_epoch=steps_per_epoch),
        gradient_clip=config.optimizer.gradient_clip,
        **options(config, "optimizer"),
    )


def checkpoints(workdir: str, *, keep: int = 1) -> Checkpoints:
    """Returns the checkpoints of a run directory."""
    return Checkpoints(expanded(workdir, field="workdir") / "checkpoints", keep)


def best_checkpoints(workdir: str, *, keep: int = 1) -> Checkpoints:
    """Returns the weights of a run's best epochs, one for each of the newest checkpoints."""
    # While the newest is written, the one before it still counts.
    return Checkpoints(checkpoints(workdir).directory / "best", keep + 1)


def trained_variables(
    config: Config, workdir: str, model: models.Model, *, checkpoint: str | int | None = None
) -> tuple[int, Any]:
    """Returns a run's weights, the ones it is judged by: of the last epoch, or of the best.

    Args:
        config: the run's config; `checkpoint.which` is whose weights.
        workdir: the run directory.
        model: its model.
        checkpoint: "best" (which must be there), "last" or a step; None: as the config says.

    Returns:
        The step they are of, 0 of given weights, and the variables as numpy arrays.

    Raises:
        ValueError: if the run directory holds none, or what is asked for is gone or damaged.
        NotFiniteError: if the weights are not finite.
    """
    if given.are_given(config):
        return _posthoc(config, workdir, 0, given.read(config, model, checkpoint))
    template = model.shapes
    name = "ema" if state.is_averaged(config) else "variables"
    if isinstance(checkpoint, int):
        return _posthoc(config, workdir, *_of_step(workdir, checkpoint, name, template))
    restored = checkpoints(workdir).restore_latest({name: template}, partial=True)
    if restored is None:
        raise ValueError(
            f"workdir = {workdir!r}: holds no checkpoint; train into it first (--config.task=train)"
        )
    best = restored.extra.get("selection", {}).get("step")
    if checkpoint == "best" and best is None:
        raise ValueError(
            f"workdir = {workdir!r}: has no best epoch, as nothing was held out to judge by "
            "(dataset.validation_fraction); take the last"
        )
    if (checkpoint or config.checkpoint.get("which")) == "best" and best is not None:
        name, kept = "variables", best_checkpoints(workdir)
        restored = kept.restore(int(best), {name: template}) if kept.has(int(best)) else None
        if restored is None:
            raise ValueError(
                f"workdir = {workdir!r}: the weights of its best epoch, of step {best}, are gone "
                "or damaged; take those of the last: --config.checkpoint.which=last"
            )
    return _posthoc(config, workdir, restored.step, restored.state[name])


def _of_step(workdir: str, step: int, name: str, template: Any) -> tuple[int, Any]:
    """Returns the weights of one step, which may be among the newest or the best."""
    newest, best = checkpoints(workdir), best_checkpoints(workdir)
    for kept, stored in ((newest, name), (best, "variables")):
        restored = kept.restore(step, {stored: template}, partial=True)
        if restored is not None:
            return restored.step, restored.state[stored]
    there = sorted({*newest.steps(), *best.steps()})
    raise ValueError(
        f"workdir = {workdir!r}: holds no checkpoint of step {step}; it has those of "
        f"{', '.join(map(str, there)) or 'no step'}"
    )


def _posthoc(config: Config, workdir: str, step: int, variables: Any) -> tuple[int, Any]:
    """Returns step and weights as they are judged: finite, and the head normalised if asked for."""
    finite.check_stored(variables, step, workdir)
    tau = config.model.get("tau_norm")
    if tau is not None:
        variables = jax.device_get(posthoc.normalize_head(variables, tau=tau))
    return step, variables


def evaluated_model(config: Config, workdir: str, model: models.Model) -> models.Model:
    """Returns a run's model as it is judged: its logits adjusted where the config says so.

    Args:
        config: the run's config.
        workdir: the run directory, of whose training set the class counts are.
        model: its model.
    """
    tau = config.model.get("logit_adjustment")
    if not tau:
        return model
    class_counts = hooks.trained_on(workdir, load_train(config)[0]).class_counts
    return posthoc.adjust_logits(model, class_counts, tau=tau)


def trained_logits_fn(config: Config, workdir: str) -> LogitsFn:
    """Returns a run's model with the weights it is judged by, on the device.

    Args:
        config: the run's config.
        workdir: the run directory.

    Returns:
        images -> logits, a `jax.tree_util.Partial`.

    Raises:
        ValueError: as `trained_variables`.
    """
    model = create_model(config, info(config))
    variables = trained_variables(config, workdir, model)[1]
    model = evaluated_model(config, workdir, model)
    return jax.tree_util.Partial(model.apply, jax.device_put(variables))
