"""Training losses, `(logits (B, K), labels (B,)) -> (B,)`; `create` makes them by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from rbjax import checks
from rbjax.losses.classification import cross_entropy
from rbjax.losses.imbalance import Counts, balanced_softmax, class_balanced
from rbjax.tables import lookup
from rbjax.typing import LossFn

__all__ = ["LOSSES", "balanced_softmax", "class_balanced", "create", "cross_entropy"]

LOSSES: dict[str, Callable[..., LossFn]] = {
    "cross_entropy": cross_entropy,
    "class_balanced": class_balanced,
    "balanced_softmax": balanced_softmax,
}
"""Name -> maker; one with the argument `class_counts` needs the training set's."""


def create(name: str, *, class_counts: Counts | None = None, **options: Any) -> LossFn:
    """Returns a loss by name.

    Args:
        name: a name in `LOSSES`.
        class_counts: (K,) examples of each class in training; used by the losses that need them.
        **options: the maker's keywords.

    Returns:
        (logits (B, K), labels (B,)) -> (B,) float32.

    Raises:
        ValueError: for an unknown name or option, a value out of its range, or class counts that
            are missing or below 1.
    """
    maker = lookup(LOSSES, name, what="loss")
    if "class_counts" in inspect.signature(maker).parameters:
        if class_counts is None:
            raise ValueError(f"loss {name!r} needs class_counts, the training set's, one per class")
        options["class_counts"] = class_counts
    return checks.make(LOSSES, name, options, what="loss")
