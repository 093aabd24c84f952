"""Attacks: made once from keywords, then called on batches; and drivers that loop on the host.

A new attack is a file of its own and a line in `ATTACKS`; the contract suite then covers it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rbjax import checks
from rbjax.attacks.attack import CompiledAttack, Threat
from rbjax.attacks.classifier import Randomized, randomized
from rbjax.attacks.fgsm import fgsm, r_fgsm
from rbjax.attacks.gradient_sign import iterative_gradient_sign
from rbjax.attacks.pgd import pgd
from rbjax.attacks.universal import (
    UniversalEvaluation,
    UniversalResult,
    apply_universal,
    craft_universal,
    evaluate_universal,
)

__all__ = [
    "ATTACKS",
    "CompiledAttack",
    "Randomized",
    "Threat",
    "UniversalEvaluation",
    "UniversalResult",
    "apply_universal",
    "craft_universal",
    "create",
    "evaluate_universal",
    "fgsm",
    "iterative_gradient_sign",
    "pgd",
    "r_fgsm",
    "randomized",
]

ATTACKS: dict[str, Callable[..., CompiledAttack]] = {
    "fgsm": fgsm,
    "r_fgsm": r_fgsm,
    "iterative_gradient_sign": iterative_gradient_sign,
    "pgd": pgd,
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
