"""Attacks: made once from keywords, then called on batches; and drivers that loop on the host.

A new attack is a file of its own and a line in `ATTACKS`; the contract suite then covers it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rbjax.attacks.adaptive import (
    AdaptiveAutoAttack,
    adaptive_autoattack,
    run_adaptive_autoattack,
)
from rbjax.attacks.apgd import apgd, apgd_targeted
from rbjax.attacks.attack import CompiledAttack, Threat
from rbjax.attacks.autoattack import (
    AutoAttack,
    autoattack,
    run_autoattack,
)
from rbjax.attacks.carlini_wagner import carlini_wagner
from rbjax.attacks.counting import Passes, count_passes
from rbjax.attacks.ddn import ddn
from rbjax.attacks.deepfool import deepfool
from rbjax.attacks.diagnostics import diagnose, format_findings
from rbjax.attacks.fab import fab
from rbjax.attacks.findings import Finding, Findings
from rbjax.attacks.fmn import fmn
from rbjax.attacks.gradient import fgsm, iterative_gradient_sign, pgd, r_fgsm
from rbjax.attacks.outcome import AutoAttackResult, Outcome, Setting, SuiteResult
from rbjax.attacks.search import MarginPlan
from rbjax.attacks.square import square
from rbjax.attacks.suite import Driver, run_attacks
from rbjax.attacks.transfer import TransferAttack, transfer
from rbjax.attacks.universal import (
    ClasswiseResult,
    Crafting,
    UniversalDeepFoolResult,
    UniversalEvaluation,
    UniversalResult,
    apply_classwise,
    apply_universal,
    craft_universal,
    craft_universal_classwise,
    craft_universal_deepfool,
    crafting,
    evaluate_universal,
)
from rbjax.classifier import Classifier, randomized
from rbjax.progress import Progress, progress_bar
from rbjax.tables import Table, made_by

__all__ = [
    "ATTACKS",
    "AdaptiveAutoAttack",
    "AutoAttack",
    "AutoAttackResult",
    "Classifier",
    "ClasswiseResult",
    "CompiledAttack",
    "Crafting",
    "Driver",
    "Finding",
    "Findings",
    "MarginPlan",
    "Outcome",
    "Passes",
    "Progress",
    "Setting",
    "SuiteResult",
    "Threat",
    "TransferAttack",
    "UniversalDeepFoolResult",
    "UniversalEvaluation",
    "UniversalResult",
    "adaptive_autoattack",
    "apgd",
    "apgd_targeted",
    "apply_classwise",
    "apply_universal",
    "autoattack",
    "carlini_wagner",
    "compiled",
    "count_passes",
    "craft_universal",
    "craft_universal_classwise",
    "craft_universal_deepfool",
    "create",
    "ddn",
    "deepfool",
    "diagnose",
    "evaluate_universal",
    "fab",
    "fgsm",
    "fmn",
    "format_findings",
    "iterative_gradient_sign",
    "pgd",
    "progress_bar",
    "r_fgsm",
    "randomized",
    "run_adaptive_autoattack",
    "run_attacks",
    "run_autoattack",
    "square",
    "transfer",
]

ATTACKS: Table[Any] = Table(
    "attack",
    {
        "fgsm": fgsm,
        "r_fgsm": r_fgsm,
        "iterative_gradient_sign": iterative_gradient_sign,
        "pgd": pgd,
        "apgd": apgd,
        "apgd_targeted": apgd_targeted,
        "fab": fab,
        "square": square,
        "deepfool": deepfool,
        "ddn": ddn,
        "fmn": fmn,
        "carlini_wagner": carlini_wagner,
        "autoattack": autoattack,
        "adaptive_autoattack": adaptive_autoattack,
        "universal": crafting(craft_universal),
        "universal_classwise": crafting(craft_universal_classwise),
        "universal_deepfool": crafting(craft_universal_deepfool),
    },
    supplied=(
        *("logits_fn", "key", "images", "labels", "targets"),
        *("example_ids", "batch_size", "progress", "devices"),
    ),
    makes=(
        (Callable, Driver, Crafting),
        "a function (logits_fn, keys, images, labels)",
    ),
)
"""Attacks by name: compiled ones, AutoAttack, A3, and what crafts a perturbation for a dataset."""


def compiled() -> dict[str, Callable[..., CompiledAttack]]:
    """Returns the makers of attacks on one batch, which the contract suite covers."""
    kinds = {name: made_by(maker) for name, maker in ATTACKS.items()}
    return {name: ATTACKS[name] for name, kind in kinds.items() if kind in ("CompiledAttack", "")}


def create(name: str | Callable[..., Any], **options: Any) -> Any:
    """Returns an attack by name.

    Args:
        name: a name in `ATTACKS`, `package.module:maker` or a maker; or an attack, which is
            returned.
        **options: its maker's keywords.

    Returns:
        The attack: a `CompiledAttack`, an `AutoAttack` or an `AdaptiveAutoAttack`, or the
        `Crafting` of a perturbation.

    Raises:
        ValueError: for an unknown name or option, or one out of range.
    """
    if isinstance(
        name, CompiledAttack | AutoAttack | AdaptiveAutoAttack | TransferAttack | Crafting
    ):
        if options:
            raise ValueError(f"an attack that is made already has no options; got {options}")
        return name
    return ATTACKS.create(name, options)
