"""The tables: versions beside the paper's, differences, orders, claims, and what follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.delta_accuracy import claims, copies
from experiments.delta_accuracy.compare import (
    MEASURES,
    Agreement,
    Cohort,
    agreement,
    cohort,
    estimate,
    example,
    spread,
    told_apart,
)
from experiments.delta_accuracy.measure import digits
from experiments.delta_accuracy.plan import NAMES, VERSIONS, Scale, describe
from rbjax.metrics import SeedMean
from rbjax.sweep import Result

COMPARED = ("delta", "test_delta", "of_right", "corruptions", "rpr")
"""The measures whose orders are set side by side: P3's, on images it had not seen, of images that
are right, and two of other kinds."""
_COLUMNS = (
    *("accuracy", "transformed", "delta", "test_accuracy", "test_transformed", "test_delta"),
    *("of_right", "corruptions", "rpr"),
)


def report(results: Mapping[str, Result], scale: Scale, *, as_published: bool) -> str:
    """Returns all tables and sentences, as Markdown.

    Args:
        results: of `sweep.read`; what is missing is left out, and said.
        scale: of the grid.
        as_published: whether the grid is that of the author's code.
    """
    found, untrained = cohort(results, scale)
    lines = [describe(scale, as_published=as_published), "", *_about(results, scale, untrained)]
    if not any(found.values()):
        return "\n".join([*lines, "", "No network is trained: nothing follows."])
    verdicts = claims.judge_all(found, num_seeds=scale.seeds)
    blocks = (
        ("Versions, per cent, mean ± standard deviation over seeds", _versions(found, scale)),
        ("Beside the paper: ours - paper, points", _beside(found)),
        ("Less the original, points, 95 % interval and p-value", _differences(found)),
        ("Orders, best first", _orders(found)),
        ("What the text claims", _verdicts(verdicts)),
        ("What follows", conclusion(found, verdicts)),
    )
    for title, body in blocks:
        lines += ["", f"### {title}", "", *body]
    return "\n".join(lines)


def conclusion(found: Cohort, verdicts: Sequence[claims.Verdict]) -> list[str]:
    """Returns what follows, a sentence a line, each with its numbers and intervals.

    Args:
        found: the results of trained networks.
        verdicts: of the claims.
    """
    values = {name: _values(name, found) for name in COMPARED}
    lines = [_of_claims(verdicts)]
    ours, theirs = values["delta"], _published_order(found)
    lines.append(
        f"- Ours and the paper's order by Δ: {_tau(agreement(ours, theirs))}; "
        f"{_share(*told_apart('delta', found))} of versions are told apart by Δ on training images,"
        f" {_share(*told_apart('test_delta', found))} on test images."
    )
    lines += [
        f"- {words}: {_tau(agreement(values[one], values[other]))}."
        for words, one, other in (
            ("Measured on test images in place of training images", "delta", "test_delta"),
            ("Freed of the clean accuracy (Δ of images that are right)", "test_delta", "of_right"),
            ("Under MNIST-C in place of deformations", "test_delta", "corruptions"),
            ("By RPR in place of Δ", "test_delta", "rpr"),
        )
    ]
    best, worst = (pick(ours, key=lambda name: ours[name].value) for pick in (max, min))
    distance = estimate("delta", found[best], found[worst])
    if distance is not None and best != worst:
        surely = "" if distance.low > 0 else ", which seeds and images may have made"
        lines.append(
            f"- From {NAMES[best]} to {NAMES[worst]} Δ falls by {distance.value:.2f} points "
            f"({distance.low:.2f} to {distance.high:.2f}){surely}."
        )
    chosen = example(found)
    if chosen is not None:
        lines.append(f"- {_example(found, *chosen)}")
    return lines


def _about(results: Mapping[str, Result], scale: Scale, untrained: Sequence[str]) -> list[str]:
    """Returns whose copies were classified, and which cells enter no conclusion."""
    sources = {result["source"] for result in results.values()}
    lines = []
    if copies.GENERATED in sources:
        lines.append(
            "**The transformed images are our own generator's (`alignmnist_generated`), not the "
            "published AlignMNIST**, which was not in the data folder."
        )
    elif sources:
        lines.append(
            "The training images' copies are the published AlignMNIST's, the test images' our "
            "generator's, since there are no published ones."
        )
    lines.append(
        f"A network counts as trained from a clean test accuracy of {scale.floor:.0%} on"
        + (
            f"; below it, and in no figure here: {', '.join(untrained)}."
            if untrained
            else ": all do."
            if scale.floor
            else ": at this scale none is, and the numbers mean nothing."
        )
    )
    return lines


def _versions(found: Cohort, scale: Scale) -> list[str]:
    titles = [MEASURES[name].title for name in _COLUMNS]
    lines = _heading(["version", "seeds", *titles])
    for version, results in found.items():
        cells = [NAMES[version], f"{len(results)} of {scale.seeds}"]
        for name in _COLUMNS:
            mean, deviation = spread(name, results) if results else (np.nan, None)
            around = "" if deviation is None else f" ± {deviation:.2f}"
            cells.append(f"{mean:.2f}{around}" if results else "")
        lines.append(_row(cells))
    return lines


def _beside(found: Cohort) -> list[str]:
    names = ("accuracy", "transformed", "delta")
    lines = _heading(["version", *(f"{MEASURES[n].title}: paper, ours - paper" for n in names)])
    for version in found:
        cells = [NAMES[version]]
        for name in names:
            theirs, ours = claims.published(name, version), estimate(name, found[version])
            if theirs is not None:
                cells.append(f"{theirs:.2f}" + (f", {ours.value - theirs:+.2f}" if ours else ""))
        lines.append(_row(cells))
    return lines


def _differences(found: Cohort) -> list[str]:
    lines = _heading(["version", *(MEASURES[name].title for name in COMPARED)])
    for version in list(VERSIONS)[1:]:
        cells = [NAMES[version]]
        for name in COMPARED:
            one = estimate(name, found[version], found["original"])
            cells.append("" if one is None else f"{_interval(one)}, p {_p_value(one.p_value)}")
        lines.append(_row(cells))
    return lines


def _orders(found: Cohort) -> list[str]:
    delta = _values("delta", found)
    lines = _heading(["by", "order", "Kendall's tau with Δ, train"])
    rows = {"Δ, the paper": _published_order(found)}
    rows |= {MEASURES[name].title: _values(name, found) for name in COMPARED}
    for title, values in rows.items():
        order = sorted(values, key=lambda name: -values[name].value)
        tau = "" if values == delta else _tau(agreement(values, delta))
        lines.append(_row([title, ", ".join(NAMES[name] for name in order), tau]))
    return lines


def _verdicts(verdicts: Sequence[claims.Verdict]) -> list[str]:
    lines = _heading(
        ["claim", "in the paper's own numbers", "here, the part furthest from it", "here"]
    )
    for verdict in verdicts:
        own = verdict.published
        if verdict.published_value is not None:
            own += f" ({verdict.published_value:+.3f})"
        ours = f"{verdict.part}: {_interval(verdict.found)}" if verdict.found else ""
        lines.append(_row([verdict.claim, own, ours, verdict.verdict]))
    return lines


def _of_claims(verdicts: Sequence[claims.Verdict]) -> str:
    def named(verdict: str) -> list[str]:
        return [v.claim for v in verdicts if v.verdict == verdict]

    parts = [f"- Of {len(verdicts)} claims {len(named(claims.HOLDS))} hold here"]
    failing, left = named(claims.FAILS), named(claims.OPEN) + named("missing")
    parts.append(f"{len(failing)} fail" + (f" ({'; '.join(failing)})" if failing else ""))
    parts.append(f"{len(left)} are open")
    contrary = [v.claim for v in verdicts if v.published == "no"]
    return (
        f"{', '.join(parts)}; {len(contrary)} do not follow from the paper's own numbers"
        + (f" ({'; '.join(contrary)})" if contrary else "")
        + "."
    )


def _example(found: Cohort, row: int, copy: int, classes: Mapping[str, int]) -> str:
    """Returns figure 5 in words."""
    label = int(digits(found["original"][0]["labels"])[row])
    right = [NAMES[version] for version, got in classes.items() if got == label]
    said = ", ".join(f"{NAMES[version]} {got}" for version, got in classes.items())
    return (
        f"Figure 5, the copy on which the networks of seed 0 give the most classes "
        f"({len(set(classes.values()))}): copy {copy} of test image {row}, a {label}; {said}. "
        f"Right: {', '.join(right) or 'none'}; in the paper the original and StepLR."
    )


def _values(name: str, found: Cohort) -> dict[str, SeedMean]:
    estimates = {version: estimate(name, results) for version, results in found.items()}
    return {version: one for version, one in estimates.items() if one is not None}


def _published_order(found: Cohort) -> dict[str, SeedMean]:
    values = {version: claims.published("delta", version) for version in found}
    return {name: SeedMean(v, v, v, 0.0) for name, v in values.items() if v is not None}


def _share(some: int, of: int) -> str:
    return f"{some} of {of} pairs"


def _tau(found: Agreement) -> str:
    if not np.isfinite(found.tau):
        return "too few versions"
    said = (
        "the same order"
        if found.tau == 1
        else "orders agree"
        if found.low > 0
        else "orders are opposite"
        if found.high < 0
        else "no agreement shown"
    )
    return f"{found.tau:+.2f} ({found.low:+.2f} to {found.high:+.2f}), {said}"


def _interval(found: SeedMean) -> str:
    value, low, high = (round(one, 2) + 0.0 for one in found[:3])  # no minus before a 0
    return f"{value:+.2f} ({low:+.2f} to {high:+.2f})"


def _p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _heading(cells: Sequence[str]) -> list[str]:
    return [_row(cells), "|---" * len(cells) + "|"]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
