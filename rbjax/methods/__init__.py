"""Training methods, one a file: what the model is trained on, and what is learnt beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rbjax import losses
from rbjax.methods.ant import ant
from rbjax.methods.augmix import augmix
from rbjax.methods.cfa import cfa
from rbjax.methods.cfol import cfol
from rbjax.methods.classwise import classwise_pgd
from rbjax.methods.classwise_universal import classwise_universal
from rbjax.methods.crt import crt
from rbjax.methods.dafa import dafa
from rbjax.methods.deepaugment import deepaugment
from rbjax.methods.fast import fast
from rbjax.methods.free import free
from rbjax.methods.frl import frl
from rbjax.methods.idle import refuse_idle
from rbjax.methods.mart import mart
from rbjax.methods.pgd import pgd
from rbjax.methods.shared import shared
from rbjax.methods.standard import standard
from rbjax.methods.targeted import targeted
from rbjax.methods.trades import trades
from rbjax.methods.universal import universal
from rbjax.tables import Table
from rbjax.training.method import (
    ClassSums,
    Epoch,
    Method,
    MethodState,
    Output,
    Prepared,
    Seen,
    Setting,
)

__all__ = [
    "METHODS",
    "ClassSums",
    "Epoch",
    "Method",
    "MethodState",
    "Output",
    "Prepared",
    "Seen",
    "Setting",
    "ant",
    "augmix",
    "cfa",
    "cfol",
    "check_average",
    "check_loss",
    "check_mixup",
    "check_sampler",
    "check_validation",
    "classwise_pgd",
    "classwise_universal",
    "create",
    "crt",
    "dafa",
    "deepaugment",
    "fast",
    "free",
    "frl",
    "mart",
    "pgd",
    "shared",
    "standard",
    "targeted",
    "trades",
    "universal",
]

METHODS: Table[Method] = Table(
    "method",
    {
        "standard": standard,
        "pgd": pgd,
        "universal": universal,
        "trades": trades,
        "classwise_universal": classwise_universal,
        "classwise_pgd": classwise_pgd,
        "dafa": dafa,
        "cfol": cfol,
        "crt": crt,
        "augmix": augmix,
        "shared": shared,
        "frl": frl,
        "cfa": cfa,
        "deepaugment": deepaugment,
        "mart": mart,
        "free": free,
        "fast": fast,
        "targeted": targeted,
        "ant": ant,
    },
    makes=(Method, "an rbjax.methods.Method"),
)


def create(name: str | Method | Callable[..., Method], **options: Any) -> Method:
    """Returns a training method by name.

    Args:
        name: of `METHODS`, `package.module:maker` or a maker; or a method, which is returned.
        **options: the keywords of its maker.

    Returns:
        The method.

    Raises:
        ValueError: if the name is unknown, or an option unknown or out of range.
    """
    if isinstance(name, Method):
        if options:
            raise ValueError(f"a method that is made already has no options; got {options}")
        return name
    return METHODS.create(name, options)


def check_loss(method: Method, name: str, loss: str) -> None:
    """Refuses a training loss that does not go with what a method adds to it.

    Args:
        method: the method.
        name: what it is called.
        loss: `loss.name`.

    Raises:
        ValueError: for a loss of sigmoids where the method compares softmax predictions.
    """
    if method.softmax and loss in losses.OF_SIGMOIDS:
        raise ValueError(
            f"loss.name = {loss!r}: trains a sigmoid for each class, and the method {name!r} "
            "compares softmax predictions; take 'focal', or a method such as 'pgd'"
        )


def check_mixup(method: Method, name: str, alpha: float) -> None:
    """Refuses mixed images where a method needs images of one class.

    Args:
        method: the method.
        name: what it is called.
        alpha: `dataset.mixup_alpha`; 0 mixes nothing.

    Raises:
        ValueError: if images are mixed and the method does not allow it.
    """
    if alpha and not method.mixup:
        raise ValueError(
            f"dataset.mixup_alpha = {alpha:g}: the method {name!r} needs images of one class; "
            "leave it at 0, or take a method that allows mixtures, such as 'standard'"
        )


def check_sampler(method: Method, name: str, sampler: str) -> None:
    """Refuses a sampler that favours classes where a method itself does.

    Args:
        method: the method.
        name: what it is called.
        sampler: `sampler.name`.

    Raises:
        ValueError: for another than the uniform one where the method needs that.
    """
    if method.uniform_sampler and sampler != "uniform":
        raise ValueError(
            f"sampler.name = {sampler!r}: the method {name!r} weighs classes against their shares "
            "of the training set, so that each would be weighed twice; take 'uniform'"
        )


def check_average(
    method: Method,
    name: str,
    options: Mapping[str, Any],
    *,
    averaged: bool,
    num_epochs: int,
) -> None:
    """Refuses options for an average of the weights that is not kept, or never begins.

    Args:
        method: the method; those of its options that begin with "average_" act in its `average`.
        name: what it is called.
        options: what it was made with.
        averaged: whether an average of the weights is kept, `optimizer.ema_decay`.
        num_epochs: of the run.

    Raises:
        ValueError: for such an option where no average is kept, or an `average_from` after the end.
    """
    if method.average is None:
        return
    if not averaged:
        own = {key: value for key, value in options.items() if key.startswith("average_")}
        refuse_idle(METHODS.find(name), "an average of the weights (optimizer.ema_decay)", **own)
    elif options.get("average_from", 0) > num_epochs:
        raise ValueError(
            f"average_from = {options['average_from']}: must be at most num_epochs = {num_epochs}, "
            "or no epoch would go into the average"
        )


def check_validation(method: Method, name: str, fraction: float, *, averaged: bool) -> None:
    """Refuses training without a validation set where a method measures on it.

    Args:
        method: the method.
        name: what it is called.
        fraction: `dataset.validation_fraction`, or 1 where it is the test set; 0: there is none.
        averaged: whether an average of the weights is kept, `optimizer.ema_decay`.

    Raises:
        ValueError: if there is no validation set and the method needs one.
    """
    averages = averaged and method.average is not None
    if fraction or not (method.validation or averages):
        return
    otherwise = "" if method.validation else ", or keep no average (optimizer.ema_decay)"
    raise ValueError(
        f"dataset.validation_fraction = {fraction:g}: the method {name!r} measures the robust "
        "accuracy of each class on a validation set; hold some of train out, such as 0.02"
        f"{otherwise}"
    )
