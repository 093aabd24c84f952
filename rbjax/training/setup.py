"""From a resolved config to its parts: data, model, optimizer, and a run's trained weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import optax

from rbjax import data, losses, models, perturbations
from rbjax.blocks import AXIS
from rbjax.config import Config, makers_options
from rbjax.data import (
    Dataset,
    DatasetInfo,
    augment,
    custom,
    groups,
    images,
    imbalance,
    order,
    sampling,
    subset,
)
from rbjax.data.pipeline import Schedule
from rbjax.paths import expanded
from rbjax.tables import lookup
from rbjax.training import finite, given, hooks, optimizers, posthoc, schedules, state
from rbjax.training.checkpoint import Checkpoints
from rbjax.typing import LogitsFn, LossFn, Perturbation


def load(config: Config, split: str) -> Dataset:
    """Returns a whole split, one's own or one that is known by name."""
    own = own_data(config)
    if own is not None:
        return custom.load(own, split)
    return data.load(config.dataset.name, split, data_dir=config.data_dir, bands=_bands(config))


def info(config: Config) -> DatasetInfo:
    """Returns what is known of the dataset; one's own is read for that."""
    own = own_data(config)
    if own is not None:
        return custom.info(own)
    return data.with_bands(data.info(config.dataset.name), _bands(config))


def _bands(config: Config) -> tuple[str, ...]:
    return tuple(given.split(",")) if (given := config.dataset.get("bands")) else ()


def own_data(config: Config) -> custom.Source | None:
    """Returns where one's own data are; None for a dataset that is known by name.

    Raises:
        ValueError: for an option out of range, or if bands are named.
    """
    fields = config.dataset
    if isinstance(data.DATASETS.get(fields.name.partition("/")[0]), DatasetInfo):
        return None
    if fields.get("bands"):
        raise ValueError(f"dataset.bands = {fields.bands!r}: only for droughtwatch")
    return custom.source(fields.name, options(config, "dataset"), path=fields.get("path"))


def load_train(config: Config) -> tuple[Dataset, Dataset | None]:
    """Returns the training set, after imbalance and subset, and the validation set or None."""
    fraction, source = config.dataset.validation_fraction, config.dataset.get("validation_from")
    train, validation = data.divide_train(
        load(config, "train"),
        validation_fraction=0.0 if source in ("last", "test") else fraction,
        imbalance=_profile(config),
        apply_to_validation=config.imbalance.apply_to_test,
        seed=config.imbalance.seed,
    )
    if config.dataset.subset is not None:
        train = subset.keep(train, config.dataset.subset, expected=config.dataset.subset_digest)
    if source == "last":
        train, validation = data.hold_out_last(train, fraction)
    validation = load(config, "test") if source == "test" else validation
    try:
        return first(train, config.dataset.max_train_examples), validation
    except ValueError as error:
        raise ValueError(f"dataset.max_train_examples: {error}") from None


def load_test(config: Config) -> Dataset:
    """Returns the test set; it follows the imbalance profile only where the config says so."""
    other = other_test(config)
    if other is None:
        test = load(config, "test")
    else:  # described as what the model was trained on is
        test = data.load(*other, data_dir=config.data_dir)
        test = dataclasses.replace(test, info=info(config), split=" ".join(other))
    if config.imbalance.apply_to_test:
        test = data.subsample(test, _profile(config), seed=config.imbalance.seed)
    return data.in_memory(first(test, config.dataset.max_test_examples))


def other_test(config: Config) -> tuple[str, str] | None:
    """Returns name and split of `dataset.test_on`; None where a run is tested on its own test set.

    Raises:
        ValueError: if there is no such test set, or it has other classes or images.
    """
    given = config.dataset.get("test_on")
    if given is None:
        return None
    name, _, split = given.partition(":")
    ours, split = info(config), split or "test"
    try:
        theirs = data.info(name)
    except ValueError as error:
        raise ValueError(f"dataset.test_on = {given!r}: {error}") from None
    lookup(theirs.num_examples, split, what=f"{name} split")
    check_alike(theirs, ours, f"dataset.test_on = {given!r}")
    return name, split


def check_alike(theirs: DatasetInfo, ours: DatasetInfo, what: str) -> None:
    """Refuses a dataset whose images or classes a model for ours does not fit.

    Raises:
        ValueError: beginning with `what`, for another shape or number of classes.
    """
    for field in ("image_shape", "num_classes"):
        here, there = getattr(ours, field), getattr(theirs, field)
        if here != there:
            raise ValueError(
                f"{what} with {field} {there}; it must have that of {ours.name}, {here}"
            )


def first(dataset: Dataset, num_examples: int | None) -> Dataset:
    """Returns the first examples of a random order, by id; all of them for None.

    Groups stay whole: there may be fewer.  What is not in memory may lie class by class.
    """
    if num_examples is None or num_examples >= dataset.num_examples:
        return dataset
    if dataset.groups is not None:
        return dataset.take(groups.first(dataset.groups, num_examples, name="first"))
    if images.is_resident(dataset.images):
        return dataset.take(np.arange(num_examples))
    numbers = order.priorities(dataset.example_ids, seed=0, name="first")
    return dataset.take(np.sort(np.argsort(numbers, kind="stable")[:num_examples]))


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


def options(config: Config, group: str) -> dict[str, Any]:
    """Returns the options of what a group names, as keywords, without what is absent."""
    return makers_options(group, config[group].to_dict())


def _profile(config: Config) -> Callable[[np.ndarray], np.ndarray]:
    keywords = options(config, "imbalance")
    if imbalance.PROFILES.accepts(config.imbalance.name, "seed"):  # of one outside
        keywords["seed"] = config.imbalance.seed
    return lambda counts: imbalance.create(config.imbalance.name, class_counts=counts, **keywords)
