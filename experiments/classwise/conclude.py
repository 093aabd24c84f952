"""What follows from the cells, in sentences of which each stands on a number and its interval."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from experiments.answers import Estimate
from experiments.classwise import explain, results
from experiments.classwise.explain import Rank
from experiments.classwise.plan import (
    AFTER_TRAINING,
    CRITICAL,
    ROBUST,
    STANDARD,
    TAUGHT,
    Key,
    remedies,
)
from experiments.classwise.results import Grid, Network
from rbjax.data.class_names import CIFAR100_SUPERCLASSES


class Claim(NamedTuple):
    """What P2 says or asks, and what is found."""

    says: str
    found: Estimate | Rank | None
    """None where the cells are missing."""
    sign: int = 1
    """Of what it says: 1 or -1."""

    @property
    def verdict(self) -> str:
        """Whether it "holds", "is reversed", "is open" or "is missing"."""
        if self.found is None:
            return "is missing"
        if isinstance(self.found, Rank) and self.found.p_value >= 0.05:
            return "is open"
        if isinstance(self.found, Estimate) and self.found.seeds < self.found.wanted:
            return "is open"  # a seed more may turn it
        low, high = sorted((self.found.low * self.sign, self.found.high * self.sign))
        return "holds" if low > 0 else "is reversed" if high < 0 else "is open"

    def __str__(self) -> str:
        if self.found is None:
            return f"missing: {self.says}."
        number = str(self.found)
        if isinstance(self.found, Estimate):
            number += f" points, {self.found.seeds} of {self.found.wanted} seeds"
        return f"{self.verdict}: {self.says}: {number}."


def sentences(grid: Grid) -> list[str]:
    """Returns the answers to P2's questions, as Markdown."""
    lines: list[str] = []
    wider = list(discrepancy(grid))
    for title, claims in (
        (
            "Does adversarial training widen the differences between classes?",
            [*counted(wider), *wider],
        ),
        ("Are the same classes vulnerable everywhere?", orders(grid)),
        ("What goes with a class's vulnerability?", explanations(grid)),
        ("Robust or non-robust features?", taught(grid)),
        ("What helps the worst class?", remedy(grid)),
        ("And a class that matters most?", critical(grid)),
        ("Are the classes that attacks fool those that corruptions fool?", corruptions(grid)),
    ):
        found = [f"- {claim}" for claim in claims]
        lines += ["", f"**{title}**", "", *(found or ["- missing."])]
    return lines[1:]


def counted(wider: Sequence[Claim]) -> Iterator[str]:
    """Returns P2's abstract in a sentence for each way to compare: in how many datasets it holds.

    Args:
        wider: of `discrepancy`.
    """
    ways: dict[str, list[Claim]] = {}
    for claim in wider:
        ways.setdefault(claim.says.partition(", ")[2], []).append(claim)
    for way, claims in ways.items():
        parts = []
        for verdict in ("holds", "is reversed", "is open"):
            names = [c.says.partition(", ")[0] for c in claims if c.verdict == verdict]
            if names:
                parts.append(f"{verdict} in {len(names)} of {len(claims)} ({', '.join(names)})")
        yield f"{way}: {', '.join(parts)}."


def pairs(grid: Grid) -> list[tuple[Key, Key]]:
    """Returns the standard and the robust network of each dataset that has both, of seed 0."""
    scale = grid.scale
    made = []
    for name in scale.datasets:
        standard, robust = (
            Key("datasets", name, scale.network, scale.optimizer, how, 0)
            for how in (STANDARD, ROBUST)
        )
        if set(grid.seeds(standard)) & set(grid.seeds(robust)):
            made.append((standard, robust))
    return made


def matched_networks(grid: Grid, standard: Key, robust: Key) -> tuple[Network, Network]:
    """Returns both under attack, the standard one at the radius that leaves it most alike."""
    attacked = Network(robust, AFTER_TRAINING)
    label = results.matched(grid, standard, float(grid.recall(attacked)[0].mean()))
    return Network(standard, label), attacked


def discrepancy(grid: Grid) -> Iterator[Claim]:
    """P2's abstract, for each dataset: clean, attacked alike, and attacked until as many fall."""
    for standard, robust in pairs(grid):
        for words, plain, trained in (
            ("clean", Network(standard, "clean"), Network(robust, "clean")),
            (
                "under PGD of the radius trained against",
                Network(standard, AFTER_TRAINING),
                Network(robust, AFTER_TRAINING),
            ),
            (
                "the standard one under PGD that leaves it most nearly as accurate as the other",
                *matched_networks(grid, standard, robust),
            ),
        ):
            for name, measure in (
                ("best class less worst", results.spread),
                ("standard deviation beyond chance", results.deviation),
            ):
                yield Claim(
                    f"{standard.dataset}, {words}: adversarial training widens it ({name})",
                    grid.contrast([(1, trained), (-1, plain)], measure),
                )


def orders(grid: Grid) -> Iterator[Claim]:
    """Rank correlations between the classes of two networks."""
    scale = grid.scale
    for standard, robust in pairs(grid):
        plain, trained = matched_networks(grid, standard, robust)
        for words, one, other in (
            ("clean", Network(standard, "clean"), Network(robust, "clean")),
            ("attacked", plain, trained),
        ):
            found = explain.rank_correlation(grid.recall(one), grid.recall(other))
            yield Claim(f"{standard.dataset}, {words}: standard and robust networks agree", found)
        if epochs := _settled(grid, robust):
            yield epochs
    base = Key("datasets", scale.base, scale.network, scale.optimizer, ROBUST, 0)
    for key in others(grid):
        standard = base._replace(method=key.method)
        if not grid.seeds(standard):
            continue
        label = AFTER_TRAINING
        if key.method == STANDARD:
            accuracy = float(grid.recall(Network(base, AFTER_TRAINING))[0].mean())
            label = results.matched(grid, standard, accuracy) if grid.seeds(base) else label
        found = explain.rank_correlation(
            grid.recall(Network(key, label)), grid.recall(Network(standard, label))
        )
        what = key.network if key.group == "networks" else key.optimizer
        usual = scale.network if key.group == "networks" else scale.optimizer
        yield Claim(f"{scale.base}, {key.method}, attacked: {what} and {usual} agree", found)


def others(grid: Grid) -> list[Key]:
    """Returns the other architectures and optimizers that are there, of seed 0."""
    found = (k._replace(seed=0) for k in grid.results if k.group in ("networks", "optimizers"))
    return list(dict.fromkeys(found))


def _settled(grid: Grid, robust: Key) -> Claim | None:
    """Returns how far the classes' order after half of the epochs is the one at the end."""
    trends = [grid.results[k]["trends"]["robust"] for k in grid.seeds(robust).values()]
    epochs = min(len(trend) for trend in trends)
    mean = np.mean([np.asarray(trend, float)[:epochs] for trend in trends], axis=0)
    if epochs < 4 or np.isnan(mean).any():
        return None
    found = explain.rank_correlation(mean[epochs // 2 - 1][None], mean[-1][None])
    words = f"{robust.dataset}: validation accuracies under attack after half of the epochs have"
    return Claim(f"{words} the order of the last", found)


def explanations(grid: Grid) -> Iterator[Claim]:
    """What P2 thinks might explain it: similar logits, mutual confusion, superclasses."""
    for pair in pairs(grid):
        for key in pair:
            label = AFTER_TRAINING if key.method == ROBUST else "clean"
            own = [grid.results[k] for k in grid.seeds(key).values()]
            nearest = np.mean(
                [explain.nearest_similarity(np.asarray(r["similarity"])) for r in own], 0
            )
            errors = 1 - grid.recall(Network(key, label))
            where = f"{key.dataset}, {key.method}, {label if label == 'clean' else 'attacked'}"
            yield Claim(
                f"{where}: classes with mean logits like another's are misclassified more often",
                explain.rank_correlation(errors, nearest[None]),
            )
            matrix = np.sum([explain.confusion(result, label) for result in own], axis=0)
            yield Claim(f"{where}: confusions are mutual", explain.symmetry(matrix))
            if key.dataset == "cifar100":
                share = explain.within_superclass(matrix, CIFAR100_SUPERCLASSES)
                value, low, high = (bound - share.chance for bound in share[:3])
                yield Claim(
                    f"{where}: errors stay in their superclass beyond chance",
                    Estimate(value, low, high, len(own), len(own)),
                )


def taught(grid: Grid) -> Iterator[Claim]:
    """Whether datasets of features teach, and whether what they teach differs between classes."""
    found = dict.fromkeys(k._replace(seed=0) for k in grid.results if k.method in TAUGHT)
    for key in found:
        network, classes = Network(key, "clean"), len(grid.names(key))
        accuracy = grid.contrast([(1, network)], results.mean)
        if accuracy is not None:
            value, low, high = (bound - 100 / classes for bound in accuracy[:3])
            yield Claim(
                f"{key.method} teaches to classify images as they are, beyond chance",
                accuracy._replace(value=value, low=low, high=high),
            )
        standard = key._replace(group="datasets", method=STANDARD)
        if grid.seeds(standard):
            own, plain = grid.recall(network), grid.recall(Network(standard, "clean"))
            yield Claim(
                f"its classes are ordered as those of {grid.scale.base}",
                explain.rank_correlation(own, plain),
            )


def remedy(grid: Grid) -> Iterator[Claim]:
    """P2's first scenario: all classes matter alike."""
    for key, plain in _treated(grid, critical=False):
        for words, measure, sign in (
            ("raises the worst class", results.worst, 1),
            ("narrows the spread", results.spread, -1),
            ("lowers the mean", results.mean, -1),
        ):
            found = _gain(grid, key, plain, measure)
            yield Claim(f"{key.method} {words}, attacked", found, sign)


def critical(grid: Grid) -> Iterator[Claim]:
    """P2's second scenario: one class matters most."""
    for key, plain in _treated(grid, critical=True):
        name = grid.names(plain)[CRITICAL]
        for label, words in (("clean", "clean"), (AFTER_TRAINING, "attacked")):
            gain = _gain(grid, key, plain, results.of_class(CRITICAL), label)
            loss = _gain(grid, key, plain, results.of_others(CRITICAL), label)
            yield Claim(f"{key.method} raises {name}, {words}", gain)
            yield Claim(f"{key.method} lowers the others' mean, {words}", loss, -1)


def _treated(grid: Grid, *, critical: bool) -> Iterator[tuple[Key, Key]]:
    """Yields each remedy that is there with plain PGD training, of seed 0."""
    scale = grid.scale
    for name in remedies(scale):
        key = Key("remedies", scale.base, scale.network, scale.optimizer, name, 0)
        plain = key._replace(group="datasets", method=ROBUST)
        if name.startswith("critical") == critical and set(grid.seeds(key)) & set(
            grid.seeds(plain)
        ):
            yield key, plain


def _gain(
    grid: Grid, key: Key, plain: Key, measure: results.Measure, label: str = AFTER_TRAINING
) -> Estimate | None:
    return grid.contrast([(1, Network(key, label)), (-1, Network(plain, label))], measure)


FIRST = ("gaussian_noise", "fog", "contrast")
"""Corruptions that P2 names; MNIST-C and the smoke run have others."""


def corruptions(grid: Grid) -> Iterator[Claim]:
    """Section 3.4: class accuracies under corruptions beside those under attack."""
    for standard, robust in pairs(grid):
        attacked = grid.recall(Network(robust, AFTER_TRAINING))
        for key in (standard, robust):
            own = [grid.results[k] for k in grid.seeds(key).values()]
            tables = [r["corruptions"]["class_accuracy"] for r in own]
            mean = np.mean([list(table.values()) for table in tables], axis=(0, 1))
            yield Claim(
                f"{key.dataset}: corrupted classes of the {key.method} network are ordered as the "
                "robust one's attacked",
                explain.rank_correlation(attacked, mean[None]),
            )
        yield from _each_corruption(grid, standard, robust, attacked)


def _each_corruption(
    grid: Grid, standard: Key, robust: Key, attacked: np.ndarray
) -> Iterator[Claim]:
    own = [grid.results[k]["corruptions"]["class_accuracy"] for k in grid.seeds(robust).values()]
    for name in FIRST:
        if name in own[0]:
            mean = np.mean([table[name] for table in own], axis=0)
            yield Claim(
                f"{robust.dataset}: so are the robust network's under {name}",
                explain.rank_correlation(attacked, mean[None]),
            )


def vulnerable(grid: Grid, network: Network, number: int = 3) -> Sequence[str]:
    """Returns the names of the classes with the lowest accuracies, the lowest first."""
    names = grid.names(network.key)
    return [names[i] for i in np.argsort(grid.recall(network)[0], kind="stable")[:number]]
