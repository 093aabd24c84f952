"""What follows from the tables, in sentences of which each stands on a number and its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments.imbalanced_gradient_sign import results
from experiments.imbalanced_gradient_sign.results import Estimate, Grid

PAIRS = (("cat", "dog"), ("automobile", "truck"))
"""Classes that P5 calls overlapping."""
_FEWEST = 2
"""Values below which nothing is concluded: there is no interval."""


class Claim(NamedTuple):
    """What P5 says, and what is found."""

    says: str
    found: Estimate
    sign: int
    """Of what P5 says: 1 or -1."""
    unit: str = "points"

    @property
    def verdict(self) -> str:
        """Whether it "holds", "is reversed", "is open" or "is missing"."""
        if self.found.number < _FEWEST:
            return "is missing"
        if self.found.low * self.sign > 0 and self.found.high * self.sign > 0:
            return "holds"
        if self.found.low * self.sign < 0 and self.found.high * self.sign < 0:
            return "is reversed"
        return "is open"


def claims(grid: Grid, names: Sequence[str]) -> dict[str, Claim]:
    """Returns P5's claims as a variant's cells have them.

    Args:
        grid: the cells.
        names: of the classes.
    """
    fast, relative = "fast_ascent", results.relative
    found = {
        "under": Claim(
            "under-sampled classes lose a larger share of their accuracy than in the balanced "
            "network",
            results.difference(grid, relative, fast, "under", "balanced"),
            1,
        ),
        "over": Claim(
            "over-sampled classes lose a smaller share",
            results.difference(grid, relative, fast, "over", "balanced"),
            -1,
        ),
        "transfer": Claim(
            "the balanced network's gradients leave under-sampled classes more accuracy than their "
            "own",
            results.gain(grid, "under", f"transfer_{fast}", fast),
            1,
        ),
        "transfer_over": Claim(
            "they do so for over-sampled classes",
            results.gain(grid, "over", f"transfer_{fast}", fast),
            1,
        ),
        "pgd20": Claim(
            "under-sampled classes lose a larger share under PGD-20, which P5 does not have",
            results.difference(grid, relative, "pgd20", "under", "balanced"),
            1,
        ),
        "autoattack": Claim(
            "they do so under AutoAttack",
            results.difference(grid, relative, "autoattack", "under", "balanced"),
            1,
        ),
        "overlap": Claim(
            "the attack adds to how often an under-sampled class is taken for its like (cat, dog; "
            "automobile, truck)",
            _overlap(grid, names),
            1,
        ),
    }
    if grid.variant == "matched":
        found["tail"] = Claim(
            "in a long tail the fewer images a class has, the more vulnerable it is (rank "
            "correlation, times 100)",
            results.correlations(grid, fast),
            -1,
            "",
        )
    return found


def _overlap(grid: Grid, names: Sequence[str]) -> Estimate:
    values = []
    for one, other in (*PAIRS, *((b, a) for a, b in PAIRS)):
        if one in names and other in names:
            target, answer = names.index(one), names.index(other)
            found = grid.seeds("under", target).values()
            pairs = [
                results.share_as(r, "fast_ascent", target, answer)
                - results.share_as(r, "clean", target, answer)
                for r in found
            ]
            values.append(np.mean(pairs) if pairs else np.nan)
    return results.estimate(values)


def sentences(found: Mapping[str, Mapping[str, Claim]]) -> list[str]:
    """Returns the conclusion, a sentence a claim, then what becomes of it without confounds.

    Args:
        found: claims by name, by variant: "written" or "published", and "matched".
    """
    lines = []
    for variant, own in found.items():
        lines += ["", f"{_WHERE[variant]}:", ""]
        for claim in own.values():
            if claim.verdict == "is missing":
                lines.append(f"- missing: {claim.says}.")
                continue
            unit = f" {claim.unit}" if claim.unit else ""
            number = f"{claim.found.number} values"
            lines.append(f"- {claim.verdict}: {claim.says}: {claim.found}{unit}, {number}.")
    for variant in ("written", "published"):
        if variant in found and "matched" in found:
            lines += _without_confounds(found[variant], found["matched"])
    return lines


_WHERE = {
    "written": "Trained as the paper says",
    "published": "Trained as its code does",
    "matched": "Without confounds",
}


def _without_confounds(own: Mapping[str, Claim], matched: Mapping[str, Claim]) -> list[str]:
    """Returns what becomes of the first two claims where everything else is equal."""
    lines = ["", "Of both:", ""]
    for name in ("under", "over"):
        before, after = own[name], matched[name]
        if "is missing" in (before.verdict, after.verdict):
            continue
        if before.verdict == after.verdict:
            words = f"{after.verdict} with and without confounds"
        else:
            words = f"{before.verdict} as trained, and {after.verdict} without confounds"
        lines.append(f"- that {before.says} {words}: {before.found} and {after.found} points.")
    return lines if lines[3:] else []
