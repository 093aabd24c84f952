"""Names that are on their way out: see `rbjax.classifier`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jax.tree_util import Partial

from rbjax.classifier import (
    Classifier,
    Gradient,
    Model,
    Objective,
    as_classifier,
    randomized,
)
from rbjax.typing import Array

__all__ = ["Classifier", "Gradient", "Model", "Objective", "Randomized", "as_model", "as_partial"]
__all__ += ["classifier", "randomized"]

as_model = as_classifier


class _IsRandom(type):
    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, Classifier) and value.is_random


class Randomized(metaclass=_IsRandom):
    """A randomised classifier."""

    num_samples: int


def classifier(model: Model, images: Array) -> Classifier:
    """Returns a model as attacks use it."""
    return as_classifier(model).asked_about(images)


def as_partial(fn: Callable) -> Partial:
    """Returns a function as a pytree without leaves; a `Partial` as it is."""
    return fn if isinstance(fn, Partial) else Partial(fn)
