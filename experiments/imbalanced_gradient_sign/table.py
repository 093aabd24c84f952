"""The tables: P5's beside ours, and what goes beyond it."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np

from experiments.imbalanced_gradient_sign import compare, conclude, plan, results, stored
from experiments.imbalanced_gradient_sign.plan import Scale
from experiments.imbalanced_gradient_sign.results import COLUMNS, Grid
from rbjax.config import Config
from rbjax.sweep import Result
from rbjax.training import setup

TITLES = {
    "written": "As the paper says",
    "published": "As its code does",
    "matched": "Without confounds",
}


def report(
    found: Mapping[str, Result], *, scale: Scale, as_published: bool = False, **data: str | None
) -> str:
    """Returns all tables and the conclusion, as Markdown.

    Args:
        found: of `sweep.read`; what is missing is left out, and said.
        scale: of the grid.
        as_published: whether the grid is that of P5's code.
        **data: another dataset, see `plan.base`.
    """
    config = plan.base(scale, as_published=as_published, **data)
    names = setup.info(config).class_names
    lines = [_describe(scale, config), *_order(config, as_published=as_published)]
    verdicts = {}
    for variant in ("published",) if as_published else ("written", "matched"):
        grid = results.grid(found, variant, scale)
        lines += ["", f"### {TITLES[variant]}", "", _trained(grid)]
        if not grid.results:
            lines.append("No cell is there yet.")
            continue
        lines += _table1(grid, names)
        lines += _beyond(grid, names)
        lines += compare.readings(grid, names) if variant != "matched" else _tails(grid, names)
        verdicts[variant] = conclude.claims(grid, names)
    lines += ["", "### Conclusion", *conclude.sentences(verdicts), ""]
    lines.append(
        "Intervals are 95 %, Student's t over classes (over long tails), each the mean of its "
        "seeds; those of table 1 are Wilson's of the test images."
    )
    return "\n".join(lines)


def _describe(scale: Scale, config: Config) -> str:
    full = plan.PAPER
    parts = [f"{config.dataset.name}, P5's VGG of width {scale.width}"]
    for words, here, there in (
        ("images of a class", scale.per_class, "all"),
        ("test images of a class attacked", scale.test, "all"),
        ("of them under PGD-20 and AutoAttack", scale.strong, "all"),
        ("learning rate", scale.learning_rate, f"{full.learning_rate:g}"),
        ("epochs at most", scale.num_epochs, f"{full.num_epochs}"),
        ("epochs without confounds", scale.matched_epochs, f"{full.matched_epochs}"),
        ("seeds", scale.seeds, f"{full.seeds}"),
    ):
        if here is not None and f"{here:g}" != there:
            parts.append(f"{words}: {here:g} in place of {there}")
    if scale.width != full.width:
        parts[0] += f" in place of {full.width}"
    return "; ".join(parts) + "."


def _order(config: Config, *, as_published: bool) -> list[str]:
    """Says whether images that are chosen by stored order are those that P5's code chose."""
    if not as_published or config.dataset.name != "cifar10":
        return []
    if _is_original(config.data_dir):
        return [
            "",
            "Images are stored in the order of CIFAR-10's makers, by which P5's code chooses.",
        ]
    return [
        "",
        "Images are not stored in the order of CIFAR-10's makers: what is chosen by stored order "
        "is chosen by the same rule as in P5's code, and is not the same images.",
    ]


@functools.cache
def _is_original(data_dir: str | None) -> bool:
    config = plan.base(plan.PAPER)
    config.data_dir = data_dir
    train = setup.load(config, "train")
    return stored.is_original(train.labels, train.index)


def _trained(grid: Grid) -> str:
    """Says which networks do not count, and how good the others are."""
    kinds: dict[str, list[float]] = {}
    for name, result in grid.results.items():
        kinds.setdefault(name.split(".")[1], []).append(100 * results.clean_accuracy(result))
    parts = [
        f"{kind} {np.mean(values):.1f} ({min(values):.1f} to {max(values):.1f}, {len(values)})"
        for kind, values in kinds.items()
    ]
    text = f"Clean accuracy, mean of classes, per cent (least, most, networks): {'; '.join(parts)}."
    if grid.untrained:
        named = [f"{name} ({100 * value:.1f})" for name, value in grid.untrained.items()]
        text += f" Not trained, and in no number below: {', '.join(named)}."
    return text


def _table1(grid: Grid, names: Sequence[str]) -> list[str]:
    """Table 1 of P5, each number with its interval, ours beside theirs."""
    lines = ["", "#### Table 1: accuracy under one step of 0.01, ours (95 %) | P5", ""]
    lines += [f"| class | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    ours: dict[str, list[float]] = {column: [] for column in COLUMNS}
    theirs: dict[str, list[float]] = {column: [] for column in COLUMNS}
    for target in grid.classes():
        cells = []
        for column in COLUMNS:
            own = compare.entry(grid, names, target, column, "fast_ascent")
            if own is None:
                cells.append("")
                continue
            ours[column].append(own.ours)
            theirs[column].append(own.theirs)
            said = "" if np.isnan(own.theirs) else f" \\| {own.theirs:g}"
            cells.append(f"{own.ours:.1f} ({own.low:.0f} to {own.high:.0f}){said}")
        lines.append(f"| {names[target]} | {' | '.join(cells)} |")
    means, differences = [], []
    for column in COLUMNS:
        both = zip(ours[column], theirs[column], strict=True)
        apart = results.estimate([(a - b) / 100 for a, b in both])
        means.append(f"{np.mean(ours[column]):.1f}" if ours[column] else "")
        differences.append(str(apart) if apart.number else "")
    lines.append(f"| mean | {' | '.join(means)} |")
    lines.append(f"| ours less P5's | {' | '.join(differences)} |")
    apart, number = compare.distance(grid, names, "fast_ascent")
    if number:
        lines += ["", f"{number} of 50 numbers, {apart:.1f} points from P5's on average."]
    return lines


def _beyond(grid: Grid, names: Sequence[str]) -> list[str]:
    """Each kind of network under each attack: the mean over classes of accuracy and of its loss."""
    kinds = [kind for kind in ("balanced", "under", "over") if _means(grid, kind, "clean")]
    labels = list(dict.fromkeys(label for r in grid.results.values() for label in r["attacked"]))
    lines = ["", "#### Mean accuracy of the classes that are under- and over-sampled, per cent", ""]
    lines += [f"| attack | {' | '.join(kinds)} |", "|---" * (len(kinds) + 1) + "|"]
    for label in labels:
        values = [_means(grid, kind, label) for kind in kinds]
        if any(values):
            lines.append(f"| `{label}` | {' | '.join(values)} |")
    relative = [
        str(results.gain(grid, kind, "fast_ascent", "clean", results.relative)) for kind in kinds
    ]
    absolute = [
        str(results.gain(grid, kind, "fast_ascent", "clean", results.absolute)) for kind in kinds
    ]
    lines.append(f"| figure 5, lost in shares of the clean accuracy | {' | '.join(relative)} |")
    lines.append(f"| figure 5, lost in points | {' | '.join(absolute)} |")
    lines += _pairs(grid, names)
    return lines


def _means(grid: Grid, kind: str, label: str) -> str:
    values = []
    for target in grid.classes():
        found = grid.seeds(kind, None if kind == "balanced" else target).values()
        some = [results.accuracy(r, label, target) for r in found if label in r["attacked"]]
        values.append(np.mean(some) if some else np.nan)
    own = results.estimate(values)
    return f"{own.value:.1f}" if own.number else ""


def _pairs(grid: Grid, names: Sequence[str]) -> list[str]:
    """How often each class of P5's pairs is taken for the other, clean and attacked."""
    pairs = [pair for pair in conclude.PAIRS if set(pair) <= set(names)]
    lines: list[str] = []
    for one, other in (*pairs, *((b, a) for a, b in pairs)):
        found = compare.overlaps(grid, names.index(one), names.index(other))
        for kind in ("under", "over"):
            own = [value for reading, value in found.items() if reading.startswith(kind)]
            if own:
                cells = " | ".join(f"{value:.0f}" for value in own)
                lines.append(f"| {one} as {other}, {kind} | {cells} |")
    if not lines:
        return []
    title = (
        "| pair, network | clean: of all | of misclassified | attacked: of all | of misclassified |"
    )
    return ["", "#### Overlap, per cent of a class's images", "", title, "|---" * 5 + "|", *lines]


def _tails(grid: Grid, names: Sequence[str]) -> list[str]:
    """Degrees of imbalance, class by class, and the rank correlation in long tails."""
    lines = ["", "#### Degrees of imbalance: share of the clean accuracy lost, per cent", ""]
    kinds = [plan.degree(r) for r in plan.DEGREES]
    kinds = [kinds[0], "under", kinds[1], "balanced", kinds[2], "over"]
    lines += [f"| class | {' | '.join(kinds)} |", "|---" * (len(kinds) + 1) + "|"]
    for target in grid.classes():
        cells = []
        for kind in kinds:
            found = grid.seeds(kind, None if kind == "balanced" else target).values()
            own = [100 * results.relative(r, "fast_ascent", target) for r in found]
            cells.append(f"{np.mean(own):.1f}" if own else "")
        if cells[0]:
            lines.append(f"| {names[target]} | {' | '.join(cells)} |")
    own = results.correlations(grid, "fast_ascent")
    if own.number:
        lines += ["", f"Long tails, rank correlation of images and vulnerability times 100: {own}."]
    return lines
