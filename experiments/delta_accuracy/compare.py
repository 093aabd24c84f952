"""What is measured of a version, over seeds and images, and how far two versions are apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from experiments.delta_accuracy import measure
from experiments.delta_accuracy.plan import VERSIONS, Scale, cell_name
from rbjax.metrics import SeedMean, mean_over_seeds
from rbjax.sweep import Result

_DRAWS = 2000

Terms = Callable[[Result], Sequence[np.ndarray]]
"""Of a cell: arrays of one number an image, whose means are added up."""


class Measure(NamedTuple):
    """A number of a network, higher where it is better."""

    title: str
    terms: Terms


def _clean(result: Result, split: str) -> np.ndarray:
    return measure.flags(result[split], "clean").astype(np.float64)


def _copied(result: Result, split: str) -> np.ndarray:
    return measure.counts(result[split], "copies") / measure.COPIES


def _accuracy(split: str) -> Terms:
    return lambda result: [_clean(result, split)]


def _transformed(split: str) -> Terms:
    return lambda result: [_copied(result, split)]


def _delta(split: str) -> Terms:
    """P3's equation 2."""
    return lambda result: [_copied(result, split) - _clean(result, split)]


def _delta_of_right(split: str) -> Terms:
    """The share of copies that are right among those of right images, less 1, linearised."""

    def terms(result: Result) -> Sequence[np.ndarray]:
        clean, copied = _clean(result, split), _copied(result, split)
        change = np.sum(clean * (copied - 1)) / np.sum(clean)
        return [change + clean * (copied - 1 - change) / np.mean(clean)]

    return terms


def _corrupted(result: Result) -> Sequence[np.ndarray]:
    stored = result["corruptions"]
    right = measure.counts(stored, "right") / len(stored["accuracy"])
    return [right - _clean(result, "test")[: stored["count"]]]


MEASURES: dict[str, Measure] = {
    "accuracy": Measure("accuracy, train", _accuracy("train")),
    "transformed": Measure("transformed, train", _transformed("train")),
    "delta": Measure("Δ, train", _delta("train")),
    "test_accuracy": Measure("accuracy, test", _accuracy("test")),
    "test_transformed": Measure("transformed, test", _transformed("test")),
    "test_delta": Measure("Δ, test", _delta("test")),
    "train_of_right": Measure("Δ of right, train", _delta_of_right("train")),
    "of_right": Measure("Δ of right, test", _delta_of_right("test")),
    "corruptions": Measure("Δ, MNIST-C", _corrupted),
    "rpr": Measure("RPR", lambda r: [measure.flags(r["rpr"], "right") * 1.0]),
    "gap": Measure(
        "train less test",
        lambda result: [_clean(result, "train"), -_clean(result, "test")],
    ),
}

Cohort = dict[str, dict[int, Result]]
"""Version -> seed -> result, of networks that are trained."""


def cohort(results: Mapping[str, Result], scale: Scale) -> tuple[Cohort, list[str]]:
    """Returns the results by version and seed, and the cells that are not trained.

    Args:
        results: of `sweep.read`.
        scale: whose `floor` of the clean test accuracy a network must reach.
    """
    kept: Cohort = {version: {} for version in VERSIONS}
    untrained = []
    for version, seeds in kept.items():
        for seed in range(scale.seeds):
            name = cell_name(version, seed)
            if name not in results:
                continue
            accuracy = np.mean(_clean(results[name], "test"))
            if accuracy < scale.floor:
                untrained.append(f"{name} ({100 * accuracy:.2f} %)")
            else:
                seeds[seed] = results[name]
    return kept, untrained


def estimate(
    name: str, ours: Mapping[int, Result], theirs: Mapping[int, Result] | None = None
) -> SeedMean | None:
    """Returns a measure of a version in per cent, or how far it is above another's, in points.

    Args:
        name: in MEASURES.
        ours: the results of a version by seed.
        theirs: of another; seeds that both have are compared, on the same images; None: of none.

    Returns:
        A `SeedMean` times 100; None without a seed.
    """
    seeds = [seed for seed in ours if theirs is None or seed in theirs]
    if not seeds:
        return None
    terms = [np.stack(each) for each in zip(*(_terms(name, ours[s]) for s in seeds), strict=True)]
    if theirs is not None:
        other = zip(*(_terms(name, theirs[seed]) for seed in seeds), strict=True)
        terms = [mine - np.stack(each) for mine, each in zip(terms, other, strict=True)]
    values = np.sum([term.mean(axis=1) for term in terms], axis=0)
    variance = sum(float(term.mean(axis=0).var()) / term.shape[1] for term in terms)
    found = mean_over_seeds(values, variance=variance)
    return SeedMean(100 * found.value, 100 * found.low, 100 * found.high, found.p_value)


def _terms(name: str, result: Result) -> Sequence[np.ndarray]:
    return MEASURES[name].terms(result)


def spread(name: str, ours: Mapping[int, Result]) -> tuple[float, float | None]:
    """Returns mean and standard deviation over seeds of a measure, in per cent."""
    values = [100 * sum(float(t.mean()) for t in _terms(name, r)) for r in ours.values()]
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


class Agreement(NamedTuple):
    """Kendall's tau of two orders of the versions: 1 the same, -1 the reverse."""

    tau: float
    low: float
    high: float
    versions: int


def agreement(first: Mapping[str, SeedMean], second: Mapping[str, SeedMean]) -> Agreement:
    """Returns how far two orders agree, with a 95 % interval.

    Args:
        first: a measure of each version.
        second: another one's.

    Returns:
        Kendall's tau of the versions that both have; its interval is that of draws of each value
        within its own error, independent of each other.
    """
    names = [name for name in first if name in second]
    pairs = np.array([(i, j) for i in range(len(names)) for j in range(i)])
    if not len(pairs):
        return Agreement(np.nan, np.nan, np.nan, len(names))
    generator = np.random.default_rng(0)
    signs, exact = [], []
    for found in (first, second):
        values = np.array([found[name].value for name in names])
        errors = np.array([(found[name].high - found[name].low) / 3.92 for name in names])
        drawn = values + errors * generator.standard_normal((_DRAWS, len(names)))
        exact.append(np.sign(values[pairs[:, 0]] - values[pairs[:, 1]]))
        signs.append(np.sign(drawn[:, pairs[:, 0]] - drawn[:, pairs[:, 1]]))
    low, high = np.quantile(np.mean(signs[0] * signs[1], axis=1), (0.025, 0.975))
    return Agreement(float(np.mean(exact[0] * exact[1])), float(low), float(high), len(names))


def told_apart(name: str, found: Cohort) -> tuple[int, int]:
    """Returns how many pairs of versions differ in a measure at 95 %, and how many there are."""
    there = [version for version in found if found[version]]
    differences = [
        estimate(name, found[a], found[b]) for i, a in enumerate(there) for b in there[:i]
    ]
    known = [one for one in differences if one is not None]
    return sum(one.low > 0 or one.high < 0 for one in known), len(known)


class Stability(NamedTuple):
    """How far the accuracies of 75 copies of the same images differ beyond chance, in points."""

    deviation: float
    """Of the 75 accuracies."""
    chance: float
    """What it would be if each image had the same chance in all copies."""
    low: float
    high: float
    """The 95 % interval of the deviation beyond chance."""
    p_value: float
    """Cochran's Q: of no difference between copies."""
    first: float
    """The mean accuracy of the first five copies less that of all."""


def stability(stored: Mapping[str, Any]) -> Stability:
    """Returns Cochran's test of the copies that `measure` stored as "stable"."""
    right, count = np.asarray(stored["blocks"], np.float64), stored["count"]
    freedom, total = len(right) - 1, float(np.sum(right))
    # p (1 - p) of each image, added up, times k / (k - 1): the variance of a copy's sum by chance.
    by_chance = (total - stored["squares"] / len(right)) / freedom
    squares = freedom * float(np.var(right, ddof=1))
    point = 100 / count
    ends = squares / stats.chi2(freedom).ppf([0.975, 0.025])
    low, high = point * np.sqrt(np.maximum(ends - by_chance, 0))
    p_value = float(stats.chi2(freedom).sf(squares / by_chance)) if by_chance else 1.0
    first = point * float(np.mean(right[: measure.COPIES]) - np.mean(right))
    deviation, chance = point * np.std(right, ddof=1), point * np.sqrt(by_chance)
    return Stability(float(deviation), float(chance), float(low), float(high), p_value, first)


def example(found: Cohort) -> tuple[int, int, dict[str, int]] | None:
    """Returns the copy on which the networks of the first seed disagree most: figure 5.

    Returns:
        The row of the test image, the number of its copy from 1, and each version's class; among
        copies with as many different classes the one of the first row, then of the first copy.
        None if the networks are not all there.
    """
    shown = [found[version].get(0, {}).get("shown", "") for version in VERSIONS]
    if not all(shown):
        return None
    classes = np.stack([measure.digits(text) for text in shown])
    different = np.array([len(set(column)) for column in classes.T])
    different = different.reshape(measure.COPIES, -1).T.ravel()  # image by image
    row, copy = divmod(int(np.argmax(different)), measure.COPIES)
    per_copy = classes.reshape(len(classes), measure.COPIES, -1)[:, copy, row]
    return row, copy + 1, dict(zip(VERSIONS, map(int, per_copy), strict=True))
