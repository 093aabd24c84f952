"""Any result as a table, as columns, as a picture: one function each for all kinds of results.

A result is plain data that prints itself; what it is drawn as stands here, a function a kind.
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rbjax import rpr
from rbjax.analysis.evaluation import Report
from rbjax.analysis.tables import classwise_sheet, columns_of
from rbjax.attacks import AutoAttackResult, SuiteResult, UniversalEvaluation
from rbjax.attacks.outcome import described
from rbjax.compared import Compared
from rbjax.corruptions import CorruptionResult
from rbjax.errors import a_type
from rbjax.inputs import names_of
from rbjax.rpr.scores import draws_of
from rbjax.sheet import Sheet

Names = Sequence[str] | None
Columns = dict[str, Any]


# ---------------------------------------------------------------------- tables


@functools.singledispatch
def table(result: Any, *, class_names: Names = None) -> Sheet:
    """Returns a result as a table: a class a row where it has classes.

    Args:
        result: what `run_attacks`, `run_autoattack`, `run_adaptive_autoattack`, `run_corruptions`,
            `rpr.score`, `diagnose`, `metrics.classwise`, `evaluate`, `evaluate_universal`,
            `compare_runs` or a `craft_universal...` returned, or `rbjax.audit`.
        class_names: K names; None: the numbers, or what the result knows.

    Returns:
        Print it, or let a notebook show it; `.columns` are its numbers. Norm, epsilon and steps
        stand in its title.

    Raises:
        ValueError: for what is no result, or another number of names.
    """
    if not isinstance(sheet := getattr(result, "sheet", None), Sheet):
        raise ValueError(
            f"result is {a_type(result)}; it must be what run_attacks, run_autoattack, "
            "run_corruptions, rpr.score, diagnose, metrics.classwise, evaluate or another such "
            "function returned"
        )
    if class_names is None:
        return sheet
    if "class" not in sheet.columns:
        return _renamed(sheet, result, class_names)
    names = names_of(class_names, len(sheet.columns["class"]))
    return Sheet(sheet.title, {**sheet.columns, "class": names}, sheet.below, sheet.plain)


def _renamed(sheet: Sheet, result: Any, class_names: Sequence[str]) -> Sheet:
    """Returns a table without a row a class, with names in place of numbers where it has any."""
    if not isinstance(result, CorruptionResult):
        return sheet
    names = names_of(class_names, result.num_classes)
    worst = [names[label] for label in sheet.columns["worst class"]]
    return Sheet(sheet.title, {**sheet.columns, "worst class": worst}, sheet.below, sheet.plain)


@table.register
def _(result: SuiteResult, *, class_names: Names = None) -> Sheet:
    labels = ["clean", *result.outcomes, *(["worst"] if len(result.outcomes) > 1 else [])]
    return classwise_sheet(
        f"{len(result.labels):,} images, correctly classified in per cent\n"
        f"{described(result.settings)}",
        {label: result.class_accuracy(label).value for label in labels},
        class_names=names_of(class_names, result.num_classes),
        counts=_counts(result.labels, result.num_classes),
        totals={label: result.accuracy(label).value for label in labels},
    )


@table.register
def _(result: AutoAttackResult, *, class_names: Names = None) -> Sheet:
    flags = {"clean": result.clean_predictions == result.labels, "robust": result.robust}
    names = names_of(class_names, result.num_classes)
    return _of_flags(f"{result.name}: {result.setting}", flags, result.labels, names)


@table.register
def _(result: rpr.Scores | rpr.Repeated, *, class_names: Names = None) -> Sheet:
    robust = _first(result) > result.max_steps
    flags = {"clean": result.clean_correct, "robust": robust}
    title = f"rpr: {draws_of(result)}"
    title += f"; {result.of_all}" if isinstance(result, rpr.Repeated) else ""
    known, most = result.num_classes, int(result.labels.max()) + 1
    # A black box that does not say how many classes there are has those that are named.
    names = names_of(class_names, known or max(most, len(class_names or ())))
    return _of_flags(title, flags, result.labels, names)


@table.register
def _(result: Report, *, class_names: Names = None) -> Sheet:
    columns, totals = columns_of(result, None)
    names = result["class_names"] if class_names is None else class_names
    return classwise_sheet(
        result.sheet.title.replace("evaluate: ", "").replace(", 95 % interval", ""),
        columns,
        class_names=names_of(names, len(result["class_names"])),
        counts=result["class_counts"],
        totals=totals,
    )


@table.register
def _(result: Compared, *, class_names: Names = None) -> Sheet:
    names = result.class_names if class_names is None else class_names
    classes = next(iter(result.classes.values()))
    columns: Columns = {"class": names_of(names, len(classes))}
    columns["count"] = [one.count for one in classes]
    below: Columns = {"class": ["all"], "count": [next(iter(result.whole.values())).count]}
    for label, whole in result.whole.items():
        columns[label] = [one.difference for one in result.classes[label]]
        columns[f"{label} better"] = [result.better(label, i) for i in range(len(classes))]
        below |= {label: [whole.difference], f"{label} better": [result.better(label)]}
    first, second = result.names
    return Sheet(
        f"{second} less {first}, correctly classified in points; better beyond chance: the first "
        f"or the second\n{described(result.settings)}",
        columns,
        below,
    )


def _of_flags(
    title: str, flags: Mapping[str, np.ndarray], labels: np.ndarray, names: Sequence[str]
) -> Sheet:
    """Returns the table of shares of images, class by class."""
    num_classes = len(names)
    counts = _counts(labels, num_classes)
    return classwise_sheet(
        f"{title}\n{len(labels):,} images, in per cent",
        {
            name: _counts(labels[flag], num_classes) / np.maximum(counts, 1)
            for name, flag in flags.items()
        },
        class_names=names,
        counts=counts,
        totals={name: float(np.mean(flag)) for name, flag in flags.items()},
    )


# ---------------------------------------------------------------------- columns


@functools.singledispatch
def columns(result: Any) -> Columns:
    """Returns a result's numbers by name: one an example, or a row of its table where it has none.

    Args:
        result: as for `table`, or a table itself.

    Returns:
        Arrays or lists of one length. Predictions are classes, -1 for none, and stand beside what
        the model gives them, "<name>_probability".

    Raises:
        ValueError: for what is no result.
    """
    return dict((result if isinstance(result, Sheet) else table(result)).columns)


@columns.register
def _(result: SuiteResult) -> Columns:
    found: Columns = {"label": result.labels}
    found |= {"clean": result.clean, "clean_probability": result.clean_probability}
    for label, outcome in result.outcomes.items():
        found |= {label: outcome.predictions, f"{label}_probability": outcome.probability}
        if not outcome.counted.all():
            found[f"{label}_counted"] = outcome.counted
    return {**found, "worst": result.worst}


@columns.register
def _(result: AutoAttackResult) -> Columns:
    found: Columns = {"label": result.labels, "clean": result.clean_predictions}
    found |= {"clean_probability": result.clean_probability, "attacked": result.predictions}
    return {**found, "attacked_probability": result.probability, "robust": result.robust}


@columns.register
def _(result: CorruptionResult) -> Columns:
    found: Columns = {"label": result.labels, "clean": result.clean}
    found["clean_probability"] = result.clean_probability
    for name, levels in result.severities.items():
        for level, row, share in zip(
            levels, result.predictions[name], result.probability[name], strict=True
        ):
            found |= {f"{name}-{level}": row, f"{name}-{level}_probability": share}
    return found


@columns.register
def _(result: rpr.Scores | rpr.Repeated) -> Columns:
    return {
        "label": result.labels,
        "clean_correct": result.clean_correct,
        "first_failure": _first(result),
        "robust": _first(result) > result.max_steps,
        "no_class": result.no_class,
        **{name: getattr(result, name) for name in ("failures", "draws") if hasattr(result, name)},
    }


@columns.register
def _(result: Compared) -> Columns:
    return result.rows()


@columns.register
def _(result: UniversalEvaluation) -> Columns:
    found: Columns = {"clean": result.clean_predictions, "attacked": result.predictions}
    return {**found, "attacked_probability": result.probability}


def setting(result: Any) -> str:
    """Returns what a result was measured under, as its table's heading says it; "" of nothing.

    Args:
        result: as for `table`.
    """
    if settings := getattr(result, "settings", None):
        return described(settings)
    if isinstance(result, rpr.Scores | rpr.Repeated):
        return f"RPR: {draws_of(result)}"
    return str(getattr(result, "setting", ""))


def to_pandas(result: Any) -> Any:
    """Returns `columns` as a `pandas.DataFrame`.

    Args:
        result: as for `columns`.

    Raises:
        ValueError: if pandas is not installed, or for what is no result.
    """
    found = columns(result)
    try:
        pandas: Any = importlib.import_module("pandas")
    except ImportError:
        raise ValueError('to_pandas needs pandas: pip install "rbjax[pandas]"') from None
    return pandas.DataFrame(found)


# ---------------------------------------------------------------------- pictures


def plot(result: Any, where: Any, *, class_names: Names = None) -> None:
    """Draws a result.

    Args:
        result: as for `table`.
        where: the path of a picture, `.png`, `.pdf` or `.svg`; or matplotlib's `Axes` to draw into.
        class_names: K names; None: the numbers, or what the result knows.

    Raises:
        ValueError: for what is no result, another number of names, or another suffix.
    """
    from rbjax.analysis import pictures  # matplotlib takes a second to import

    sheet, names = table(result, class_names=class_names), []
    if isinstance(result, CorruptionResult):
        names = names_of(class_names, result.num_classes)
    is_path = isinstance(where, str | os.PathLike)
    (pictures.write if is_path else pictures.draw)(result, where, sheet, names)


def _counts(labels: np.ndarray, num_classes: int) -> np.ndarray:
    return np.bincount(labels, minlength=num_classes)


def _first(result: rpr.Scores | rpr.Repeated) -> np.ndarray:
    """Returns each image's first failing draw, (N,), of the first repetition."""
    return np.reshape(result.first_failure, (len(result.labels), -1))[:, 0]
