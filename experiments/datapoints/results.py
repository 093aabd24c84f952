"""Results of the scores: ratios of every reading, differences of models, nearest readings."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from experiments.datapoints.plan import PAPER, cuts
from experiments.datapoints.readings import READINGS, nearest
from experiments.datapoints.stages import KINDS, Lab, Model, Scored, classified, scores, subset
from rbjax import data
from rbjax.rpr.comparison import Comparison, compare, compare_classes


class Statistic(NamedTuple):
    """A number over the seeds."""

    mean: float
    std: float | None
    """Standard deviation of a sample, over n - 1; None of one seed."""
    seeds: list[float]


def statistic(values: list[float]) -> dict[str, Any]:
    """Returns mean and standard deviation of the seeds' values, and the values."""
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Statistic(float(np.mean(values)), std, [float(value) for value in values])._asdict()


def scan(lab: Lab) -> dict[str, float]:
    """Returns the test ratio of every reading under the first seed's M."""
    return {name: ratio(scores(lab, Model(0), name, "test")) for name in READINGS}


def followed(lab: Lab) -> list[str]:
    """Returns the readings that all seeds and both splits are scored with, the nearest first."""
    return nearest(scan(lab), PAPER.test_ratio)[: lab.plan.readings]


def ratio(scored: Scored, *, right_only: bool = False) -> float:
    """Returns the share of robust images, of all or of those correctly classified."""
    robust = scored.robust[scored.clean_correct] if right_only else scored.robust
    return float(np.mean(robust)) if robust.size else float("nan")


def summarize(lab: Lab) -> dict[str, Any]:
    """Returns the data of table, paragraph and table.json."""
    near = followed(lab)
    rows = [_row(lab, name, name in near) for name in READINGS]
    num_classes = data.info(lab.plan.dataset).num_classes
    return {
        "plan": dataclasses.asdict(lab.plan),
        "cuts": cuts(lab.plan),
        "paper": PAPER._asdict(),
        "readings": rows,
        "followed": near,
        "nearest_to_test": nearest(_means(rows, "test"), PAPER.test_ratio),
        "nearest_to_train": nearest(_means(rows, "train"), PAPER.train_ratio),
        "differences": [entry for name in near for entry in _differences(lab, name, num_classes)],
        "subsets": [_subset(lab, seed, name) for name in near for seed in _seeds(lab, True)],
    }


def _seeds(lab: Lab, is_followed: bool) -> range:
    return range(lab.plan.num_seeds if is_followed else 1)


def _means(rows: list[dict[str, Any]], split: str) -> dict[str, float]:
    return {row["name"]: row[split]["mean"] for row in rows if row[split] is not None}


def _row(lab: Lab, name: str, is_followed: bool) -> dict[str, Any]:
    """Returns one reading: ratios of M on both splits, then of the models trained on subsets."""
    seeds = _seeds(lab, is_followed)
    row: dict[str, Any] = {
        "name": name,
        "title": READINGS[name].title,
        "num_seeds": len(seeds),
        "accuracy": statistic([_accuracy(lab, Model(seed)) for seed in seeds]),
        **_ratios("test", [scores(lab, Model(seed), name, "test") for seed in seeds]),
        "train": None,
        "train_right": None,
        **dict.fromkeys(KINDS),
    }
    if is_followed:
        row |= _ratios("train", [scores(lab, Model(seed), name, "train") for seed in seeds])
        for kind in KINDS:
            models = [Model(seed, kind, name) for seed in seeds]
            row[kind] = {
                "accuracy": statistic([_accuracy(lab, model) for model in models]),
                **_ratios("test", [scores(lab, model, name, "test") for model in models]),
            }
    return row


def _ratios(split: str, scored: list[Scored]) -> dict[str, Any]:
    return {
        split: statistic([ratio(s) for s in scored]),
        f"{split}_right": statistic([ratio(s, right_only=True) for s in scored]),
    }


def _accuracy(lab: Lab, model: Model) -> float:
    return float(np.mean(classified(lab, model).correct))


def _differences(lab: Lab, name: str, num_classes: int) -> Iterator[dict[str, Any]]:
    """Yields M_R against M and against its control, per seed, on the same images and draws."""
    for seed in _seeds(lab, True):
        models = {kind: Model(seed, kind, name) for kind in KINDS} | {"all": Model(seed)}
        scored = {kind: scores(lab, model, name, "test") for kind, model in models.items()}
        right = {kind: classified(lab, model) for kind, model in models.items()}
        labels, robust = scored["all"].labels, scored["robust"]
        for other in ("all", "random"):
            pair = {"reading": name, "seed": seed, "models": ["robust", other]}
            flags = scored[other].robust, robust.robust
            both = scored[other].clean_correct & robust.clean_correct
            correct = right[other].correct, right["robust"].correct
            classes = compare_classes(*flags, labels, num_classes=num_classes)
            yield {**pair, "of": "robust", **_plain(compare(*flags)), "classes": _all(classes)}
            yield {**pair, "of": "robust, right by both", **_plain(compare(*flags, counted=both))}
            yield {**pair, "of": "accuracy", **_plain(compare(*correct))}


def _plain(comparison: Comparison) -> dict[str, Any]:
    return comparison._asdict()


def _all(comparisons: list[Comparison]) -> list[dict[str, Any]]:
    return [_plain(comparison) for comparison in comparisons]


def _subset(lab: Lab, seed: int, name: str) -> dict[str, Any]:
    _, chosen = subset(lab, seed, name, "robust")
    return {
        "reading": name,
        "seed": seed,
        "class_counts": chosen.class_counts.tolist(),
        "available": chosen.available.tolist(),
    }
