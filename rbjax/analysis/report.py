"""A run directory's report: its table for the terminal, its CSV, its plots."""

from __future__ import annotations

import json
import os
import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from rbjax.analysis import tables
from rbjax.metrics import wilson_interval
from rbjax.training.writers import read_metrics

EVALUATION, EVALUATED_EXAMPLES, SCORES = "report.json", "report.npz", "rpr.json"
CSV_FILE = "classwise.csv"


def report(workdir: str | os.PathLike[str]) -> str:
    """Returns a run's table per class, and writes it as CSV and its plots as PNG.

    Reads those that exist of report.json and report.npz (an evaluation), rpr.json (a scoring) and
    metrics.jsonl (a training); writes classwise.csv, classwise.png, survival.png, training.png,
    overview.png, corruptions.png and perturbations.png, each if there are data for it.

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
        names = either["class_names"]
        counts = np.asarray(
            evaluation["class_counts"] if evaluation else either["all"]["class_counts"]
        )
        csv_columns = dict(columns)  # and the edges of each class's 95 % interval
        for label, result in _results(evaluation):
            correct, count = (result["classwise"][field] for field in ("correct", "count"))
            edges = zip(("low", "high"), wilson_interval(correct, count), strict=True)
            for side, edge in edges:
                csv_columns[f"{label} {side}"] = np.where(np.asarray(count) > 0, edge, np.nan)
        tables.write_csv(folder / CSV_FILE, csv_columns, class_names=names, counts=counts)
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
        lines += _accuracies(evaluation)
        if corruptions := _corrupted(evaluation):
            text = tables.describe_corruptions(corruptions)
            lines += textwrap.wrap(text, 100, subsequent_indent="  ")
        written.insert(0, CSV_FILE)
    return "\n".join([*lines, f"written: {', '.join(written)}"])


def _read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _columns(
    evaluation: dict[str, Any] | None, scores: dict[str, Any] | None
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Returns each column of the table (K,), and its ratio among all examples where it has one."""
    columns: dict[str, np.ndarray] = {}
    totals: dict[str, float] = {}
    for label, result in _results(evaluation):
        columns[label] = _recall(result)
        totals[label] = result["summary"]["accuracy"]
        if label == "clean":
            for heading in ("precision", "f1"):
                columns[heading] = np.asarray(result["classwise"][heading], np.float64)
            totals["f1"] = result["summary"]["weighted_f1"]
    if corruptions := _corrupted(evaluation):
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


def _results(evaluation: dict[str, Any] | None) -> list[tuple[str, dict[str, Any]]]:
    """Returns each attack's label and result in the config's order, then the worst of several."""
    if evaluation is None:
        return []
    # JSON sorts the keys of results.
    results = [(label, evaluation["results"][label]) for label in evaluation["order"]]
    several, worst = len(results) > 2, evaluation.get("worst")
    return [*results, ("worst", worst)] if several and worst is not None else results


def _recall(result: dict[str, Any]) -> np.ndarray:
    """Returns the accuracy of each class (K,); NaN for a class without examples that count."""
    recall = np.asarray(result["classwise"]["recall"], np.float64)
    return np.where(np.asarray(result["classwise"]["count"]) > 0, recall, np.nan)


def _corrupted(evaluation: dict[str, Any] | None) -> dict[str, Any] | None:
    """Returns the results under corruptions, if the evaluation has any."""
    return evaluation.get("corruptions") if evaluation else None


def _accuracies(evaluation: dict[str, Any] | None) -> list[str]:
    """Returns the lines that say each attack's accuracy with its interval."""
    if evaluation is None:
        return []
    num_examples, parts = sum(evaluation["class_counts"]), []
    for label, result in _results(evaluation):
        correct, count = (sum(result["classwise"][name]) for name in ("correct", "count"))
        low, high = (100 * float(edge) for edge in wilson_interval(correct, count))
        of = "" if count == num_examples else f" of {count:,}"
        parts.append(f"{label} {100 * correct / count:.1f}{of} ({low:.1f} to {high:.1f})")
    # A line may break between two attacks only.
    text = ", ".join(part.replace(" ", "\xa0") for part in parts)
    lines = textwrap.wrap(f"accuracy (95 % interval): {text}", 100, subsequent_indent="  ")
    return [line.replace("\xa0", " ") for line in lines]


def _plot(
    folder: Path,
    evaluation: dict[str, Any] | None,
    scores: dict[str, Any] | None,
    records: list[dict[str, Any]],
) -> list[str]:
    """Writes the plots for which there are data and returns their names."""
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
        written += _plot_evaluation(folder, evaluation, survival)
    return written


def _plot_evaluation(
    folder: Path, evaluation: dict[str, Any], survival: dict[str, Any]
) -> list[str]:
    """Writes the plots of an evaluation and returns their names."""
    from rbjax.analysis import plots
    from rbjax.analysis.perturbations import plot_perturbations

    bars: dict[str, Any] = {
        "columns": {label: _recall(result) for label, result in _results(evaluation)},
        "class_names": evaluation["class_names"],
        "counts": np.asarray(evaluation["class_counts"]),
    }
    plots.plot_classwise(folder / "classwise.png", **bars)
    examples: dict[str, np.ndarray] = {}
    if (folder / EVALUATED_EXAMPLES).exists():
        with np.load(folder / EVALUATED_EXAMPLES) as file:
            examples = dict(file)
    deltas = {k: v for k, v in examples.items() if k.endswith("/perturbation")}
    # Those of one class each are in a picture of their own.
    first = next((delta for delta in deltas.values() if delta.ndim == 3), None)
    plots.plot_overview(folder / "overview.png", **bars, **survival, perturbation=first)
    written = ["classwise.png", "overview.png"]
    if corruptions := _corrupted(evaluation):
        names = evaluation["class_names"]
        plots.plot_corruptions(folder / "corruptions.png", corruptions, class_names=names)
        written.append("corruptions.png")
    if deltas and "shown/images" in examples:
        plot_perturbations(
            folder / "perturbations.png",
            {name.removesuffix("/perturbation"): delta for name, delta in deltas.items()},
            images=examples["shown/images"],
            labels=examples["shown/labels"],
            class_names=evaluation["class_names"],
        )
        written.append("perturbations.png")
    return written
