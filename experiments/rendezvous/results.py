"""What the cells found: measures of each network, with draws of the test images, and contrasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments.answers import NUM_DRAWS, Estimate, class_means, over_seeds, recall, stored
from experiments.rendezvous.plan import PLAIN, Key, Scale, keys, levels_of
from rbjax.metrics import resample_classes
from rbjax.sweep import Result

COLLAPSED = 1.5
"""Times the accuracy of a guess, at which a network has learnt nothing."""
MEASURES = {
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "many": "many",
    "medium": "medium",
    "few": "few",
    "worst_class": "worst class",
    "spread": "class spread",
    "corruptions": "corrupted",
    "universal": "universal",
}
"""In per cent. Many, medium and few are means over thirds of the classes by their training images;
spread is the best class less the worst; corrupted and universal are means over classes."""


class Place(NamedTuple):
    """A row of a dataset's and a network's part of the grid: a key without these and the seed."""

    level: str
    method: str
    remedy: str = PLAIN


class Cohort(NamedTuple):
    """The networks of one architecture on one dataset that count."""

    dataset: str
    network: str
    num_seeds: int
    """Of the scale."""
    levels: tuple[str, ...]
    floor: float
    results: dict[Key, Result]
    apart: dict[str, str]
    """Cells that do not count, and why."""
    measures: dict[Key, dict[str, np.ndarray]]
    """(1 + NUM_DRAWS,) in per cent, of all test images and of each draw; "gap LEVEL" is many less
    few, of the thirds by that level's training images."""

    def key(self, place: Place, seed: int) -> Key:
        """Returns the network of a row and a seed."""
        return Key(self.dataset, self.network, *place, seed)

    def contrast(self, terms: Sequence[tuple[float, Place]], measure: str) -> Estimate | None:
        """Returns a sum of rows' measures, each times a number.

        Args:
            terms: numbers and rows, of the seeds that all have.
            measure: of MEASURES, or "gap LEVEL".

        Returns:
            The mean over seeds; its interval has the error of seeds and of test images, which are
            drawn class by class, the same for all rows. None where no seed has all rows.
        """
        values = []
        for seed in range(self.num_seeds):
            rows = [self.measures.get(self.key(place, seed)) for _, place in terms]
            if all(row is not None for row in rows):
                weights = [weight for weight, _ in terms]
                pairs = zip(weights, rows, strict=True)
                values.append(sum(weight * row[measure] for weight, row in pairs if row))
        if not values:
            return None
        return over_seeds(np.stack(values), self.num_seeds)

    def counts(self, level: str) -> np.ndarray | None:
        """Returns the training images of each class at a level, (K,); None where no cell is."""
        found = (r["train_count"] for key, r in self.results.items() if key.level == level)
        first = next(found, None)
        return None if first is None else np.asarray(first)


def cohorts(results: Mapping[str, Result], scale: Scale, dataset: str | None) -> list[Cohort]:
    """Returns the grid's networks by dataset and architecture, those that are not trained apart.

    Args:
        results: of `sweep.read`; what is missing is left out.
        scale: of the grid, with the floors.
        dataset: as for `plan.keys`.
    """
    every = keys(scale, dataset)
    made = []
    for name, network in dict.fromkeys((key.dataset, key.network) for key in every):
        own = [key for key in every if (key.dataset, key.network) == (name, network)]
        there = {key: results[key.name] for key in own if key.name in results}
        levels, floor = levels_of(scale, name), float(scale.of("floors", name, 0.0))
        apart = _apart(there, levels, floor, name, network, scale.of("seeds", name))
        kept = {key: result for key, result in there.items() if key.name not in apart}
        made.append(
            Cohort(
                name,
                network,
                scale.of("seeds", name),
                levels,
                floor,
                kept,
                apart,
                _measure(kept, levels) if kept else {},
            )
        )
    return made


def balanced_level(levels: Sequence[str]) -> str:
    """Returns the level on which a standard network has to reach its floor."""
    return "balanced" if "balanced" in levels else "balanced_equal"


def _apart(
    there: Mapping[Key, Result],
    levels: Sequence[str],
    floor: float,
    dataset: str,
    network: str,
    num_seeds: int,
) -> dict[str, str]:
    """Returns the cells that do not count, by name, and why."""
    reached = {key: _balanced_accuracy(result) for key, result in there.items()}
    apart = {}
    for seed in range(num_seeds):
        standard = Key(dataset, network, balanced_level(levels), "none", PLAIN, seed)
        value = reached.get(standard)
        why = ""
        if floor and value is None:
            why = f"{standard.name} is not there"
        elif value is not None and value < floor:
            why = f"{standard.name} reaches {100 * value:.1f} of {100 * floor:g} %"
        for key in there:
            if why and key.seed == seed:
                apart[key.name] = why
    for key, value in reached.items():
        if value < COLLAPSED / len(there[key]["count"]):
            apart.setdefault(key.name, f"reaches {100 * value:.1f} %, hardly more than a guess")
    return apart


def _balanced_accuracy(result: Result) -> float:
    return float(np.mean(recall(result)[np.asarray(result["count"]) > 0]))


def thirds(counts: np.ndarray) -> np.ndarray:
    """Returns 0, 1 or 2 for the classes of many, medium and few images, a third each, (K,).

    Of classes with as many images the first by number is the larger. On CIFAR-100's long tail at a
    ratio of 100 they are but for three classes those of more than 100, of 20 to 100 and of fewer
    images, which others call many-, medium- and few-shot.
    """
    ranks = np.empty(len(counts), np.int64)
    ranks[np.argsort(-np.asarray(counts), kind="stable")] = np.arange(len(counts))
    return ranks * 3 // len(counts)


def _measure(
    found: Mapping[Key, Result], levels: Sequence[str]
) -> dict[Key, dict[str, np.ndarray]]:
    """Returns the measures of networks of one dataset."""
    every = list(found.values())
    counts = np.asarray(every[0]["count"])
    labels = stored(every[0], "labels")
    clean, universal = (np.stack([stored(r, name) for r in every]) for name in _ANSWERS)
    is_right = [(clean == labels).astype(np.float32), (universal == labels).astype(np.float32)]
    recalls, attacked = (class_means(right, labels, len(counts)) for right in is_right)
    noisy = [r["corruptions"] for r in every]
    rightly = [stored(one, "right") / max(one["total"], 1) for one in noisy]
    corrupted = class_means(np.stack(rightly), stored(noisy[0], "labels"), len(counts))
    there = counts > 0
    named = {
        "balanced_accuracy": recalls[..., there].mean(-1),
        "macro_f1": _f1(clean, labels, counts, recalls).mean(-1),
        "worst_class": recalls[..., there].min(-1),
        "spread": np.ptp(recalls[..., there], axis=-1),
        "corruptions": np.nanmean(np.where(there, corrupted, np.nan), axis=-1),
        "universal": attacked[..., there].mean(-1),
    }
    order = {key.level: np.asarray(result["train_count"]) for key, result in found.items()}
    shares = {
        level: [recalls[..., (thirds(order[level]) == part) & there].mean(-1) for part in range(3)]
        for level in levels
        if level in order
    }
    named |= {f"gap {level}": parts[0] - parts[2] for level, parts in shares.items()}
    measures = {}
    tail = next((level for level in reversed(levels) if level in order), None)
    for column, key in enumerate(found):
        # Where all classes have as many images, those of the long tail say which are which.
        own = key.level if np.ptp(order[key.level]) > 1 or tail is None else tail
        named |= dict(zip(("many", "medium", "few"), shares[own], strict=True))
        measures[key] = {name: 100 * values[:, column] for name, values in named.items()}
    return measures


_ANSWERS = ("clean", "universal")


def _f1(
    classes: np.ndarray, labels: np.ndarray, counts: np.ndarray, recalls: np.ndarray
) -> np.ndarray:
    """Returns each class's F1, 2 correct / (count + predicted), (1 + D, M, K)."""
    num_classes, predicted = len(counts), np.zeros_like(recalls)
    for _, rows, weights in resample_classes(labels, num_draws=NUM_DRAWS):
        answers = classes[:, rows, None] == np.arange(num_classes)  # (M, n, K)
        flat = answers.transpose(1, 0, 2).reshape(len(rows), -1).astype(np.float32)
        drawn = weights.astype(np.float32) @ flat * len(rows)
        predicted[0] += answers.sum(axis=1)
        predicted[1:] += drawn.reshape(NUM_DRAWS, len(classes), num_classes)
    return 2 * recalls * counts / np.maximum(counts + predicted, 1)
