"""The files of an evaluation: report.json, and report.npz with what is large.

A confusion matrix of K classes has K^2 counts, and an evaluation has one for each attack and one
for each corruption and severity. These stand in the .npz, beside the predictions of each example.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rbjax import atomic, metrics
from rbjax.attacks.outcome import Setting, SuiteResult, described, setting_of
from rbjax.classifier import changed
from rbjax.paths import expanded
from rbjax.sheet import Sheet

REPORT_FILE = "report.json"
EXAMPLES_FILE = "report.npz"
_CONFUSION = "confusion"


class Report(dict[str, Any]):
    """What `evaluate` returns, and `read_report` reads; `print` it for a table."""

    @property
    def settings(self) -> dict[str, Setting]:
        """Norm, epsilon and steps of each attack."""
        specs = {label: self["results"][label].get("attack") or {} for label in self["order"]}
        return {label: setting_of(Spec(spec)) for label, spec in specs.items() if label != "clean"}

    @property
    def sheet(self) -> Sheet:
        """An attack a row: what is correctly classified, with its interval, and what is fooled."""
        names, rows = self["class_names"], []
        for label, part in results_of(self):
            count, recall = (np.asarray(part["classwise"][name]) for name in ("count", "recall"))
            lowest = int(np.argmin(np.where(count > 0, recall, np.inf)))
            low, high = part["interval"]["accuracy"]
            value, fooled = part["summary"]["accuracy"], part.get("attack_success_rate")
            fooled = None if label == "clean" else fooled
            shown = (label, int(count.sum()), value, low, high, fooled, str(names[lowest]))
            rows.append((*shown, float(recall[lowest])))
        headings = ("attack", "images", "correct", "low", "high", "fooled", "worst class")
        return Sheet(
            f"evaluate: {tested_on(self['dataset'], self['split'])}, step {self['step']}, "
            f"correctly classified in per cent, 95 % interval\n{described(self.settings)}",
            dict(zip((*headings, "its correct"), zip(*rows, strict=True), strict=True)),
        )

    def __repr__(self) -> str:
        return repr(self.sheet) if "results" in self else super().__repr__()


def tested_on(dataset: str, split: str) -> str:
    """Returns what stands in headings: "digits test"; another test set's split names it alone."""
    return split if " " in split else f"{dataset} {split}"


def results_of(evaluation: Mapping[str, Any] | None) -> list[tuple[str, dict[str, Any]]]:
    """Returns each attack's label and result in the config's order, then the worst of several."""
    if evaluation is None:
        return []
    # JSON sorts the keys of results.
    results = [(label, evaluation["results"][label]) for label in evaluation["order"]]
    several, worst = len(results) > 2, evaluation.get("worst")
    return [*results, ("worst", worst)] if several and worst else results


def recall_of(result: Mapping[str, Any]) -> np.ndarray:
    """Returns the accuracy of each class (K,); NaN for a class without examples that count."""
    recall = np.asarray(result["classwise"]["recall"], np.float64)
    return np.where(np.asarray(result["classwise"]["count"]) > 0, recall, np.nan)


class Spec(NamedTuple):
    """An attack as its config has it."""

    options: Mapping[str, Any]


def write_report(
    workdir: str | os.PathLike[str], report: Mapping[str, Any], arrays: Mapping[str, Any]
) -> None:
    """Writes both files; who reads the first knows whether the second is of the same evaluation.

    Args:
        workdir: the run directory.
        report: of an evaluation, with its matrices.
        arrays: of each example, by name.
    """
    folder, matrices = Path(workdir), {}
    for name, holder, key in _places(report):
        matrices[f"{name}/{_CONFUSION}"] = np.asarray(holder[key], np.int32)
    atomic.write_npz(folder / EXAMPLES_FILE, **arrays, **matrices)
    without: dict[str, Any] = {
        **report,
        "results": {k: _without(v, _CONFUSION) for k, v in report["results"].items()},
        "arrays": {"file": EXAMPLES_FILE, "sha256": _digest(folder / EXAMPLES_FILE)},
    }
    if report.get("corruptions"):
        without["corruptions"] = _without(report["corruptions"], _CONFUSION)
    atomic.write_json(folder / REPORT_FILE, without)


def read_report(workdir: str | os.PathLike[str]) -> Report:
    """Reads a run's evaluation.

    Args:
        workdir: the run directory.

    Returns:
        report.json, with the confusion matrices: report["results"][label]["confusion"], (K, K)
        int64, row = true class, column = predicted class; and, of an evaluation under corruptions,
        report["corruptions"]["confusion"][name], (S, K, K), one a severity. Reports of earlier
        versions, which have them in the JSON, are read likewise.

    Raises:
        ValueError: if there is no evaluation, or its files are damaged or not of one evaluation.
    """
    folder = expanded(workdir, field="workdir")
    report = read_json(folder / REPORT_FILE)
    if report is None:
        raise ValueError(f"workdir = {str(workdir)!r}: holds no {REPORT_FILE}; evaluate it first")
    try:
        return Report(with_matrices(folder, report))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{folder / REPORT_FILE}: is damaged, or of another version of rbjax "
            f"({type(error).__name__}: {error}); evaluate again"
        ) from error


def with_matrices(folder: Path, report: dict[str, Any]) -> dict[str, Any]:
    """Returns a report with its confusion matrices, which is changed; see `read_report`."""
    if "arrays" not in report:
        for _, holder, key in _places(report):
            holder[key] = np.asarray(holder[key], np.int64)
        return report
    with read_arrays(folder, report) as arrays:
        for label, result in report["results"].items():
            result[_CONFUSION] = arrays[f"{label}/{_CONFUSION}"].astype(np.int64)
        if corruptions := report.get("corruptions"):
            corruptions[_CONFUSION] = {
                name: arrays[f"corruptions/{name}/{_CONFUSION}"].astype(np.int64)
                for name in corruptions["order"]
            }
    return report


def read_json(path: Path) -> dict[str, Any] | None:
    """Returns what a file of results holds; None where there is none.

    Raises:
        ValueError: if it is damaged.
    """
    if not path.exists():
        return None
    try:
        values = atomic.read_json(path)
    except ValueError as error:
        raise ValueError(f"{error}; evaluate or score again") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: is damaged; evaluate or score again")
    return values


def read_arrays(folder: Path, report: Mapping[str, Any]) -> Any:
    """Opens the arrays of an evaluation, each read when it is asked for.

    Raises:
        ValueError: if they are missing, damaged, or of another evaluation than the report.
    """
    path, about = folder / EXAMPLES_FILE, report.get("arrays")
    if not path.exists():
        raise ValueError(f"{path}: is missing; evaluate again")
    if about is not None and about["sha256"] != _digest(path):
        raise ValueError(
            f"{path}: is damaged, or not of the evaluation that {REPORT_FILE} is of; evaluate again"
        )
    try:
        return np.load(path)
    except atomic.DAMAGED as error:
        raise ValueError(f"{path}: is damaged ({error}); evaluate again") from None


def _places(report: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yields the name of each matrix, what holds it, and under which key."""
    for label, result in report["results"].items():
        if _CONFUSION in result:
            yield label, result, _CONFUSION
    matrices = (report.get("corruptions") or {}).get(_CONFUSION, {})
    for name in matrices:
        yield f"corruptions/{name}", matrices, name


def _without(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != key}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def summarize(results: SuiteResult, settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Returns what a report says of a suite of attacks.

    Args:
        results: of `run_attacks`.
        settings: of each attack, by its label: its name, epsilon, norm, steps.

    Returns:
        "results", by label, "clean" among them: settings, confusion matrix, metrics and 95 %
        intervals; "order", the labels; "worst", what is correctly classified clean and under every
        attack.
    """
    specs: dict[str, Mapping[str, Any]] = {"clean": {}, **settings}
    return {
        "results": {label: _result(spec, label, results) for label, spec in specs.items()},
        "order": ["clean", *results.outcomes],
        "worst": _worst(results),
    }


def _result(spec: Mapping[str, Any], label: str, results: SuiteResult) -> dict[str, Any]:
    """Returns one attack's counts and the metrics that follow from them."""
    clean, outcome = results.clean, results.outcomes.get(label)
    counted = np.ones_like(results.clean_correct) if outcome is None else outcome.counted
    predictions = (clean if outcome is None else outcome.predictions)[counted]
    matrix = metrics.confusion_matrix(results.labels[counted], predictions, results.num_classes)
    result = {
        "attack": dict(spec),
        "confusion": np.asarray(matrix),
        "summary": metrics.summarize(matrix),
        "classwise": metrics.from_confusion(np.asarray(matrix))._asdict(),
        "interval": _intervals(results, label),
        "fooling_rate": float(np.mean(changed(predictions, clean[counted]))),
        "attack_success_rate": 0.0,
    }
    if outcome is not None:
        success = results.attack_success_rate(label)
        result["attack_success_rate"] = success.value if success.count else None
        result["interval"]["attack_success_rate"] = [success.low, success.high]
        result["class_success_rate"] = results.class_success_rate(label).value
        result["seconds"], result["details"] = outcome.seconds, outcome.details
        result["passes"] = None if outcome.passes is None else outcome.passes._asdict()
    return result


def _worst(results: SuiteResult) -> dict[str, Any]:
    """Returns what is correctly classified clean and under every attack."""
    total, classes = results.accuracy(), results.class_accuracy()
    recall = classes.value[classes.count > 0]
    return {
        "attacks": list(results.outcomes),
        "summary": {
            "accuracy": total.value,
            "balanced_accuracy": float(recall.mean()),
            "worst_class_accuracy": float(recall.min()),
            "class_spread": float(np.ptp(recall)),
            "class_std": float(recall.std()),
            "num_examples": float(total.count),
        },
        "classwise": {
            "count": classes.count,
            "correct": np.bincount(results.labels[results.worst], minlength=results.num_classes),
            "recall": np.where(classes.count > 0, classes.value, 0.0),
        },
        "interval": _intervals(results, "worst"),
    }


def _intervals(results: SuiteResult, label: str) -> dict[str, Any]:
    """Returns the 95 % intervals of accuracy and of each class's, low and high."""
    total, classes = results.accuracy(label), results.class_accuracy(label)
    return {"accuracy": [total.low, total.high], "recall": [classes.low, classes.high]}
