"""One perturbation for all images, or one a class: crafted over a dataset, applied, evaluated."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

from rbjax.attacks.universal.crafted import (
    ClasswiseResult,
    UniversalDeepFoolResult,
    UniversalResult,
)
from rbjax.attacks.universal.deepfool import craft_universal_deepfool
from rbjax.attacks.universal.evaluation import (
    UniversalEvaluation,
    apply_classwise,
    apply_universal,
    evaluate_universal,
)
from rbjax.attacks.universal.gradient import craft_universal, craft_universal_classwise

__all__ = [
    "ClasswiseResult",
    "Crafting",
    "UniversalDeepFoolResult",
    "UniversalEvaluation",
    "UniversalResult",
    "apply_classwise",
    "apply_universal",
    "craft_universal",
    "craft_universal_classwise",
    "craft_universal_deepfool",
    "evaluate_universal",
]


@dataclasses.dataclass(frozen=True)
class Crafting:
    """One of the functions that craft perturbations, with its options; a dataset makes it whole."""

    craft: Callable[..., Any]
    options: tuple[tuple[str, Any], ...]


def crafting[**P](craft: Callable[P, Any]) -> Callable[..., Crafting]:
    """Returns the maker of a `Crafting`: its options are those of `craft`."""

    @functools.wraps(craft)
    def maker(**options: Any) -> Crafting:
        return Crafting(craft, tuple(sorted(options.items())))

    signature = inspect.signature(craft)
    named = [p for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY]
    maker.__signature__ = signature.replace(parameters=named)  # pyright: ignore
    return maker
