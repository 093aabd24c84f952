"""Training methods, one a file: what the model is trained on, and what is learnt beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rbjax.methods.pgd import pgd
from rbjax.methods.standard import standard
from rbjax.methods.universal import universal
from rbjax.tables import lookup
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
    "create",
    "pgd",
    "standard",
    "universal",
]

METHODS: dict[str, Callable[..., Method]] = {
    "standard": standard,
    "pgd": pgd,
    "universal": universal,
}


def create(name: str, **options: Any) -> Method:
    """Returns a training method by name.

    Args:
        name: of `METHODS`.
        **options: the keywords of its maker.

    Returns:
        The method.

    Raises:
        ValueError: if the name is unknown.
    """
    return lookup(METHODS, name, what="method")(**options)
