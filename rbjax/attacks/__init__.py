"""Attacks: made once from keywords, then called on batches; and drivers that loop on the host.

A new attack is a file of its own and a line in `ATTACKS`; the contract suite then covers it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rbjax import checks
from rbjax.attacks.apgd import apgd, apgd_targeted
from rbjax.attacks.attack import CompiledAttack, Threat
from rbjax.attacks.autoattack import (
    AutoAttack,
    AutoAttackResult,
    autoattack,
    run_autoattack,
)
from rbjax.attacks.carlini_wagner import carlini_wagner
from rbjax.attacks.deepfool import deepfool
from rbjax.attacks.diagnostics import diagnose, format_findings
from rbjax.attacks.fab import fab
from rbjax.attacks.findings import Finding
from rbjax.attacks.gradient import fgsm, iterative_gradient_sign, pgd, r_fgsm
from rbjax.attacks.outcome import Outcome, SuiteResult
from rbjax.attacks.square import square
from rbjax.attacks.suite import Driver, run_attacks
from rbjax.attacks.transfer import TransferAttack, transfer
from rbjax.attacks.universal import (
    ClasswiseResult,
    UniversalDeepFoolResult,
    UniversalEvaluation,
    UniversalResult,
    apply_classwise,
    apply_universal,
    craft_universal,
    craft_universal_classwise,
    craft_universal_deepfool,
    evaluate_universal,
)
from rbjax.blocks import Progress, progress_bar
from rbjax.classifier import Classifier, randomized

__all__ = [
    "ATTACKS",
    "AutoAttack",
    "AutoAttackResult",
    "Classifier",
    "ClasswiseResult",
    "CompiledAttack",
    "Driver",
    "Finding",
    "Outcome",
    "Progress",
    "SuiteResult",
    "Threat",
    "TransferAttack",
    "UniversalDeepFoolResult",
    "UniversalEvaluation",
    "UniversalResult",
    "apgd",
    "apgd_targeted",
    "apply_classwise",
    "apply_universal",
    "autoattack",
    "carlini_wagner",
    "craft_universal",
    "craft_universal_classwise",
    "craft_universal_deepfool",
    "create",
    "deepfool",
    "diagnose",
    "evaluate_universal",
    "fab",
    "fgsm",
    "format_findings",
    "iterative_gradient_sign",
    "pgd",
    "progress_bar",
    "r_fgsm",
    "randomized",
    "run_attacks",
    "run_autoattack",
    "square",
    "transfer",
]

ATTACKS: dict[str, Callable[..., CompiledAttack]] = {
    "fgsm": fgsm,
    "r_fgsm": r_fgsm,
    "iterative_gradient_sign": iterative_gradient_sign,
    "pgd": pgd,
    "apgd": apgd,
    "apgd_targeted": apgd_targeted,
    "fab": fab,
    "square": square,
    "deepfool": deepfool,
    "carlini_wagner": carlini_wagner,
}
"""The compiled attacks by name."""


def create(name: str, **options: Any) -> CompiledAttack:
    """Returns an attack by name.

    Args:
        name: a name in `ATTACKS`.
        **options: its maker's keywords.

    Returns:
        The attack.

    Raises:
        ValueError: for an unknown name or option, or one out of range.
    """
    return checks.make(ATTACKS, name, options, what="attack")
