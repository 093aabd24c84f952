"""The table: rows with their spread over seeds, and which of the expected differences come out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments.methods.plan import ROWS, Scale, cell_name, describe, num_seeds, options
from rbjax import sweep
from rbjax.metrics import mean_over_seeds, resample_classes
from rbjax.sweep import Result

RESAMPLES = 2000

Measure = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(recall (..., K), test images of each class (K,)) -> (...)."""


def accuracy(recall: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Returns the share of all images that are correct."""
    return recall @ counts / counts.sum()


def balanced(recall: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Returns the mean over classes."""
    return recall[..., counts > 0].mean(axis=-1)


def worst(recall: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Returns the accuracy of the worst class."""
    return recall[..., counts > 0].min(axis=-1)


class Column(NamedTuple):
    """One column of a group's table."""

    title: str
    label: str
    """Under what: clean, an attack, or "corruptions" for the mean over them."""
    measure: Measure


COLUMNS: dict[str, tuple[Column, ...]] = {
    "mnist": (
        Column("clean", "clean", accuracy),
        Column("PGD-20", "pgd20", accuracy),
        Column("universal", "universal", accuracy),
        Column("MNIST-C", "corruptions", accuracy),
    ),
    **dict.fromkeys(
        ("tail_mnist", "tail_cifar10", "gtsrb"),
        (
            Column("accuracy", "clean", accuracy),
            Column("balanced", "clean", balanced),
            Column("worst class", "clean", worst),
        ),
    ),
    "collapse": (
        Column("clean", "clean", accuracy),
        Column("PGD-20", "pgd20", accuracy),
    ),
    "classes": (
        Column("clean", "clean", accuracy),
        Column("worst class", "clean", worst),
        Column("PGD-20", "pgd20", accuracy),
        Column("worst class under PGD-20", "pgd20", worst),
    ),
}


class Claim(NamedTuple):
    """A difference that is expected: `row` minus `than` is above `least`, in points."""

    group: str
    row: str
    than: str
    column: str
    least: float


CLAIMS = (
    Claim("mnist", "pgd", "standard", "PGD-20", 40),
    Claim("mnist", "universal", "standard", "universal", 30),
    Claim("mnist", "shared", "standard", "universal", 30),
    Claim("mnist", "ant", "standard", "MNIST-C", 3),
    Claim("mnist", "augmix", "standard", "MNIST-C", 3),
    *(
        Claim(group, row, "cross_entropy", "balanced", 0)
        for group in ("tail_mnist", "tail_cifar10", "gtsrb")
        for row in ("ldam_drw", "balanced_softmax", "logit_adjustment")
    ),
    Claim("collapse", "guarded", "unguarded", "PGD-20", 0),
    *(
        Claim("classes", row, "pgd", *bound)
        for row in ("cfa", "dafa")
        for bound in (("worst class under PGD-20", 0), ("PGD-20", -2))
    ),
)


class Difference(NamedTuple):
    """In points, with a 95 % interval over seeds and test images."""

    value: float
    low: float
    high: float


def difference(first: Sequence[Result], second: Sequence[Result], column: Column) -> Difference:
    """Returns how far one row is above another.

    Args:
        first: the results of a row, a seed each.
        second: of the other, of the same seeds.
        column: what is compared.

    Returns:
        The difference of the means over seeds.  The squared errors of seeds, s^2 / n, and of test
        images are added up, and the interval is that of Student's t with Welch and Satterthwaite's
        degrees of freedom.  The error of images is a paired bootstrap's: those of each class are
        drawn with replacement, the same for both rows.  Under corruptions images are not kept, and
        seeds alone count; of one seed, images alone.
    """
    of_images = 0.0
    if column.label == "corruptions":
        pairs = np.array(
            [_corrupted(a) - _corrupted(b) for a, b in zip(first, second, strict=True)]
        )
    else:
        labels, counts = sweep.labels(first[0]), np.asarray(first[0]["count"])
        correct = [
            np.stack([sweep.rows(result, column.label) for result in row])
            for row in (first, second)
        ]
        one, other = (column.measure(_recall(rows, labels, counts), counts) for rows in correct)
        pairs = one - other
        # (resamples, seeds, 2 rows, classes)
        recall = np.zeros((RESAMPLES, len(first), 2, len(counts)))
        for label, images, weights in resample_classes(labels, num_draws=RESAMPLES):
            mine = np.concatenate([rows[:, images] for rows in correct]).T
            recall[..., label] = (weights @ mine).reshape(RESAMPLES, 2, -1).transpose(0, 2, 1)
        values = column.measure(recall, counts)
        of_images = np.var((values[..., 0] - values[..., 1]).mean(axis=1))
    found = mean_over_seeds(pairs, variance=float(of_images))
    return Difference(*(100 * x for x in (found.value, found.low, found.high)))


def _recall(correct: np.ndarray, labels: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Returns the share of each class that is correct, (S, K); 0 for a class without images."""
    sums = np.stack([np.bincount(labels[row], minlength=len(counts)) for row in correct])
    return sums / np.maximum(counts, 1)


def _corrupted(result: Result) -> float:
    """Returns the mean accuracy over corruptions, each over its severities."""
    return float(np.mean([np.mean(values) for values in result["corruptions"].values()]))


def report(results: Mapping[str, Result], scale: Scale) -> str:
    """Returns the tables of all groups, and the claims, as Markdown.

    Args:
        results: of `sweep.read`; what is missing is left out, and said.
        scale: of the grid.
    """
    lines: list[str] = []
    for group, rows in ROWS.items():
        columns = COLUMNS[group]
        lines += [f"### {group}", "", describe(scale, group), ""]
        lines += [f"| row | seeds | {' | '.join(c.title for c in columns)} |"]
        lines.append("|---" * (len(columns) + 2) + "|")
        for row in rows:
            have = _of(results, group, row, scale)
            cells = [_cell(list(have.values()), column) for column in columns]
            seeds = f"{len(have)} of {num_seeds(scale, group, row)}"
            lines.append(f"| {row} | {seeds} | {' | '.join(cells)} |")
        lines += ["", f"Rows: {'; '.join(options(scale, group, row) for row in rows)}.", ""]
    lines += ["### Expected", "", "| group | expected | difference, 95 % interval | comes out |"]
    lines.append("|---|---|---|---|")
    lines += [_claim(claim, results, scale) for claim in CLAIMS]
    return "\n".join(lines)


def _of(results: Mapping[str, Result], group: str, row: str, scale: Scale) -> dict[int, Result]:
    """Returns the results of a row by seed."""
    number = num_seeds(scale, group, row)
    return sweep.by_seed(results, lambda seed: cell_name(group, row, seed), number)


def _cell(results: Sequence[Result], column: Column) -> str:
    """Returns the mean over seeds and their standard deviation, in per cent."""
    if not results or (column.label == "corruptions" and "corruptions" not in results[0]):
        return ""
    if column.label == "corruptions":
        values = [_corrupted(result) for result in results]
    else:
        counts = np.asarray(results[0]["count"])
        correct = [result["results"][column.label]["correct"] for result in results]
        recall = np.asarray(correct) / np.maximum(counts, 1)
        values = list(column.measure(recall, counts))
    spread = f" ± {100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return f"{100 * np.mean(values):.1f}{spread}"


def _claim(claim: Claim, results: Mapping[str, Result], scale: Scale) -> str:
    rows = [_of(results, claim.group, row, scale) for row in (claim.row, claim.than)]
    seeds = sorted(rows[0].keys() & rows[1].keys())
    words = f"{claim.row} - {claim.than}, {claim.column}: above {claim.least:g}"
    if not seeds:
        return f"| {claim.group} | {words} | | missing |"
    column = next(c for c in COLUMNS[claim.group] if c.title == claim.column)
    ours, theirs = ([row[seed] for seed in seeds] for row in rows)
    found = difference(ours, theirs, column)
    verdict = "yes" if found.low > claim.least else "no" if found.high < claim.least else "open"
    wanted = min(num_seeds(scale, claim.group, row) for row in (claim.row, claim.than))
    if len(seeds) < wanted:  # a seed more may turn it
        verdict = "open"
    shown = f"{found.value:+.1f} ({found.low:+.1f} to {found.high:+.1f})"
    missing = f", {len(seeds)} of {wanted} seeds" if len(seeds) < wanted else ""
    return f"| {claim.group} | {words} | {shown}{missing} | {verdict} |"
