"""Summaries of RPR scores of a dataset and of its classes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from rbjax import atomic, rpr
from rbjax.console import printable
from rbjax.inputs import check_labels
from rbjax.metrics import wilson_interval
from rbjax.paths import expanded

SCORES_FILE = "rpr.json"
DATAPOINTS_FILE = "rpr.npz"
_NUM_RESAMPLES = 1999
"""Permutations: the least p-value is 1/2000, which stays below 5 % with up to 100 classes."""
_SIGNIFICANT = 0.05


def summarize(
    first_failure: np.ndarray,
    max_steps: int,
    labels: np.ndarray,
    *,
    num_classes: int,
    counted: np.ndarray | None = None,
) -> dict[str, Any]:
    """Returns RPR of a dataset and of its classes, with 95 % intervals.

    Args:
        first_failure: (N,) or, of R repetitions, (N, R) integers, 1 to max_steps + 1, 0 where a
            repetition was not run. Curves and ratios are of the first one.
        max_steps: draws of an image.
        labels: (N,) integers, the true classes.
        num_classes: K.
        counted: (N,) bool, the images that count; None: all.

    Returns:
        robust_ratio and its Wilson interval, of all and per class; Kaplan-Meier survival curves
        with their bands; the mean of RPR in both readings of its definition; class bias, each class
        against the rest with p-values (None where there is one class only).
    """
    repetitions = first_failure.reshape(len(first_failure), -1)
    labels = check_labels(labels, num_examples=len(repetitions), num_classes=num_classes)
    chosen = np.ones(len(labels), bool) if counted is None else counted
    ratio = rpr.robust_ratio(
        repetitions[:, 0], max_steps, labels, num_classes=num_classes, counted=counted
    )
    steps = np.minimum(repetitions[:, 0], max_steps)
    curves = rpr.survival_curve(
        repetitions[:, 0], max_steps, labels, num_classes=num_classes, counted=counted
    )
    bands = rpr.kaplan_meier(
        steps, repetitions[:, 0] <= max_steps, labels, num_classes=num_classes, counted=counted
    )
    probability = rpr.failure_probability(*rpr.count_draws(repetitions[chosen], max_steps))
    return {
        "num_examples": int(np.sum(ratio.counts)),
        "robust_ratio": ratio.overall,
        "robust_ratio_interval": wilson_interval(np.sum(ratio.robust), np.sum(ratio.counts)),
        "class_counts": ratio.counts,
        "class_robust": ratio.robust,
        "class_robust_interval": np.stack(wilson_interval(ratio.robust, ratio.counts), axis=-1),
        "survival": curves.overall,
        "survival_band": _band(bands.overall, max_steps),
        "class_survival": curves.classes,
        "class_survival_band": _band(bands.classes, max_steps),
        "mean_steps": float(np.mean(steps[chosen])) if chosen.any() else None,
        "class_mean_steps": np.sum(curves.classes[:, :-1], axis=1),
        "mean_expected_steps": _mean(rpr.expected_steps, probability, max_steps),
        "mean_capped_expectation": _mean(rpr.capped_expectation, probability, max_steps),
        "class_bias": _bias(repetitions, max_steps, labels, num_classes, counted),
    }


def of_scores(
    scores: rpr.Scores | rpr.Repeated, labels: np.ndarray, *, num_classes: int
) -> dict[str, Any]:
    """Returns what rpr.json says of scores: of all datapoints, and of those correctly classified.

    Args:
        scores: of `rpr.score` or `rpr.score_repeatedly`.
        labels: (N,) integers, the true classes.
        num_classes: K.
    """
    first_failure, most = scores.first_failure, scores.max_steps
    given: Any = {"num_classes": num_classes}
    right = summarize(first_failure, most, labels, counted=scores.clean_correct, **given)
    return {
        "max_steps": most,
        "num_examples": len(labels),
        "accuracy": float(np.mean(scores.clean_correct)),
        "all": summarize(first_failure, most, labels, **given),
        "classified_right": right,
        "no_class": int(np.sum(scores.no_class)),
        "forward_passes_run": scores.forward_passes_run,
        "forward_passes_needed": int(np.sum(rpr.count_draws(first_failure, most).draws)),
    }


def of_examples(
    scores: rpr.Scores | rpr.Repeated,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    example_ids: np.ndarray,
) -> dict[str, np.ndarray]:
    """Returns what rpr.npz says of each datapoint, with the images of the outermost ones.

    Args:
        scores: as for `of_scores`.
        images: (N, H, W, C).
        labels: (N,) integers.
        example_ids: (N,) integers.
    """
    first_failure, most = scores.first_failure, scores.max_steps
    once = first_failure.reshape(len(first_failure), -1)[:, 0]
    counts = rpr.count_draws(first_failure, most)
    probability = rpr.failure_probability(*counts)
    shown = outermost(probability, example_ids, scores.clean_correct)
    return {
        "example_ids": example_ids,
        "labels": labels,
        "first_failure": once,
        "robust": once > most,
        "clean_correct": scores.clean_correct,
        "no_class": scores.no_class,
        "failures": counts.failures,
        "draws": counts.draws,
        "failure_probability": probability,
        "failure_interval": np.stack(rpr.failure_interval(*counts), axis=-1),
        "anytime_interval": np.stack(rpr.anytime_interval(*counts), axis=-1),
        "shown/rows": shown,
        "shown/images": np.asarray(images[shown]),
        **({} if first_failure.ndim == 1 else {"repetitions": first_failure}),
    }


def outermost(
    failure_probability: np.ndarray, example_ids: np.ndarray, counted: np.ndarray, *, each: int = 8
) -> np.ndarray:
    """Returns the rows of the least robust datapoints, then those of the most robust.

    Args:
        failure_probability: (N,) share of draws that fool the model.
        example_ids: (N,) integers, which decide between equal ones.
        counted: (N,) bool, the datapoints to choose from: those correctly classified.
        each: how many of either, at most half of all.

    Returns:
        (M,) int64, the least robust first and the most robust last.
    """
    rows = np.flatnonzero(counted)
    order = rows[np.lexsort((example_ids[rows], -failure_probability[rows]))]
    each = min(each, len(order) // 2)
    return np.concatenate([order[:each], order[len(order) - each :]])


def read_scores(workdir: str | os.PathLike[str]) -> rpr.Scores | rpr.Repeated:
    """Reads a run's scoring.

    Args:
        workdir: the run directory.

    Returns:
        The scores of every example, of one repetition or of several.

    Raises:
        ValueError: if there is no scoring, or its files are damaged.
    """
    folder = expanded(workdir, field="workdir")
    try:
        about = atomic.read_json(folder / SCORES_FILE)
        arrays = atomic.read_npz(folder / DATAPOINTS_FILE)
    except (OSError, ValueError):
        about = arrays = None
    if not isinstance(about, dict) or arrays is None:
        raise ValueError(
            f"workdir = {str(workdir)!r}: holds no {SCORES_FILE} with {DATAPOINTS_FILE}, or "
            "damaged ones; score it (--config.task=score)"
        )
    try:
        max_steps, first = int(about["max_steps"]), arrays["first_failure"]
        shared: Any = {name: arrays[name] for name in ("clean_correct", "labels")}
        # Scorings of the first version do not say which answers were of no class.
        shared["no_class"] = arrays.get("no_class", np.zeros(len(first), bool))
        shared |= {"max_steps": max_steps, "forward_passes_run": about["forward_passes_run"]}
        shared["num_classes"] = len(about.get("class_names", ())) or None
        shared["drawn"] = about.get("config", {}).get("score", {}).get("perturbation", "")
        if "repetitions" in arrays:
            counts = {name: arrays[name] for name in ("failures", "draws")}
            return rpr.Repeated(first_failure=arrays["repetitions"], **counts, **shared)
        needed = about["forward_passes_needed"]
        return rpr.Scores(
            first_failure=first,
            steps=np.minimum(first, max_steps),
            robust=first > max_steps,
            forward_passes_needed=needed,
            **shared,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{folder / DATAPOINTS_FILE}: is damaged, or of another version of rbjax "
            f"({type(error).__name__}: {error}); score again"
        ) from None


def describe(part: dict[str, Any], class_names: Sequence[str]) -> str:
    """Returns a sentence about the classes whose robustness differs from the rest.

    Args:
        part: what `summarize` returns.
        class_names: K names.

    Returns:
        One line; the classes whose robust ratio differs at the 5 % level, corrected by Holm.
    """
    bias = part["class_bias"]
    if bias is None:
        return "class by class: there is only one class"
    difference = np.asarray(bias["robust_ratio"]["difference"], np.float64)
    p_values = np.asarray(bias["robust_ratio"]["p_holm"], np.float64)
    significant = np.nan_to_num(p_values, nan=1.0) <= _SIGNIFICANT
    parts = []
    for word, sign in (("less robust", -1), ("more robust", 1)):
        points = [
            f"{printable(class_names[label])} ({100 * difference[label]:+.1f})"
            for label in np.flatnonzero(significant & (sign * difference > 0)).tolist()
        ]
        parts += [f"{word} {', '.join(points)}"] if points else []
    test = f"permutation test, {bias['num_resamples']} resamples, Holm, 5 %"
    if not parts:
        return f"no class differs from the rest in its robust ratio ({test})"
    return f"against the rest, in points: {'; '.join(parts)} ({test})"


def _band(curve: rpr.Curve, max_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns both edges; a band ends where the last image failed, and is constant from there."""
    missing = max_steps + 1 - curve.low.shape[-1]
    widths = [(0, 0)] * (curve.low.ndim - 1) + [(0, missing)]
    return np.pad(curve.low, widths, mode="edge"), np.pad(curve.high, widths, mode="edge")


def _mean(reading: Any, probability: np.ndarray, max_steps: int) -> float | None:
    if not len(probability):
        return None
    return float(np.mean(reading(probability, max_steps)))


def _bias(
    first_failure: np.ndarray,
    max_steps: int,
    labels: np.ndarray,
    num_classes: int,
    counted: np.ndarray | None,
) -> dict[str, Any] | None:
    present = np.unique(labels if counted is None else labels[counted])
    if len(present) < 2:
        return None
    bias = rpr.class_bias(
        first_failure,
        max_steps,
        labels,
        num_classes=num_classes,
        counted=counted,
        num_resamples=_NUM_RESAMPLES,
    )
    fields = bias._asdict()
    return {
        "num_resamples": fields.pop("num_resamples"),
        **{k: v._asdict() for k, v in fields.items() if k != "counts"},
    }
