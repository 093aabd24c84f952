"""Training losses, `(logits (B, K), labels (B,)) -> (B,)`; `create` makes them by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rbjax.losses.classification import cross_entropy
from rbjax.losses.focal import focal, sigmoid_focal
from rbjax.losses.imbalance import (
    Counts,
    at_epoch,
    balanced_softmax,
    class_balanced,
    ldam,
    logit_adjustment,
    robal,
    weighted,
)
from rbjax.tables import Table, is_made, lookup
from rbjax.typing import LossFn

__all__ = [
    "LOSSES",
    "OF_SIGMOIDS",
    "WITH_MARGIN",
    "at_epoch",
    "balanced_softmax",
    "class_balanced",
    "create",
    "cross_entropy",
    "focal",
    "ldam",
    "logit_adjustment",
    "robal",
    "sigmoid_focal",
    "weighted",
]

LOSSES: Table[LossFn] = Table(
    "loss",
    {
        "cross_entropy": cross_entropy,
        "class_balanced": class_balanced,
        "focal": focal,
        "sigmoid_focal": sigmoid_focal,
        "ldam": ldam,
        "balanced_softmax": balanced_softmax,
        "logit_adjustment": logit_adjustment,
        "robal": robal,
    },
    supplied=("class_counts", "logit_scale"),
    makes=(Callable, "a function (logits, labels)"),
)
"""Name -> maker; one with the arguments `class_counts` or `logit_scale` gets the training set's and
the model's."""

WITH_MARGIN = ("ldam", "robal")
"""Those that set the true class apart, so that an image must have one."""

OF_SIGMOIDS = ("sigmoid_focal",)
"""Those that train a sigmoid for each class: the softmax of such logits is nobody's prediction."""

CLASS_WEIGHTS = ("none", "inverse_frequency", "effective_number")
"""What `class_weights` may be."""
_BETA = 0.9999


def create(
    name: str | Callable[..., Any],
    *,
    class_counts: Counts | None = None,
    logit_scale: float | None = None,
    class_weights: str = "none",
    weights_beta: float = _BETA,
    start_epoch: int = 0,
    **options: Any,
) -> LossFn:
    """Returns a loss by name.

    Args:
        name: a name in `LOSSES`, `package.module:maker` or a maker; or a loss, which is returned.
        class_counts: (K,) examples of each class in training; used by the losses that need them.
        logit_scale: what a cosine head multiplies cosines by, 1 for a linear head; used by the
            losses that have a margin. None: their own.
        class_weights: of `CLASS_WEIGHTS`, see `weighted`.
        weights_beta: of "effective_number".
        start_epoch: the first epoch, counted from 0, with weights.
        **options: the maker's keywords.

    Returns:
        (logits (B, K), labels (B,)) -> (B,) float32.

    Raises:
        ValueError: for an unknown name or option, a value out of its range, or class counts that
            are missing or below 1.
    """
    if callable(name) and is_made(name, 2):
        if options:
            raise ValueError(f"a loss that is made already has no options; got {options}")
        made = name
    else:
        needs_counts = isinstance(name, str) and LOSSES.accepts(name, "class_counts")
        if class_counts is None and needs_counts:
            raise ValueError(f"loss {name!r} needs class_counts, the training set's, one per class")
        scale = {} if logit_scale is None else {"logit_scale": logit_scale}
        made = LOSSES.create(name, options, class_counts=class_counts, **scale)
    lookup(dict.fromkeys(CLASS_WEIGHTS), class_weights, what="class_weights")
    if class_weights != "effective_number" and weights_beta != _BETA:
        raise ValueError(
            f"weights_beta = {weights_beta:g}: is that of class_weights = 'effective_number', and "
            f"class_weights is {class_weights!r}; leave it at {_BETA}"
        )
    if class_weights == "none":
        if start_epoch:
            raise ValueError(
                f"start_epoch = {start_epoch}: is that of class_weights, and there are none; give "
                f"class_weights, one of {', '.join(CLASS_WEIGHTS[1:])}"
            )
        return made
    if name == "class_balanced":
        raise ValueError(
            f"class_weights = {class_weights!r}: the loss 'class_balanced' is weighted already; "
            "take 'cross_entropy'"
        )
    if class_counts is None:
        raise ValueError(
            f"class_weights = {class_weights!r}: needs class_counts, the training set's, one per "
            "class"
        )
    beta = weights_beta if class_weights == "effective_number" else 1.0
    return weighted(made, class_counts, beta=beta, start_epoch=start_epoch)
