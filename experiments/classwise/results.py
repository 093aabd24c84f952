"""What the cells found: accuracies of each class with draws of the test images, and contrasts."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments.answers import Estimate, class_means, over_seeds, recall, stored
from experiments.classwise.plan import SHARES, STANDARD, Key, Scale, keys, seeds_of
from rbjax.sweep import Result

Measure = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(class accuracies (..., K), test images of each class (K,)) -> (...)."""


def mean(recall: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Returns the mean over classes."""
    del counts
    return recall.mean(axis=-1)


def worst(recall: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Returns the accuracy of the worst class."""
    del counts
    return recall.min(axis=-1)


def spread(recall: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Returns the best class's accuracy less the worst's."""
    del counts
    return np.ptp(recall, axis=-1)


def deviation(recall: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Returns the standard deviation of class accuracies beyond that of the draw of images.

    `sqrt(max(0, var_c(a_c) - mean_c(a_c (1 - a_c) / (n_c - 1))))`: equal classes have 0, not what
    chance makes of n_c images; the best less the worst has no such correction.
    """
    chance = np.mean(recall * (1 - recall) / np.maximum(counts - 1, 1), axis=-1)
    return np.sqrt(np.maximum(np.var(recall, axis=-1, ddof=1) - chance, 0.0))


def of_class(label: int) -> Measure:
    """Returns the accuracy of one class."""
    return lambda recall, counts: recall[..., label]


def of_others(label: int) -> Measure:
    """Returns the mean accuracy of all classes but one."""
    return lambda recall, counts: np.delete(recall, label, axis=-1).mean(axis=-1)


class Network(NamedTuple):
    """A key without its seed, and how its images are attacked."""

    key: Key
    label: str
    """"clean", or an attack's."""


class Grid(NamedTuple):
    """The networks that count."""

    scale: Scale
    results: dict[Key, Result]
    apart: dict[str, str]
    """Cells that do not count, and why."""
    recalls: Callable[[Key, str], np.ndarray]
    """(key, label) -> class accuracies of all test images and of each draw, (1 + D, K)."""

    def seeds(self, key: Key) -> dict[int, Key]:
        """Returns the networks that are there of all seeds of a key, whose own seed is ignored."""
        there = (k for k in self.results if k._replace(seed=0) == key._replace(seed=0))
        return {k.seed: k for k in there}

    def counts(self, key: Key) -> np.ndarray:
        """Returns the test images of each class, (K,)."""
        return np.asarray(self.results[key]["count"])

    def names(self, key: Key) -> list[str]:
        """Returns the names of the classes."""
        return next(iter(self.results[k]["class_names"] for k in self.seeds(key).values()))

    def recall(self, network: Network) -> np.ndarray:
        """Returns class accuracies, means over seeds, of all images and of each draw, (1 + D, K).

        Raises:
            KeyError: if no seed is there.
        """
        found = [self.recalls(key, network.label) for key in self.seeds(network.key).values()]
        if not found:
            raise KeyError(network.key.name)
        return np.mean(found, axis=0)

    def contrast(self, terms: Sequence[tuple[float, Network]], measure: Measure) -> Estimate | None:
        """Returns a sum of networks' measures, each times a number, in per cent.

        Args:
            terms: numbers and networks, of the seeds that all have.
            measure: of class accuracies.

        Returns:
            The mean over seeds; its interval has the error of seeds and of test images, which are
            drawn class by class, the same for all networks. None where no seed has all.
        """
        there = [self.seeds(network.key) for _, network in terms]
        values = []
        for seed in sorted(set.intersection(*(set(one) for one in there))):
            parts = [
                weight * measure(self.recalls(own[seed], network.label), self.counts(own[seed]))
                for (weight, network), own in zip(terms, there, strict=True)
            ]
            values.append(100 * np.sum(parts, axis=0))
        wanted = max(seeds_of(self.scale, network.key) for _, network in terms)
        return over_seeds(np.stack(values), wanted) if values else None


def grid(found: Mapping[str, Result], scale: Scale) -> Grid:
    """Returns the networks that are there, those that are not trained apart.

    Args:
        found: of `sweep.read`; what is missing is left out.
        scale: of the grid, with the floors that its standard networks must reach.
    """
    there = {key: found[key.name] for key in keys(scale) if key.name in found}
    apart: dict[str, str] = {}
    for key, result in there.items():
        if key.method != STANDARD or key.group != "datasets":
            continue
        reached, floor = float(recall(result).mean()), scale.floors.get(key.dataset, 0.0)
        if reached < floor:
            why = f"{key.name} reaches {100 * reached:.1f} of {100 * floor:g} %"
            apart |= dict.fromkeys(_like(there, key), why)
    kept = {key: result for key, result in there.items() if key.name not in apart}

    @functools.cache
    def recalls(key: Key, label: str) -> np.ndarray:
        result = kept[key]
        labels = stored(result, "labels")
        right = (stored(result, label) == labels)[None]
        return class_means(right, labels, len(result["count"]))[:, 0].astype(np.float64)

    return Grid(scale, kept, apart, recalls)


def _like(there: Iterable[Key], standard: Key) -> list[str]:
    """Returns the cells of a dataset, architecture, optimizer and seed."""
    same = ("dataset", "network", "optimizer", "seed")
    return [k.name for k in there if all(getattr(k, f) == getattr(standard, f) for f in same)]


def matched(grid: Grid, key: Key, value: float) -> str:
    """Returns the attack under which a network's mean accuracy is nearest to a value in [0, 1]."""
    apart = {label: abs(grid.recall(Network(key, label))[0].mean() - value) for label in SHARES}
    return min(apart, key=lambda label: apart[label])
