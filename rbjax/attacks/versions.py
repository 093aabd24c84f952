"""What AutoAttack's versions run: the attacks, their order and parameters."""

from __future__ import annotations

from typing import NamedTuple

from rbjax.attacks.apgd import make_plan as make_apgd
from rbjax.attacks.attack import Plan
from rbjax.attacks.fab import FABPlan
from rbjax.attacks.search import AimedPlan
from rbjax.attacks.square import SquarePlan

NUM_STEPS, NUM_QUERIES, MOST_TARGETS, RHO = 100, 5000, 9, 0.75

STRETCHES = (50, 200, 500, 1000, 2000, 3000, 4000)
"""Queries after which Square's batches are put together anew."""

VERSIONS: dict[str, tuple[str, ...]] = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "plus": ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"),
    "rand": ("apgd-ce", "apgd-dlr"),
}
"""The attacks of each version, in their order."""

_RESTARTS = {"standard": 1, "plus": 5, "rand": 1}
"""Of the attacks without targets, but for Square, which is run once."""


class Pass(NamedTuple):
    """One compiled search over what is left."""

    attack: str
    plan: Plan
    rank: int | None = None
    """Which of the wrong classes is aimed at, by clean logit; None: no target."""


def passes(version: str, norm: str, num_classes: int) -> list[Pass]:
    """Returns what is run, in order.

    Args:
        version: a name in `VERSIONS`.
        norm: `"linf"` or `"l2"`.
        num_classes: K, at least 2; with fewer than 10 there are K - 1 targets.
    """
    restarts = _RESTARTS[version]
    ratio = "dlr" if num_classes > 2 else "margin"

    def fab(num_restarts: int) -> FABPlan:
        return FABPlan(norm, True, NUM_STEPS, num_restarts, alpha_max=0.1, eta=1.05, beta=0.9)

    plans: dict[str, Plan] = {
        "apgd-ce": make_apgd(norm, NUM_STEPS, restarts, "cross_entropy", RHO),
        "apgd-dlr": make_apgd(norm, NUM_STEPS, restarts, ratio, RHO),
        "apgd-t": AimedPlan(make_apgd(norm, NUM_STEPS, 1, "dlr", RHO)),
        "fab": fab(restarts),
        "fab-t": AimedPlan(fab(1)),
        "square": SquarePlan(norm, NUM_QUERIES, 1, 0.8, rescale_schedule=False),
    }
    found = []
    for name in VERSIONS[version]:
        aimed = isinstance(plans[name], AimedPlan)
        ranks = range(min(MOST_TARGETS, num_classes - 1)) if aimed else [None]
        found += [Pass(name, plans[name], rank) for rank in ranks]
    return found


def notes(version: str, num_classes: int) -> tuple[str, ...]:
    """Returns what is done otherwise where there are few classes, a sentence each."""
    said, run = [], VERSIONS[version]
    if "apgd-t" in run and num_classes - 1 < MOST_TARGETS:
        said.append(
            f"{num_classes} classes: apgd-t and fab-t aim at {num_classes - 1} targets, not "
            f"{MOST_TARGETS}"
        )
    if "apgd-t" in run and num_classes < 4:
        said.append(
            f"{num_classes} classes: apgd-t climbs z_t - z_y itself, for want of a fourth logit to "
            "divide by"
        )
    if "apgd-dlr" in run and num_classes < 3:
        said.append("2 classes: apgd-dlr climbs the margin, for want of a third logit")
    return tuple(said)
