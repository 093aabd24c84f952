"""What P3's text claims, as differences of numbers: do its own numbers say so, and do ours?"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.delta_accuracy.compare import MEASURES, Cohort, estimate, stability
from experiments.delta_accuracy.plan import NAMES, VERSIONS
from rbjax import atomic
from rbjax.metrics import SeedMean

HOLDS, FAILS, OPEN = "holds", "fails", "open"
STABLE = 0.1
"""Points that copies may differ by, beyond chance: a tenth of the smallest published Δ."""


class Above(NamedTuple):
    """One version is above another in a measure, or above a bound."""

    measure: str
    version: str
    than: str | None = None
    least: float = 0.0
    """In points, or per cent where there is no other version."""
    sign: int = 1
    """-1: below."""


class Claim(NamedTuple):
    """A sentence of the paper, and what must all be so if it is true."""

    text: str
    parts: tuple[Above, ...]


def _of_all(measure: str, version: str, *, others: tuple[str, ...], sign: int) -> tuple:
    return tuple(Above(measure, version, other, sign=sign) for other in others)


def _others(*left_out: str) -> tuple[str, ...]:
    return tuple(version for version in VERSIONS if version not in left_out)


CLAIMS = (
    Claim(
        "all versions keep a high accuracy on the original images (above 99 %)",
        tuple(Above("accuracy", version, least=99.0) for version in VERSIONS),
    ),
    Claim(
        "accuracy falls from the original to the transformed images",
        tuple(Above("delta", version, sign=-1) for version in VERSIONS),
    ),
    Claim(
        "without batch norm accuracy is lowest",
        _of_all("accuracy", "no_batch_norm", others=_others("no_batch_norm"), sign=-1),
    ),
    Claim(
        "a constant rate has the least effect on Δ of the five changes",
        _of_all("delta", "no_step", others=_others("no_step", "original"), sign=1),
    ),
    Claim(
        "ConvPool is more accurate than the original on the original images",
        (Above("accuracy", "conv_pool", "original"),),
    ),
    Claim(
        "ConvPool loses most of all versions",
        _of_all("delta", "conv_pool", others=_others("conv_pool"), sign=-1),
    ),
    Claim(
        "average pooling is better for robustness than max pooling (higher Δ)",
        (Above("delta", "average_pool", "original"),),
    ),
    Claim(
        "max and average pooling differ more on transformed images (0.28) than on the original "
        "ones (0.06)",
        (Above("delta", "original", "average_pool"),),
    ),
    Claim(
        "without dropout accuracy on the original images is higher",
        (Above("accuracy", "no_dropout", "original"),),
    ),
    Claim(
        "which is overfitting: train less test accuracy is larger",
        (Above("gap", "no_dropout", "original"),),
    ),
    Claim(
        "without dropout accuracy on transformed images is 2nd highest, after StepLR",
        (
            Above("transformed", "no_step", "no_dropout"),
            *_of_all("transformed", "no_dropout", others=_others("no_dropout", "no_step"), sign=1),
        ),
    ),
    Claim(
        "batch norm makes a network more accurate and more robust",
        (
            Above("accuracy", "original", "no_batch_norm"),
            Above("delta", "original", "no_batch_norm"),
        ),
    ),
)


class Verdict(NamedTuple):
    """What became of a claim."""

    claim: str
    published: str
    """Whether the paper's own numbers say so: "yes", "no", or "not measured"."""
    published_value: float | None
    """Of the part that is furthest from it."""
    part: str
    found: SeedMean | None
    """Ours, of the part that is furthest from it; None where a version is missing."""
    verdict: str


@functools.cache
def expected() -> dict:
    """Returns the published numbers."""
    return atomic.read_json(Path(__file__).with_name("expected.json"))


def published(measure: str, version: str) -> float | None:
    """Returns the paper's number of a version, in per cent; None where it has none."""
    numbers = expected()
    clean, copies = numbers["accuracy"][version], float(np.mean(numbers["blocks"][version]))
    return {"accuracy": clean, "transformed": copies, "delta": copies - clean}.get(measure)


def judge(claim: Claim, found: Cohort, *, num_seeds: int) -> Verdict:
    """Returns whether a claim comes out in the paper's own numbers, and in ours.

    A claim holds if the 95 % interval of every part is on its side, and fails if one's is on the
    other; else, and while seeds are missing, it is open.

    Args:
        claim: one of CLAIMS.
        found: our results.
        num_seeds: of the scale.
    """
    own = [(_published(part), part) for part in claim.parts]
    margins = [value for value, _ in own if value is not None]
    said = "not measured" if not margins else "yes" if min(margins) > 0 else "no"
    ours = [(_ours(part, found), part) for part in claim.parts]
    known = [(one, part) for one, part in ours if one is not None]
    complete = all(
        len(found[version]) == num_seeds
        for part in claim.parts
        for version in (part.version, part.than)
        if version
    )
    if len(known) < len(ours):
        return Verdict(claim.text, said, min(margins, default=None), "", None, "missing")
    weakest, part = min(known, key=lambda pair: pair[0].low)
    fails = min(known, key=lambda pair: pair[0].high)
    verdict = HOLDS if weakest.low > 0 else OPEN
    if fails[0].high < 0:
        verdict, (weakest, part) = FAILS, fails
    verdict = verdict if complete else OPEN
    return Verdict(claim.text, said, min(margins, default=None), _words(part), weakest, verdict)


def judge_stability(found: Cohort) -> Verdict:
    """Returns whether the accuracy is stable over all 75 copies: within `STABLE` beyond chance."""
    text = "accuracy is stable across all 75 transformations"
    result = found["original"].get(0, {})
    if "stable" not in result:
        return Verdict(text, "not measured", None, "", None, "missing")
    seen = stability(result["stable"])
    verdict = HOLDS if seen.high < STABLE else FAILS if seen.low > STABLE else OPEN
    part = f"standard deviation {seen.deviation:.3f} points, {seen.chance:.3f} by chance, beyond it"
    middle = np.sqrt(max(seen.deviation**2 - seen.chance**2, 0.0))
    return Verdict(
        text,
        "not measured",
        None,
        part,
        SeedMean(float(middle), seen.low, seen.high, seen.p_value),
        verdict,
    )


def judge_all(found: Cohort, *, num_seeds: int) -> list[Verdict]:
    """Returns the verdicts of all claims."""
    verdicts = [judge(claim, found, num_seeds=num_seeds) for claim in CLAIMS]
    return [*verdicts, judge_stability(found)]


def _published(part: Above) -> float | None:
    """Returns how far the paper's numbers are on a part's side, in points."""
    value = published(part.measure, part.version)
    other = 0.0 if part.than is None else published(part.measure, part.than)
    if value is None or other is None:
        return None
    return part.sign * (value - other - part.least)


def _ours(part: Above, found: Cohort) -> SeedMean | None:
    """Returns how far ours are on a part's side."""
    theirs = None if part.than is None else found[part.than]
    value = estimate(part.measure, found[part.version], theirs)
    if value is None:
        return None
    middle, *ends = (part.sign * (one - part.least) for one in value[:3])
    return SeedMean(middle, min(ends), max(ends), value.p_value)


def _words(part: Above) -> str:
    """Returns a part as a difference that is above 0 where the claim is true."""
    sides = [NAMES[part.version], NAMES[part.than] if part.than else f"{part.least:g}"]
    if part.sign < 0:
        sides.reverse()
    return f"{MEASURES[part.measure].title}: {sides[0]} - {sides[1]}"
