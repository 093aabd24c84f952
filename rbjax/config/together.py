"""What fields of a config say together: defaults that follow from others, and contradictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rbjax.config.field import Field
from rbjax.config.fields import ATTACKS, GROUPS

_WITH_PRIOR = ("balanced_softmax", "logit_adjustment")
"""Losses that have the classes' frequencies in them already."""

_RESERVED = ("clean", "worst", "index", "example_ids", "labels")


def complete(resolved: dict[str, Any], ball: Mapping[str, Any]) -> None:
    """Fills in what follows from other groups: the ball of validation, what is best and judged.

    Args:
        resolved: changed in place.
        ball: of the method, see `method_ball`.
    """
    validation = resolved["validation"]
    if validation.get("norm") is None:
        validation["norm"] = ball.get("norm", "linf")
    if validation.get("epsilon") is None and validation["norm"] == ball.get("norm"):
        validation["epsilon"] = ball["epsilon"]
    checkpoint, monitor = resolved["checkpoint"], resolved["schedule"].get("early_stop", "none")
    is_attacked = validation.get("attack") != "none"
    if checkpoint.get("best") is None:
        usual = "robust_accuracy" if ball and is_attacked else "accuracy"
        checkpoint["best"] = usual if monitor == "none" else monitor
    if checkpoint.get("which") is None:
        checkpoint["which"] = "last" if monitor == "none" else "best"


def method_ball(method: Mapping[str, Any]) -> dict[str, Any]:
    """Returns norm and epsilon of a resolved method that has an epsilon, else {}."""
    if method.get("epsilon") is None:
        return {}
    norm = norm_of(GROUPS["method"].options(method["name"])) or method.get("norm", "linf")
    return {"norm": norm, "epsilon": method["epsilon"]}


def check(resolved: Mapping[str, Any], mistakes: list[str]) -> None:
    """Adds to the mistakes what one field alone does not show."""
    for label, group in resolved["attacks"].items():
        check_ball(f"attacks.{label}", group, mistakes)
        if label in _RESERVED:
            mistakes.append(
                f"attacks.{label}: {label!r} means something else in reports; rename it"
            )
    if resolved["task"] == "score" and resolved["score"].get("max_steps") == 0:
        mistakes.append("score.max_steps = 0: the task 'score' needs at least 1 draw")
    score = resolved["score"]
    if score.get("repetitions", 1) > 1 and score.get("stop_window") is not None:
        mistakes.append("score.repetitions and score.stop_window: give one of the two")
    if score.get("repetitions", 1) == 1 and score.get("max_width") is not None:
        mistakes.append("score.max_width: needs score.repetitions of 2 or more")
    dataset = resolved["dataset"]
    if dataset.get("subset_digest") is not None and dataset.get("subset") is None:
        mistakes.append("dataset.subset_digest: belongs to dataset.subset, which is not given")
    model = resolved["model"]
    if model.get("weights_digest") is not None and model.get("weights") is None:
        mistakes.append("model.weights_digest: belongs to model.weights, which is not given")
    if model.get("weights") is not None and resolved["task"] == "train":
        mistakes.append(
            f"model.weights = {model['weights']!r}: training draws weights of its own; give "
            "--config.task=evaluate or score, or leave it out"
        )
    loss, adjusted = resolved["loss"].get("name"), model.get("logit_adjustment")
    if adjusted and loss in _WITH_PRIOR:
        mistakes.append(
            f"model.logit_adjustment = {adjusted:g}: the loss {loss!r} has the frequencies of the "
            "classes in it, which would count twice; leave it out, or train with another loss"
        )
    start, num_epochs = resolved["sampler"].get("start_epoch", 0), resolved.get("num_epochs", 0)
    if isinstance(start, int) and isinstance(num_epochs, int) and start >= max(num_epochs, 1):
        mistakes.append(
            f"sampler.start_epoch = {start}: must be below num_epochs = {num_epochs}, or it would "
            "never begin"
        )
    imbalance = resolved["imbalance"]
    if imbalance.get("decay") is not None and imbalance.get("imbalance_ratio") is not None:
        mistakes.append("imbalance.decay and imbalance.imbalance_ratio: give one of the two")
    schedule = resolved["schedule"]
    if schedule.get("milestones") is not None and schedule.get("epochs_per_step") is not None:
        mistakes.append("schedule.milestones and schedule.epochs_per_step: give one of the two")
    low, high = schedule.get("learning_rate"), schedule.get("max_learning_rate")
    if low is not None and high is not None and high < low:
        mistakes.append(
            f"schedule.max_learning_rate = {high:g}: must be at least schedule.learning_rate "
            f"= {low:g}"
        )
    _check_validation(resolved, mistakes)


def _check_validation(resolved: Mapping[str, Any], mistakes: list[str]) -> None:
    """What is decided on the validation split needs it, and its attack where it is robust."""
    validation = resolved["validation"]
    check_ball("validation", validation, mistakes)
    is_attacked, norm = validation.get("attack") != "none", validation.get("norm")
    dataset = resolved["dataset"]
    is_held_out = holds_out(dataset)
    fraction, source = dataset.get("validation_fraction"), dataset.get("validation_from")
    if (source == "test" and fraction) or (source == "last" and not fraction):
        mistakes.append(
            f"dataset.validation_from = {source!r}: needs dataset.validation_fraction "
            f"{'of 0' if fraction else 'above 0'}, which is {fraction:g}"
        )
    if is_attacked and is_held_out and norm != "linf" and validation.get("epsilon") is None:
        mistakes.append(f"validation.epsilon is missing: there is no usual one in {norm}")
    monitor = resolved["schedule"].get("early_stop", "none")
    for name, criterion in (
        ("schedule.early_stop", monitor),
        ("checkpoint.best", resolved["checkpoint"].get("best")),
    ):
        if str(criterion).startswith("robust") and not is_attacked:
            mistakes.append(f"{name} = {criterion!r}: needs validation.attack, which is 'none'")
    if monitor != "none" and not is_held_out:
        mistakes.append(
            f"schedule.early_stop = {monitor!r}: needs a validation split; set "
            "dataset.validation_fraction, such as 0.1"
        )


def holds_out(dataset: Mapping[str, Any]) -> bool:
    """Returns whether a resolved dataset has a validation set."""
    return bool(dataset.get("validation_fraction")) or dataset.get("validation_from") == "test"


def norm_of(options: Mapping[str, Field]) -> str:
    """Returns the norm of an attack that has no other, "" where it is not said."""
    return options["epsilon"].norm if "epsilon" in options else ""


def check_ball(where: str, group: Mapping[str, Any], mistakes: list[str]) -> None:
    """Adds to the mistakes sizes of an l-inf ball that no image in [0, 1] fills."""
    options = ATTACKS.options(group["name"]) if where.startswith("attacks.") and group else {}
    norm = norm_of(options) or group.get("norm", "linf")
    for name in ("epsilon", "step_size"):
        size = group.get(name)
        if norm == "linf" and isinstance(size, float) and size > 1.0:
            as_pixels = f"; did you mean {size:g}/255?" if size <= 255 else ""
            mistakes.append(
                f"{where}.{name} = {size:g}: must be at most 1 in linf, since images are "
                f"in [0, 1]{as_pixels}"
            )
