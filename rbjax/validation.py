"""What each epoch is validated by: every image as it is, and some under an attack it can afford."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np

from rbjax import attacks, metrics, prng
from rbjax.attacks import CompiledAttack
from rbjax.attacks.outcome import counted
from rbjax.config import Config
from rbjax.data import Dataset, order
from rbjax.models import Model
from rbjax.training.method import Method
from rbjax.training.predict import predict_attacked, predict_with_loss
from rbjax.training.state import TrainState, evaluation_variables
from rbjax.typing import Key, LogitsFn

_FEWEST = 100
"""Images below which the attack takes fewer steps first: their accuracy is known to 10 points."""


class Cost(NamedTuple):
    """How much of a validation split is attacked, and how hard."""

    num_images: int
    num_steps: int


class Validated(NamedTuple):
    """What the validation of one epoch found."""

    record: dict[str, Any]
    """For the log, by names that begin with "validation/"."""
    confusion: np.ndarray
    """(K, K) by class and prediction."""
    robust_confusion: np.ndarray | None
    """The same under the attack."""


@dataclasses.dataclass(frozen=True, eq=False)
class Validation:
    """What the epochs of a run are validated by."""

    dataset: Dataset
    attacked: Dataset | None
    """Those of the images that are attacked, of each class its share; None: none is."""
    attack: CompiledAttack | None
    about: str
    """The attack in words, "" without one."""
    key: Key
    weights: str
    """Which weights are judged where an average is kept: "average" or "plain"."""

    def __call__(self, model: Model, state: TrainState) -> Validated:
        """Validates the weights of a run, the plain ones and the average where one is kept.

        Args:
            model: the run's.
            state: after the epoch.

        Returns:
            Of the weights that are judged; in the record the figures of the others stand beside
            them, as "validation/plain/..." or "validation/average/...".
        """
        judged = _validate(self, _with_weights(model, evaluation_variables(state, self.weights)))
        record = dict(judged.record)
        if state.ema is not None:
            other = "plain" if self.weights == "average" else "average"
            beside = _validate(self, _with_weights(model, evaluation_variables(state, other)))
            for name, value in beside.record.items():
                record[name.replace("validation/", f"validation/{other}/", 1)] = value
        if self.attack is not None:
            record["validation/attack"] = self.about
        return judged._replace(record=record)

    def __str__(self) -> str:
        """Returns in words what is validated."""
        return f"{self.dataset.num_examples} images as they are; attack: {self.about or 'none'}"


def create(
    config: Config, method: Method, dataset: Dataset, *, images_per_epoch: int
) -> Validation:
    """Returns what the epochs of a config are validated by.

    The attack is PGD in the ball that the method trains for, or in the dataset's usual one.  It is
    given `validation.max_share` of an epoch's passes through the network (once forward and once
    backward each), counted beforehand: an image costs training one pass for each descent and, if
    the method says `num_steps`, one for each step of its own attack; it costs the validation one
    for each step and one for the verdict, for each set of weights that is validated.

    Args:
        config: a resolved config.
        method: its method.
        dataset: the validation split.
        images_per_epoch: images that an epoch trains on.

    Returns:
        The validation.

    Raises:
        ValueError: if it is to select by robust accuracy, and there are no passes for an attack.
    """
    fields, is_averaged = config.validation, config.optimizer.ema_decay is not None
    key = prng.named(prng.key(config.seed), "validation")
    plain = Validation(dataset, None, None, "", key, config.checkpoint.weights)
    if fields.attack == "none":
        return plain
    num_passes = images_per_epoch * method.replays * (1 + (config.method.get("num_steps") or 0))
    cost = afford(
        int(fields.max_share * num_passes) // (2 if is_averaged else 1),
        num_images=min(fields.max_examples, dataset.num_examples),
        num_steps=fields.num_steps,
    )
    if cost is None:
        criteria = config.schedule.early_stop, config.checkpoint.best
        if any(criterion.startswith("robust") for criterion in criteria):
            raise ValueError(
                f"validation.max_share = {fields.max_share:g}: of an epoch's {num_passes} passes "
                "that leaves none for an attack; raise it, or choose by another checkpoint.best "
                "and schedule.early_stop, such as accuracy"
            )
        return plain
    epsilon = dataset.info.epsilon if fields.epsilon is None else fields.epsilon
    step_size = fields.step_size or 2.5 * epsilon / cost.num_steps
    attack = attacks.pgd(
        epsilon=epsilon,
        step_size=step_size or None,
        num_steps=cost.num_steps,
        norm=fields.norm,
    )
    about = (
        f"pgd, {fields.norm}, epsilon {epsilon:.6g}, {counted('num_steps', cost.num_steps)} of "
        f"{step_size:.6g}, {cost.num_images} images"
    )
    attacked = _spread(dataset, cost.num_images)
    return dataclasses.replace(plain, attacked=attacked, attack=attack, about=about)


def afford(num_passes: int, *, num_images: int, num_steps: int) -> Cost | None:
    """Returns the attack that some passes pay for: fewer images at first, then fewer steps.

    Args:
        num_passes: what may be spent; an image costs `num_steps` + 1.
        num_images: at most.
        num_steps: at most.

    Returns:
        Images and steps; below 100 images the steps become fewer, down to one, before the images
        do.  None if not even one image can be attacked.
    """
    few = min(_FEWEST, num_images)
    affordable = num_passes // (num_steps + 1)
    if affordable >= few:
        return Cost(min(affordable, num_images), num_steps)
    steps = max(num_passes // few - 1, 1)
    images = min(num_passes // (steps + 1), few)
    return Cost(images, steps) if images else None


def _with_weights(model: Model, variables: Any) -> LogitsFn:
    return jax.tree_util.Partial(model.apply, variables)


def _validate(validation: Validation, logits_fn: LogitsFn) -> Validated:
    dataset, num_classes = validation.dataset, validation.dataset.info.num_classes
    predictions, loss = predict_with_loss(logits_fn, dataset)
    confusion = np.asarray(metrics.confusion_matrix(dataset.labels, predictions, num_classes))
    record = {"validation/loss": loss} | _figures(confusion, "validation/")
    if validation.attack is None or validation.attacked is None:
        return Validated(record, confusion, None)
    attacked = validation.attacked
    found = predict_attacked(validation.attack, logits_fn, attacked, key=validation.key)
    robust = np.asarray(metrics.confusion_matrix(attacked.labels, found, num_classes))
    return Validated(record | _figures(robust, "validation/robust_"), confusion, robust)


def _figures(confusion: np.ndarray, prefix: str) -> dict[str, Any]:
    summary = metrics.summarize(confusion)
    names = ("accuracy", "balanced_accuracy", "worst_class_accuracy")
    classes = metrics.from_confusion(confusion)
    # A class without an image has no accuracy: null in the log.
    recall = np.where(classes.count > 0, classes.recall, np.nan)
    return {f"{prefix}{name}": summary[name] for name in names} | {f"{prefix}recall": recall}


def _spread(dataset: Dataset, num_images: int) -> Dataset:
    """Returns some images, of each class its share; more of them hold those of fewer."""
    numbers = order.priorities(dataset.example_ids, seed=0, name="validation attack")
    place = np.empty(dataset.num_examples)
    for label in np.unique(dataset.labels):
        rows = np.flatnonzero(dataset.labels == label)
        place[rows[np.argsort(numbers[rows], kind="stable")]] = (np.arange(len(rows)) + 0.5) / len(
            rows
        )
    return dataset.take(np.sort(np.lexsort((numbers, place))[:num_images]))
