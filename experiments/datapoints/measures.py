"""Numbers over seeds, with intervals: ratios of every reading, and differences of models."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.datapoints import plan, records
from experiments.datapoints.plan import Scale
from experiments.datapoints.readings import READINGS
from rbjax.metrics import mean_over_seeds
from rbjax.rpr.class_bias import holm
from rbjax.sweep import Result, by_seed

Results = Mapping[str, Result]
"""{cell's name: result} of what is finished."""
TARGETS = {
    "printed": (records.expected("P4")["test_ratio"], records.expected("P4")["train_ratio"]),
    "conjecture": (1 - records.expected("P4")["test_ratio"], records.expected("P4")["train_ratio"]),
}
"""P4's ratios of test and train; were its test ratio the share that fails."""


class OverSeeds(NamedTuple):
    """A number of each seed, their mean and its interval; NaN where nothing says how far off."""

    value: float
    low: float
    high: float
    p_value: float
    values: tuple[float, ...]

    @property
    def std(self) -> float:
        """The standard deviation over seeds; NaN of one."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else float("nan")


def over_seeds(values: np.ndarray | list[float], *, within: float = 0.0) -> OverSeeds:
    """Returns `rbjax.metrics.mean_over_seeds` with the seeds' values.

    Args:
        values: (S,).
        within: squared error of the mean that the images bring, the same of all seeds.
    """
    values = np.asarray(values, np.float64)
    found = mean_over_seeds(values, variance=within)
    if len(values) == 1 and not within:
        found = found._replace(low=float("nan"), high=float("nan"), p_value=float("nan"))
    return OverSeeds(*found[:4], values=tuple(values.tolist()))


class Row(NamedTuple):
    """One reading of model and scheme, over its seeds."""

    model: str
    scheme: str
    seeds: tuple[int, ...]
    accuracy: OverSeeds
    test: OverSeeds
    train: OverSeeds
    gap: OverSeeds
    """Train less test."""
    distance: dict[str, OverSeeds]
    """Root mean square of how far both ratios are from each of `TARGETS`."""

    @property
    def title(self) -> str:
        """The reading in words."""
        return f"{READINGS[self.scheme].title}; {plan.MODELS[self.model][0]}"


def trained(results: Results, scale: Scale) -> tuple[dict[str, Result], dict[str, float]]:
    """Returns the results whose network reaches the floor, and the accuracies of the others."""
    accuracies = {name: accuracy(result) for name, result in results.items()}
    below = {name: value for name, value in accuracies.items() if value < scale.floor}
    return {name: result for name, result in results.items() if name not in below}, below


def accuracy(result: Result) -> float:
    """Returns the clean test accuracy of a cell's network that is trained on all classes alike."""
    return next(
        about["accuracy"]
        for about in (result.get("M"), result.get("models", {}).get("M"), result.get("net"))
        if about
    )


def rows(results: Results, scale: Scale) -> list[Row]:
    """Returns every reading of model and scheme that a finished cell has."""
    found = []
    for model in plan.MODELS:
        have = by_seed(results, functools.partial(plan.read_name, model), scale.seeds)
        for scheme in READINGS:
            scored = {seed: result for seed, result in have.items() if scheme in result["test"]}
            if scored:
                found.append(_row(model, scheme, scored))
    return found


def _row(model: str, scheme: str, have: Mapping[int, Result]) -> Row:
    flags = {
        split: np.stack([records.unpack(r, split, scheme).robust for r in have.values()])
        for split in ("test", "train")
    }
    ratios = {split: robust.mean(axis=1) for split, robust in flags.items()}
    right = np.stack([correct(result["M"]) for result in have.values()])
    errors = {split: _shared_error(robust) for split, robust in flags.items()}
    distances = {}
    for name, targets in TARGETS.items():
        off = np.stack([ratios["test"] - targets[0], ratios["train"] - targets[1]])
        distance = np.sqrt(np.mean(off**2, axis=0))
        mean = off.mean(axis=1)
        # To first order: d = sqrt((x^2 + y^2) / 2), so its gradient is (x, y) / 2 d.
        slope = mean / (2 * max(float(np.sqrt(np.mean(mean**2))), 1e-9))
        within = slope[0] ** 2 * errors["test"] + slope[1] ** 2 * errors["train"]
        distances[name] = over_seeds(distance, within=float(within))
    return Row(
        model,
        scheme,
        tuple(have),
        over_seeds(right.mean(axis=1), within=_shared_error(right)),
        over_seeds(ratios["test"], within=errors["test"]),
        over_seeds(ratios["train"], within=errors["train"]),
        over_seeds(ratios["train"] - ratios["test"], within=errors["test"] + errors["train"]),
        distances,
    )


def nearest(found: Sequence[Row], target: str) -> Row:
    """Returns the reading whose two ratios come nearest to a pair of `TARGETS`."""
    return min(found, key=lambda row: row.distance[target].value)


def retrained(
    results: Results, scale: Scale, scheme: str, *, unbalanced: bool
) -> dict[int, Result]:
    """Returns the finished cells of a retraining test, by seed."""
    name = functools.partial(plan.retrain_name, scheme, unbalanced=unbalanced)
    return by_seed(results, name, scale.seeds)


def difference(have: Sequence[Result], first: str, second: str, of: str) -> OverSeeds:
    """Returns how far the second model is above the first, on the same images and draws.

    Args:
        have: results of `cells.retrain`, a seed each.
        first: a model's name in them, such as "M" or "random-updates".
        second: another.
        of: "robust", the share of test images that withstand; or "accuracy".
    """
    pairs = []
    for result in have:
        if of == "robust":
            one, other = (records.unpack(result, "test", m).robust for m in (first, second))
        else:
            one, other = (correct(result["models"][m]) for m in (first, second))
        pairs.append(other.astype(float) - one)
    changed = np.stack(pairs)
    return over_seeds(changed.mean(axis=1), within=_shared_error(changed))


def figure4(have: Sequence[Result]) -> dict[str, OverSeeds]:
    """Returns how far class 7's share of robust training images is above those of 1, 8 and 9.

    P4 says that images of class 7 seem inherently more robust, and those of 1, 8 and 9 can easily
    be corrupted. The p-values of the three are corrected for being three (Holm).
    """
    published = records.expected("P4")
    scored = [records.unpack(result, "train", "M") for result in have]
    robust, labels = np.stack([s.robust for s in scored]), scored[0].labels

    def against(classes: Sequence[int]) -> OverSeeds:
        own, rest = labels == published["robust_class"], np.isin(labels, classes)
        shares = robust[:, own].mean(axis=1) - robust[:, rest].mean(axis=1)
        within = _shared_error(robust[:, own]) + _shared_error(robust[:, rest])
        return over_seeds(shares, within=within)

    fragile = published["fragile_classes"]
    found = {str(label): against([label]) for label in fragile}
    corrected = holm(np.array([estimate.p_value for estimate in found.values()]))
    return {"together": against(fragile)} | {
        name: estimate._replace(p_value=float(p_value))
        for (name, estimate), p_value in zip(found.items(), corrected, strict=True)
    }


def class_shares(have: Sequence[Result]) -> np.ndarray:
    """Returns the share of robust training images of each class, (K,), the mean over seeds."""
    scored = [records.unpack(result, "train", "M") for result in have]
    counts = np.bincount(scored[0].labels)
    return (
        np.mean([np.bincount(s.labels[s.robust], minlength=len(counts)) for s in scored], 0)
        / counts
    )


def _shared_error(values: np.ndarray) -> float:
    """Returns the squared error of the mean of (S, N) that images bring, the same of all seeds."""
    means = values.mean(axis=0)
    return float(np.var(means, ddof=1) / len(means)) if len(means) > 1 else 0.0


def correct(about: Mapping[str, Any]) -> np.ndarray:
    """Returns which test images a model of `cells` classifies correctly."""
    return records.unpack_flags(about["rows"], about["tested"])
