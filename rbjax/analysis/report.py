"""A run directory's report: its table for the terminal, its CSV, its plots."""

from __future__ import annotations

import copy
import os
import re
import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from rbjax import atomic, compared, console
from rbjax.analysis import run_plots, tables
from rbjax.analysis.content import Content
from rbjax.analysis.document import PAGE_FILE
from rbjax.analysis.evaluation import (
    EXAMPLES_FILE,
    REPORT_FILE,
    Report,
    read_json,
    recall_of,
    results_of,
    tested_on,
    with_matrices,
)
from rbjax.analysis.robustness import DATAPOINTS_FILE, SCORES_FILE
from rbjax.metrics import wilson_interval
from rbjax.paths import expanded
from rbjax.training.log import read_metrics
from rbjax.training.run_directory import is_run

CSV_FILE = "classwise.csv"


def rehearse(class_names: Sequence[str], columns: Sequence[str]) -> None:
    """Writes and draws names as a report will, so that they do not fail after hours of training.

    Args:
        class_names: K names.
        columns: headings of the table.

    Raises:
        ValueError: if they cannot be written. That they cannot be drawn is a warning.
    """
    ratios = dict.fromkeys(columns, np.ones(len(class_names)))
    counts = np.ones(len(class_names))
    with tempfile.TemporaryDirectory() as folder:
        try:
            atomic.write_json(Path(folder) / REPORT_FILE, {"class_names": list(class_names)})
            tables.format_classwise(ratios, class_names=class_names, counts=counts)
            tables.write_csv(
                Path(folder) / CSV_FILE, ratios, class_names=class_names, counts=counts
            )
        except (TypeError, ValueError) as error:
            raise ValueError(f"the names of the classes cannot be reported: {error}") from None

    try:
        from rbjax.analysis import figures  # matplotlib takes a second to import

        # A thousand names take seconds; what a font lacks is letters.
        names = (
            class_names if len(class_names) <= tables.MANY else ["".join({*"".join(class_names)})]
        )
        figures.try_names([*names, *columns])
    except Exception as error:  # whatever matplotlib or a font says
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        logging.warning("there will be no plots of classes: %s", console.printable(reason))


def report(workdir: str | os.PathLike[str]) -> str:
    """Returns a run's table per class, and writes it as CSV and its plots as PNG.

    Reads those that exist of report.json and report.npz (an evaluation), rpr.json and rpr.npz (a
    scoring) and metrics.jsonl (a training); writes report.html, which has all of it, and
    classwise.csv, classwise.png, heat_map.png, epsilons.png, passes.png, survival.png,
    training.png, overview.png, corruptions.png, severities.png and perturbations.png, each if there
    are data for it. A plot that cannot be drawn is left out, with a warning.

    Args:
        workdir: the run directory; or what `rbjax compare` wrote, its JSON or the folder of a
            comparison.json, of which the tables are returned and the page is written.

    Returns:
        The table in per cent, one row per class, and the names of the files that were written.

    Raises:
        ValueError: if the directory holds neither an evaluation nor a scoring nor a training.
    """
    folder = expanded(workdir, field="workdir")
    if (stored := _comparison(folder)) is not None:
        return _report_comparison(stored)
    evaluation, scores = read_json(folder / REPORT_FILE), read_json(folder / SCORES_FILE)
    records = read_metrics(folder)
    if not (evaluation or scores or records):
        _refuse_grid(folder)
        raise ValueError(
            f"{folder} holds no {REPORT_FILE}, {SCORES_FILE} or metrics.jsonl to report"
        )
    for name, content in ((REPORT_FILE, evaluation), (SCORES_FILE, scores)):
        step = content.get("step") if content else None
        if step is not None and not isinstance(step, int):
            raise ValueError(
                f"{folder / name}: is damaged (step is {step!r}); evaluate or score again"
            )
    try:
        evaluation, scores, left_out = _of_one_model(folder, evaluation, scores)
        text = _text(folder, evaluation, scores, records)
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        files = [name for name in (REPORT_FILE, SCORES_FILE) if (folder / name).exists()]
        raise ValueError(
            f"{folder}: {' or '.join(files)} is damaged, or of another version of rbjax "
            f"({type(error).__name__}: {error}); evaluate or score again"
        ) from error
    return "\n".join([text, left_out]) if left_out else text


def _refuse_grid(folder: Path) -> None:
    """Refuses the results of an experiment or a sweep, with what makes their page.

    Raises:
        ValueError: if they are such results.
    """
    if (folder / "sweep.json").is_file():
        raise ValueError(f"{folder} holds a sweep; its command, given again, makes its report.html")
    table = folder / "table.md"
    first = table.read_text("utf-8").partition("\n")[0] if table.is_file() else ""
    if match := re.match(r"`(python -m [^`]+)`", first):
        command = f"{match[1]} --results={folder} --report"
        raise ValueError(f"{folder} holds an experiment's results; {command} makes its report.html")


def _comparison(path: Path) -> Path | None:
    """Returns the JSON of a comparison, None where a path is a run directory or anything else."""
    if path.is_dir():
        held = any((path / name).exists() for name in (REPORT_FILE, SCORES_FILE))
        file = path / "comparison.json"
        return file if file.is_file() and not (held or is_run(path)) else None
    named = path if path.suffix == ".json" else path.with_name(f"{path.name}.json")
    return named if named.is_file() else None


def _report_comparison(stored: Path) -> str:
    """Returns the tables of a comparison, having written its page beside it."""
    from rbjax.analysis import page_of_comparison  # matplotlib takes a second to import

    found, path = compared.read(stored), stored.with_suffix(".html")
    page_of_comparison.write(path, found)
    return f"{found}\n\nwritten: {path}"


def weights_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what says which weights a report is of: the step, and what changes them since.

    Args:
        content: of report.json or rpr.json.
    """
    config = content.get("config") or {}
    groups = {"checkpoint": ("which", "weights"), "model": ("tau_norm", "logit_adjustment")}
    fields = {
        f"{group}.{name}": (config.get(group) or {}).get(name)
        for group, names in groups.items()
        for name in names
    }
    return {"step": content.get("step"), **fields}


def _of_one_model(
    folder: Path, evaluation: dict[str, Any] | None, scores: dict[str, Any] | None
) -> tuple[dict[str, Any] | None, dict[str, Any] | None, str]:
    """Returns both if they are of the same weights, else the newer file alone, and what is said."""
    if not evaluation or not scores:
        return evaluation, scores, ""
    about = {REPORT_FILE: weights_of(evaluation), SCORES_FILE: weights_of(scores)}
    if about[REPORT_FILE] == about[SCORES_FILE]:
        return evaluation, scores, ""
    older, newer = sorted(
        (SCORES_FILE, REPORT_FILE), key=lambda name: (folder / name).stat().st_mtime
    )
    field = next(name for name in about[older] if about[older][name] != about[newer][name])
    theirs, ours = about[older][field], about[newer][field]
    left_out = f"left out: {older} is of {field} {theirs}, {newer} of {field} {ours}"
    return (evaluation, None, left_out) if older == SCORES_FILE else (None, scores, left_out)


def _text(
    folder: Path,
    evaluation: dict[str, Any] | None,
    scores: dict[str, Any] | None,
    records: list[dict[str, Any]],
) -> str:
    """Returns the table, having written it and the plots."""
    content = _content(folder, evaluation, scores, records)
    written = run_plots.plot(folder, content, (evaluation or scores or {}).get("class_names", ()))
    written += _write_page(folder, content)
    lines = []
    if evaluation or scores:
        columns, totals = tables.columns_of(evaluation, scores)
        either: dict[str, Any] = evaluation or scores or {}
        names = either["class_names"]
        counts = np.asarray(
            evaluation["class_counts"] if evaluation else either["all"]["class_counts"]
        )
        csv_columns = dict(columns)  # and the edges of each class's 95 % interval
        for label, result in results_of(evaluation):
            correct, count = (result["classwise"][field] for field in ("correct", "count"))
            edges = zip(("low", "high"), wilson_interval(correct, count), strict=True)
            for side, edge in edges:
                csv_columns[f"{label} {side}"] = np.where(np.asarray(count) > 0, edge, np.nan)
        of_classes: Any = {"class_names": names, "counts": counts}
        under = "; ".join(_settings(evaluation, scores))
        tables.write_csv(folder / CSV_FILE, csv_columns, **of_classes, setting=under)
        lines += _heading(either, evaluation, scores)
        shown, others = tables.outermost(next(iter(columns.values())), counts)
        lines.append(
            tables.format_classwise(
                columns,
                class_names=names,
                counts=counts,
                totals=totals,
                train_counts=evaluation["train_class_counts"] if evaluation else None,
                shown=shown,
            )
        )
        lines += [f"{others}; all are in {CSV_FILE}"] if others else []
        lines += _accuracies(evaluation)
        if corruptions := (evaluation or {}).get("corruptions"):
            text = tables.describe_corruptions(corruptions)
            lines += textwrap.wrap(text, 100, subsequent_indent="  ")
        written.insert(0, CSV_FILE)
    return "\n".join([*lines, f"written: {', '.join(written)}"])


def _heading(
    either: dict[str, Any], evaluation: dict[str, Any] | None, scores: dict[str, Any] | None
) -> list[str]:
    """Returns the lines that say what the table is of: data, attacks and draws."""
    said = [f"{tested_on(either['dataset'], either['split'])}, per cent"]
    return _wrapped([*said, *_settings(evaluation, scores)], ";", end=":")


def _settings(evaluation: dict[str, Any] | None, scores: dict[str, Any] | None) -> list[str]:
    """Returns what each attack may do, and what RPR draws."""
    settings = Report(evaluation).settings if evaluation else {}
    said = [f"{k}: {v}" for k, v in settings.items() if str(v) != "not said"]
    if scores:
        drawn = scores.get("config", {}).get("score", {}).get("perturbation")
        said.append(f"RPR: up to {scores['max_steps']:,} draws{f' of {drawn}' if drawn else ''}")
    return said


def _wrapped(parts: Sequence[str], mark: str, *, start: str = "", end: str = "") -> list[str]:
    """Returns the parts as lines that break between two of them only."""
    text = f"{mark} ".join(part.replace(" ", "\xa0") for part in parts)
    lines = textwrap.wrap(f"{start}{text}{end}", 100, subsequent_indent="  ")
    return [line.replace("\xa0", " ") for line in lines]


def _accuracies(evaluation: dict[str, Any] | None) -> list[str]:
    """Returns the lines that say each attack's accuracy with its interval."""
    if evaluation is None:
        return []
    num_examples, parts = sum(evaluation["class_counts"]), []
    for label, result in results_of(evaluation):
        correct, count = (sum(result["classwise"][name]) for name in ("correct", "count"))
        low, high = (100 * float(edge) for edge in wilson_interval(correct, count))
        of = "" if count == num_examples else f" of {count:,}"
        parts.append(f"{label} {100 * correct / count:.1f}{of} ({low:.1f} to {high:.1f})")
    return _wrapped(parts, ",", start="accuracy (95 % interval): ") + [
        f"{label}: crafted on {said}" for label, said in run_plots.crafted_on(evaluation)
    ]


def _write_page(folder: Path, content: Content) -> list[str]:
    """Writes report.html and returns its name; where that fails, a warning and nothing."""

    def write(path: Path) -> None:
        from rbjax.analysis import page  # matplotlib takes a second to import

        whole = content
        if content.evaluation and (folder / EXAMPLES_FILE).exists():
            matrices = with_matrices(folder, copy.deepcopy(dict(content.evaluation)))
            whole = content._replace(evaluation=matrices)
        page.write(path, whole)

    return [PAGE_FILE] if run_plots.is_drawn(folder / PAGE_FILE, write) else []


def _content(
    folder: Path,
    evaluation: dict[str, Any] | None,
    scores: dict[str, Any] | None,
    records: list[dict[str, Any]],
) -> Content:
    """Returns what the page and the plots show."""
    arrays = run_plots.pictured(folder, evaluation) if evaluation else {}
    deltas = {k: v for k, v in arrays.items() if k.endswith("/perturbation")}
    columns, totals = tables.columns_of(evaluation, scores)
    return Content(
        title=_title(evaluation or scores or {}),
        evaluation=evaluation,
        scores=scores,
        columns=columns,
        totals=totals,
        accuracies={label: recall_of(result) for label, result in results_of(evaluation)},
        records=records,
        perturbations={k.removesuffix("/perturbation"): v for k, v in deltas.items()},
        images=arrays.get("shown/images"),
        labels=arrays.get("shown/labels"),
        datapoints=_datapoints(folder) if scores else {},
    )


def _title(about: Mapping[str, Any]) -> str:
    """Returns what model it is, and on which data."""
    config = about.get("config") or {}
    model, method = ((config.get(group) or {}).get("name") for group in ("model", "method"))
    if not about:
        return "Training"
    how = f", {method} training" if method else ""
    return f"{model or 'A model'} on {about['dataset']}{how}"


def _datapoints(folder: Path) -> dict[str, np.ndarray]:
    """Returns what rpr.npz shows of the least and the most robust datapoints; {} of old ones."""
    arrays = atomic.read_npz(folder / DATAPOINTS_FILE)
    if arrays is None or "shown/images" not in arrays:
        return {}
    rows, names = arrays["shown/rows"], ("labels", "first_failure", "example_ids", "files")
    of_each = {name: arrays[name][rows] for name in names if name in arrays}
    return {"images": arrays["shown/images"], **of_each}
