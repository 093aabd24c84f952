"""The tables: P1's table 1 in both metrics, what lies beyond it, and the answer in words."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

from experiments.answers import Estimate
from experiments.rendezvous import conclude, levels, results
from experiments.rendezvous.conclude import TITLES
from experiments.rendezvous.plan import PAPER, PLAIN, SCALES, Scale
from experiments.rendezvous.results import MEASURES, Cohort, Place
from rbjax.sweep import Result


def report(found: Mapping[str, Result], *, scale: Scale, dataset: str | None = None) -> str:
    """Returns all tables and the answer, as Markdown.

    Args:
        found: of `sweep.read`; what is missing is left out, and said.
        scale: of the grid.
        dataset: as for `plan.keys`.
    """
    cohorts = results.cohorts(found, scale, dataset)
    lines = [_describe(scale), "", "### Answer", ""]
    lines += [
        "What a method adds to the gap between the thirds of classes with most and with fewest "
        "images, on the long tail beside balanced data of equal size:",
        "",
        *(f"- {sentence}" for sentence in conclude.overall(cohorts)),
    ]
    for cohort in cohorts:
        lines += ["", f"### {cohort.dataset}, {cohort.network}", "", _trained(cohort)]
        lines += ["", *(f"- {sentence}" for sentence in conclude.sentences(cohort))]
        if not cohort.results:
            continue
        lines += ["", _data(cohort), *_table1(cohort), *_changes(cohort), *_beyond(cohort)]
        lines += _remedies(cohort)
    lines += ["", _NOTE]
    return "\n".join(lines)


_NOTE = (
    "Numbers are per cent, differences points. Intervals are 95 %: Student's t over seeds, the "
    "error of test images added, which are drawn class by class, the same for all networks that "
    "are compared; of one seed they are those of the images alone. They are not corrected for "
    "their number. Many, medium and few are thirds of the classes by their training images at a "
    "level, on balanced data by those of the long tail."
)


def _describe(scale: Scale) -> str:
    low, high = scale.rates
    severities = "all" if scale.severities is None else ", ".join(map(str, scale.severities))
    text = (
        f"Adam between {low:g} and {high:g}, up and down over {scale.half_cycle:g} epochs each, "
        f"batches of {scale.batch_size}; at most {scale.test or 'all'} test images, "
        f"{scale.corrupted} of them corrupted (severities {severities}, where there are several); "
        f"universal perturbations crafted on {scale.crafted} training images, alike from each "
        f"class; DeepAugment by {scale.deepaugment}; largest class over smallest {scale.ratio:g}."
    )
    if scale is PAPER:
        return text
    name = next((name for name, other in SCALES.items() if other is scale), "this scale")
    parts = [f"{name} has {', '.join(scale.networks)} in place of {', '.join(PAPER.networks)}"]
    each = ", ".join(f"{count} of {name}" for name, count in scale.per_class.items())
    parts += [f"training images of a class before a level: {each}"]
    epochs = ", ".join(f"{n} ({name})" for name, n in scale.epochs.items())
    parts += [f"epochs: {epochs} in place of {PAPER.epochs['others']}"]
    return f"{text} Reduced: {'; '.join(parts)}."


def _trained(cohort: Cohort) -> str:
    """Says which networks do not count, and how good the standard ones are."""
    level = results.balanced_level(cohort.levels)
    reached = cohort.contrast([(1.0, Place(level, "none"))], "balanced_accuracy")
    text = "" if reached is None else f"Standard networks on balanced data: {reached.plain()} %"
    text += f", floor {100 * cohort.floor:g} %." if cohort.floor and text else "." if text else ""
    if cohort.apart:
        named = "; ".join(f"{name} ({why})" for name, why in cohort.apart.items())
        text += f" Not trained, and in no number below: {named}."
    return text or "No cell is there yet."


def _data(cohort: Cohort) -> str:
    """Says how many training images each level has."""
    parts = []
    for level in cohort.levels:
        counts = cohort.counts(level)
        if counts is not None:
            ends = f"{counts.max():,} to {counts.min():,} of a class"
            parts.append(f"{levels.TITLES[level]} {counts.sum():,} ({ends})")
    corruptions = next(iter(cohort.results.values()))["corruptions"]
    return (
        f"Training images: {'; '.join(parts)}. Corruptions have the constants of "
        f"`{corruptions['profile']}`."
    )


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return ["", *lines, *(f"| {' | '.join(row)} |" for row in rows if any(row[1:]))]


def _one(cohort: Cohort, place: Place, measure: str) -> str:
    found = cohort.contrast([(1.0, place)], measure)
    return "" if found is None else found.plain()


def _table1(cohort: Cohort) -> list[str]:
    """Table 1 of P1, a table for each of its metrics."""
    lines = []
    for measure in ("balanced_accuracy", "macro_f1"):
        rows = [
            [title, *(_one(cohort, Place(level, name), measure) for level in cohort.levels)]
            for name, title in TITLES.items()
        ]
        lines += ["", f"#### Table 1: {MEASURES[measure]}"]
        lines += _markdown(["", *(levels.TITLES[level] for level in cohort.levels)], rows)
    return lines


def _changes(cohort: Cohort) -> list[str]:
    """What each method adds to the bias, to the spread of classes and to the worst one."""
    names, pairs = [name for name in TITLES if name != "none"], conclude.pairs(cohort)

    def row(title: str, found: Callable[[str], Estimate | None]) -> list[str]:
        values = [found(name) for name in names]
        return [title, *("" if value is None else str(value) for value in values)]

    rows = []
    for pair in pairs:
        title = f"gap, {levels.TITLES[pair[0]]} less {levels.TITLES[pair[1]]}"
        rows.append(row(title, functools.partial(_change, cohort, pair)))
    for level in dict.fromkeys((pairs[-1][1], *(pair[0] for pair in pairs))):
        for measure in ("spread", "worst_class"):
            title = f"{MEASURES[measure]}, {levels.TITLES[level]}"
            rows.append(row(title, functools.partial(_effect, cohort, level, measure)))
    head = ["", *(TITLES[name] for name in names)]
    return ["", "#### What a method changes, beside no method", *_markdown(head, rows)]


def _change(cohort: Cohort, pair: tuple[str, str], name: str) -> Estimate | None:
    return conclude.change(cohort, name, pair, "gap")


def _effect(cohort: Cohort, level: str, measure: str, name: str) -> Estimate | None:
    return conclude.effect(cohort, level, name, measure)


def _beyond(cohort: Cohort) -> list[str]:
    rows = [
        [f"{levels.TITLES[level]}, {title}"]
        + [_one(cohort, Place(level, name), measure) for measure in MEASURES]
        for level in cohort.levels
        for name, title in TITLES.items()
    ]
    return ["", "#### Beyond table 1", *_markdown(["", *MEASURES.values()], rows)]


def _remedies(cohort: Cohort) -> list[str]:
    level = cohort.levels[-1]
    crossed = dict.fromkeys(key.method for key in cohort.results if key.remedy != PLAIN)
    used = dict.fromkeys(key.remedy for key in cohort.results if key.remedy != PLAIN)
    rows = [
        [f"{TITLES[name]}, {conclude.REMEDIES.get(remedy, 'cross-entropy')}"]
        + [_one(cohort, Place(level, name, remedy), measure) for measure in MEASURES]
        for name in TITLES
        if name in crossed
        for remedy in (PLAIN, *used)
    ]
    title = f"#### Remedies {conclude.LEVELS[level]}"
    return ["", title, *_markdown(["", *MEASURES.values()], rows)] if rows else []
