"""Which epoch was the best on the validation split, and for how long none was better."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from rbjax.tables import lookup

_Record = Mapping[str, Any]


def _accuracy(record: _Record) -> float:
    return record["validation/accuracy"]


def _worst_class(record: _Record) -> float:
    return record["validation/worst_class_accuracy"]


def _robust_accuracy(record: _Record) -> float:
    return record["validation/robust_accuracy"]


def _robust_worst_class(record: _Record) -> float:
    return record["validation/robust_worst_class_accuracy"]


CRITERIA: dict[str, Callable[[_Record], float]] = {
    "accuracy": _accuracy,
    "worst_class": _worst_class,
    "average+worst": lambda record: _accuracy(record) + _worst_class(record),
    "loss": lambda record: -record["validation/loss"],
    "robust_accuracy": _robust_accuracy,
    "robust_worst_class": _robust_worst_class,
    "robust_average+worst": lambda record: _robust_accuracy(record) + _robust_worst_class(record),
}
"""By name, of an epoch's record: the higher, the better the epoch."""


class Selection(NamedTuple):
    """The best epoch so far, and how long none was better; a checkpoint keeps it as JSON."""

    step: int | None = None
    """Updates made at the end of the best epoch; None before the first."""
    epoch: int | None = None
    """Its number, from 1."""
    value: float | None = None
    """Its criterion."""
    reference: float | None = None
    """What the next epoch must exceed for training to go on waiting."""
    waited: int = 0
    """Epochs in a row without that."""


def after_epoch(
    selection: Selection,
    record: Mapping[str, Any],
    *,
    step: int,
    best: str = "accuracy",
    early_stop: str = "none",
    min_change: float = 0.0,
) -> Selection:
    """Returns the selection after an epoch.

    An epoch is the best if its criterion is above that of every epoch before; of equal ones the
    first stays.  Early stopping waits for a criterion of more than the last improvement plus
    `min_change`, so that a slow climb counts once it adds up to that.

    Args:
        selection: before it.
        record: of the epoch, as it is logged.
        step: updates made.
        best: of CRITERIA, what the best epoch has most of.
        early_stop: of CRITERIA, what must improve; "none": nothing.
        min_change: the least change that is an improvement, >= 0.

    Returns:
        The selection; a criterion that is not finite is no improvement.

    Source:
        Keras' callbacks EarlyStopping and ModelCheckpoint, which P5's code trains with.
    """
    value = _value(best, record)
    if value is not None and (selection.value is None or value > selection.value):
        selection = selection._replace(step=step, epoch=int(record["epoch"]), value=value)
    if early_stop == "none":
        return selection
    value, reference = _value(early_stop, record), selection.reference
    if value is not None and (reference is None or value - min_change > reference):
        return selection._replace(reference=value, waited=0)
    return selection._replace(waited=selection.waited + 1)


def _value(criterion: str, record: Mapping[str, Any]) -> float | None:
    value = float(lookup(CRITERIA, criterion, what="criterion")(record))
    return value if math.isfinite(value) else None
