"""Tables with one row per class: text for the terminal, CSV for other programs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rbjax import atomic
from rbjax.analysis.evaluation import recall_of, results_of
from rbjax.sheet import Sheet, per_cent

MANY = 100
"""Of more classes than this a table shows the outermost alone."""
_OUTERMOST = 15
"""At either end."""


def format_classwise(
    columns: Mapping[str, ArrayLike],
    *,
    class_names: Sequence[str],
    counts: ArrayLike,
    totals: Mapping[str, float] | None = None,
    train_counts: ArrayLike | None = None,
    shown: Sequence[int] | None = None,
) -> str:
    """Returns the table of `classwise_sheet` without its title, a row a class, in per cent.

    Args:
        columns: heading -> (K,) ratios.
        class_names: K names.
        counts: (K,) examples of each class.
        totals: heading -> ratio among all examples.
        train_counts: (K,) examples of each class that the model was trained on.
        shown: the classes that have a row.

    Returns:
        Lines without a last newline.

    Raises:
        ValueError: if a column does not have one value per class.

    Example:
        >>> table = rbjax.analysis.format_classwise(
        ...     {"clean": [0.5, 1.0]}, class_names=["cat", "dog"], counts=[2, 2]
        ... )
        >>> print(table)
        class        count  clean
        -----------  -----  -----
        cat              2   50.0
        dog              2  100.0
        -----------  -----  -----
        mean                 75.0
        worst class          50.0
        spread               50.0
    """
    return repr(
        classwise_sheet(
            "",
            columns,
            class_names=class_names,
            counts=counts,
            totals=totals,
            train_counts=train_counts,
            shown=shown,
        )
    )


def classwise_sheet(
    title: str,
    columns: Mapping[str, ArrayLike],
    *,
    class_names: Sequence[str],
    counts: ArrayLike,
    totals: Mapping[str, float] | None = None,
    train_counts: ArrayLike | None = None,
    shown: Sequence[int] | None = None,
) -> Sheet:
    """Returns a table of ratios, one row per class.

    Args:
        title: what stands above.
        columns: heading -> (K,) ratios in [0, 1], such as clean recall, precision, F1, recall under
            each attack, robust ratio; NaN is shown as "-".
        class_names: K names.
        counts: (K,) examples of each class; a class without any has "-" in every column.
        totals: heading -> ratio among all examples, in a row of their own; None leaves it out.
        train_counts: (K,) examples of each class that the model was trained on; None leaves the
            column out.
        shown: the classes that have a row, in that order; None: all. The rows below are of all.

    Returns:
        A row per class; below the rule a row "all" of the totals, and the rows "mean",
        "worst class" (the lowest) and "spread" (the highest less the lowest) over the classes that
        have a value.

    Raises:
        ValueError: if a column does not have one value per class.
    """
    counts, values = _checked(columns, class_names, counts)
    present_in = {name: np.where(counts > 0, column, np.nan) for name, column in values.items()}
    sizes = {} if train_counts is None else {"train": np.asarray(train_counts)}
    sizes["count"] = counts
    rows = list(range(len(class_names)) if shown is None else shown)
    above: dict[str, Sequence[Any]] = {"class": [str(class_names[i]) for i in rows]}
    above |= {name: size[rows].tolist() for name, size in sizes.items()}
    above |= {name: column[rows].tolist() for name, column in present_in.items()}
    summary = {"mean": np.mean, "worst class": np.min, "spread": np.ptp}
    below: dict[str, list[Any]] = {"class": [*(["all"] if totals is not None else []), *summary]}
    blank = [""] * len(summary)
    if totals is not None:
        below |= {name: [int(size.sum()), *blank] for name, size in sizes.items()}
    for name, column in present_in.items():
        present = column[~np.isnan(column)]
        over = [float(f(present)) if present.size else np.nan for f in summary.values()]
        below[name] = over if totals is None else [totals.get(name, ""), *over]
    return Sheet(title, above, below)


def columns_of(
    evaluation: Mapping[str, Any] | None, scores: Mapping[str, Any] | None
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Returns each column of the table (K,), and its ratio among all examples where it has one."""
    columns: dict[str, np.ndarray] = {}
    totals: dict[str, float] = {}
    for label, result in results_of(evaluation):
        columns[label] = recall_of(result)
        totals[label] = result["summary"]["accuracy"]
        if label == "clean":
            for heading in ("precision", "f1"):
                columns[heading] = np.asarray(result["classwise"][heading], np.float64)
            totals["f1"] = result["summary"]["weighted_f1"]
    if corruptions := (evaluation or {}).get("corruptions"):
        columns["corrupted"] = 1 - np.asarray(corruptions["class_mean_error"], np.float64)
        totals["corrupted"] = 1 - corruptions["mean_error"]
    if scores:
        same = evaluation is None or evaluation["split"] == scores["split"]
        of = "" if same else f" {scores['split']}"
        for heading, part in ((f"RPR{of}", "all"), (f"RPR{of} of right", "classified_right")):
            counts = np.asarray(scores[part]["class_counts"])
            robust = np.asarray(scores[part]["class_robust"])
            columns[heading] = np.where(counts > 0, robust / np.maximum(counts, 1), np.nan)
            totals[heading] = robust.sum() / max(counts.sum(), 1)
    return columns, totals


def outermost(column: ArrayLike, counts: ArrayLike) -> tuple[list[int] | None, str]:
    """Returns which of many classes a table shows: those at either end of its first column.

    Args:
        column: (K,) ratios.
        counts: (K,) examples of each class.

    Returns:
        Of up to 100 classes None, all.  Of more those that have examples; of more than 100 of these
        the 15 highest, then the 15 lowest, falling.  And what is said of the others, "" if there
        are none.
    """
    values, number = np.asarray(column, np.float64), np.asarray(counts)
    if len(values) <= MANY:
        return None, ""
    present = np.flatnonzero(number > 0)
    lacking = len(values) - len(present)
    left_out = [f"{lacking:,} classes without images"] if lacking else []
    if len(present) > MANY:
        ranked = present[np.argsort(-np.nan_to_num(values[present]), kind="stable")]
        left_out.insert(0, f"{len(present) - 2 * _OUTERMOST:,} classes between these")
        present = np.concatenate([ranked[:_OUTERMOST], ranked[-_OUTERMOST:]])
    return present.tolist(), f"not shown: {' and '.join(left_out)}" if left_out else ""


def write_csv(
    path: str | os.PathLike[str],
    columns: Mapping[str, ArrayLike],
    *,
    class_names: Sequence[str],
    counts: ArrayLike,
    setting: str = "",
) -> None:
    """Writes the ratios of `format_classwise` as CSV, as fractions with all their digits.

    Args:
        path: the file; it is replaced as a whole or not at all.
        columns: heading -> (K,) ratios; NaN becomes an empty field.
        class_names: K names.
        counts: (K,) examples of each class.
        setting: what they were measured under, a last column that says it in each row; "": none.

    Raises:
        ValueError: if a column does not have one value per class.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "classes.csv"
        >>> some = {"class_names": ["cat", "dog"], "counts": [2, 2]}
        >>> rbjax.analysis.write_csv(path, {"clean": [0.5, 1.0]}, **some)
        >>> print(path.read_text().strip())
        class,name,count,clean
        0,cat,2,0.5
        1,dog,2,1.0
    """
    counts, values = _checked(columns, class_names, counts)
    sizes = [("class", range(len(class_names))), ("name", class_names), ("count", counts)]
    last = [("setting", [setting] * len(class_names))] if setting else []
    atomic.write_csv(path, [*sizes, *values.items(), *last])


def describe_corruptions(corruptions: Mapping[str, Any]) -> str:
    """Returns the accuracies under corruptions as one paragraph.

    Args:
        corruptions: the report's "corruptions".

    Returns:
        Text without a last newline.
    """
    errors = corruptions["mean_errors"]
    worst = max(errors, key=errors.get)
    text = (
        f"{len(errors)} corruptions ({corruptions['profile']}, {corruptions['source']}): mean "
        f"accuracy {per_cent(1 - corruptions['mean_error'])}, lowest "
        f"{per_cent(1 - errors[worst])} under {worst}"
    )
    if corruptions["baseline"] is None:
        return text
    text += f"; mCE {100 * corruptions['mce']:.1f}"
    if corruptions["relative_mce"] is not None:
        return f"{text}, relative mCE {100 * corruptions['relative_mce']:.1f}"
    clean, others = corruptions["baseline"]["clean_error"], corruptions["baseline"]["errors"]
    if clean is None:
        return f"{text}; no relative mCE, as the baseline's clean error is not known"
    harmless = [name for name in errors if others[name] <= clean]
    return f"{text}; no relative mCE, as the baseline is no worse under {', '.join(harmless)}"


def _checked(
    columns: Mapping[str, ArrayLike], class_names: Sequence[str], counts: ArrayLike
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Returns counts (K,) as int64 and columns (K,) as float64."""
    num_classes = len(class_names)
    values = {name: np.asarray(column, np.float64) for name, column in columns.items()}
    number = np.asarray(counts).astype(np.int64)
    for name, column in {"counts": number, **values}.items():
        if column.shape != (num_classes,):
            raise ValueError(
                f"column {name!r} has shape {column.shape}; allowed: ({num_classes},), "
                "one value per class name"
            )
    return number, values
