"""A run directory's report: its table for the terminal, its CSV, its plots."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from rbjax.analysis import tables
from rbjax.training.writers import read_metrics

EVALUATION, EVALUATED_EXAMPLES, SCORES = "report.json", "report.npz", "rpr.json"
CSV_FILE = "classwise.csv"


def report(workdir: str | os.PathLike[str]) -> str:
    """Returns a run's table per class, and writes it as CSV and its plots as PNG.

    Reads what there is of report.json and report.npz (an evaluation), rpr.json (a scoring) and
    metrics.jsonl (a training); writes classwise.csv, classwise.png, survival.png, training.png and
    overview.png, each where there is something to show.

    Args:
        workdir: the run directory.

    Returns:
        The table in per cent, one row per class, and the names of the files that were written.

    Raises:
        ValueError: if the directory holds neither an evaluation nor a scoring nor a training.
    """
    folder = Path(workdir)
    evaluation, scores = _read(folder / EVALUATION), _read(folder / SCORES)
    records = read_metrics(folder)
    if not (evaluation or scores or records):
        raise ValueError(f"{folder} holds no {EVALUATION}, {SCORES} or metrics.jsonl to report")
    written = _plot(folder, evaluation, scores, records)
    lines = []
    if evaluation or scores:
        columns, totals = _columns(evaluation, scores)
        either: dict[str, Any] = evaluation or scores or {}
        names, counts = either["class_names"], _counts(evaluation, scores)
        tables.write_csv(folder / CSV_FILE, columns, class_names=names, counts=counts)
        lines.append(f"{either['dataset']} {either['split']}, per cent:")
        lines.append(
            tables.format_classwise(
                columns,
                class_names=names,
                counts=counts,
                totals=totals,
                train_counts=evaluation["train_class_counts"] if evaluation else None,
            )
        )
        written.insert(0, CSV_FILE)
    return "\n".join([*lines, f"written: {', '.join(written)}"])


def _read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _counts(evaluation: dict[str, Any] | None, scores: dict[str, Any] | None) -> np.ndarray:
    """Returns the examples of each class (K,), of the evaluation where there is one."""
    if evaluation:
        return np.asarray(evaluation["class_counts"])
    return np.asarray(scores["all"]["class_counts"] if scores else [])


def _columns(
    evaluation: dict[str, Any] | None, scores: dict[str, Any] | None
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Returns each column of the table (K,), and its ratio among all examples where it has one."""
    columns: dict[str, np.ndarray] = {}
    totals: dict[str, float] = {}
    for label, result in _results(evaluation):
        columns[label] = np.asarray(result["classwise"]["recall"], np.float64)
        totals[label] = result["summary"]["accuracy"]
        if label == "clean":
            for heading in ("precision", "f1"):
                columns[heading] = np.asarray(result["classwise"][heading], np.float64)
            totals["f1"] = result["summary"]["weighted_f1"]
    if scores:
        same = evaluation is None or evaluation["split"] == scores["split"]
        of = "" if same else f" {scores['split']}"
        for heading, part in ((f"RPR{of}", "all"), (f"RPR{of} of right", "classified_right")):
            counts = np.asarray(scores[part]["class_counts"])
            robust = np.asarray(scores[part]["class_robust"])
            columns[heading] = np.where(counts > 0, robust / np.maximum(counts, 1), np.nan)
            totals[heading] = robust.sum() / max(counts.sum(), 1)
    return columns, totals


def _results(evaluation: dict[str, Any] | None) -> list[tuple[str, dict[str, Any]]]:
    """Returns each attack's label and result in the config's order; JSON sorts its keys."""
    if evaluation is None:
        return []
    return [(label, evaluation["results"][label]) for label in evaluation["order"]]


def _plot(
    folder: Path,
    evaluation: dict[str, Any] | None,
    scores: dict[str, Any] | None,
    records: list[dict[str, Any]],
) -> list[str]:
    """Writes the plots there is something for and returns their names."""
    from rbjax.analysis import plots  # matplotlib takes a second to import

    written = []
    survival: dict[str, Any] = {}
    if records:
        plots.plot_training(folder / "training.png", records)
        written.append("training.png")
    if scores:
        curve, classes = scores["all"]["survival"], scores["all"]["class_survival"]
        curve, classes = np.asarray(curve, np.float64), np.asarray(classes, np.float64)
        survival = {"survival": curve, "class_survival": classes}
        names = scores["class_names"]
        bands: dict[str, Any] = {
            "band": np.asarray(scores["all"]["survival_band"], np.float64),
            "class_band": np.asarray(scores["all"]["class_survival_band"], np.float64),
        }
        plots.plot_survival(folder / "survival.png", curve, classes, class_names=names, **bands)
        written.append("survival.png")
    if evaluation:
        bars: dict[str, Any] = {
            "columns": {
                label: np.asarray(result["classwise"]["recall"], np.float64)
                for label, result in _results(evaluation)
            },
            "class_names": evaluation["class_names"],
            "counts": np.asarray(evaluation["class_counts"]),
        }
        plots.plot_classwise(folder / "classwise.png", **bars)
        delta = _perturbation(folder / EVALUATED_EXAMPLES)
        plots.plot_overview(folder / "overview.png", **bars, **survival, perturbation=delta)
        written += ["classwise.png", "overview.png"]
    return written


def _perturbation(path: Path) -> np.ndarray | None:
    """Returns the first universal perturbation (H, W, C) of an evaluation, if it has one."""
    if not path.exists():
        return None
    with np.load(path) as examples:
        found = [name for name in examples.files if name.endswith("/perturbation")]
        return examples[found[0]] if found else None
