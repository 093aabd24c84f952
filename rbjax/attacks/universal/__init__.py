"""One perturbation for all images, or one a class: crafted over a dataset, applied, evaluated."""

from __future__ import annotations

from rbjax.attacks.universal.deepfool import UniversalDeepFoolResult, craft_universal_deepfool
from rbjax.attacks.universal.evaluation import (
    UniversalEvaluation,
    apply_classwise,
    apply_universal,
    evaluate_universal,
)
from rbjax.attacks.universal.gradient import (
    ClasswiseResult,
    UniversalResult,
    craft_universal,
    craft_universal_classwise,
)

__all__ = [
    "ClasswiseResult",
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
