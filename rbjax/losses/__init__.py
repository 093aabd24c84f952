"""Training losses, `(logits (B, K), labels (B,)) -> (B,)`; `create` makes them by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rbjax.losses.classification import cross_entropy
from rbjax.losses.imbalance import Counts, balanced_softmax, class_balanced
from rbjax.tables import Table, is_made
from rbjax.typing import LossFn

__all__ = ["LOSSES", "balanced_softmax", "class_balanced", "create", "cross_entropy"]

LOSSES: Table[LossFn] = Table(
    "loss",
    {
        "cross_entropy": cross_entropy,
        "class_balanced": class_balanced,
        "balanced_softmax": balanced_softmax,
    },
    supplied=("class_counts",),
    makes=(Callable, "a function (logits, labels)"),
)
"""Name -> maker; one with the argument `class_counts` gets the training set's."""


def create(
    name: str | Callable[..., Any], *, class_counts: Counts | None = None, **options: Any
) -> LossFn:
    """Returns a loss by name.

    Args:
        name: a name in `LOSSES`, `package.module:maker` or a maker; or a loss, which is returned.
        class_counts: (K,) examples of each class in training; used by the losses that need them.
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
        return name
    if class_counts is None and isinstance(name, str) and LOSSES.accepts(name, "class_counts"):
        raise ValueError(f"loss {name!r} needs class_counts, the training set's, one per class")
    return LOSSES.create(name, options, class_counts=class_counts)
