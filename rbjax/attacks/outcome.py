"""What attacks did to a dataset, example by example; shares with their intervals follow from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rbjax.attacks.counting import Passes
from rbjax.metrics import wilson_interval
from rbjax.tables import lookup


class Share(NamedTuple):
    """A share of examples, or one a class, with its 95 % interval (Wilson)."""

    value: Any
    """In [0, 1]; NaN of no examples."""
    low: Any
    high: Any
    count: Any
    """Examples it is of."""


def share(successes: ArrayLike, trials: ArrayLike) -> Share:
    """Returns the share of some examples in all of them.

    Args:
        successes: counts of any shape.
        trials: counts of the same shape.

    Returns:
        Arrays of that shape; numbers for numbers.
    """
    successes, trials = np.asarray(successes), np.asarray(trials)
    low, high = wilson_interval(successes, trials)
    value = np.where(trials > 0, successes / np.maximum(trials, 1), np.nan)
    if value.ndim == 0:
        return Share(float(value), float(low), float(high), int(trials))
    return Share(value, low, high, trials)


class Outcome(NamedTuple):
    """What one attack did."""

    predictions: np.ndarray
    """(N,) int32, the class of each attacked image; of the image as it is where not counted."""
    correct: np.ndarray
    """(N,) bool, whether that is the label."""
    counted: np.ndarray
    """(N,) bool, which images were attacked; no other counts."""
    targets: np.ndarray | None
    """(N,) int32, the classes to be taken for; None: any wrong one."""
    seconds: float
    """That it took in this call, compilation included."""
    passes: Passes | None
    """Through the model, of one image at a time, over all images attacked; None: not counted."""
    details: dict[str, Any]
    """What else a driver says: its numbers and words."""
    kept: dict[str, np.ndarray]
    """Arrays that a driver wants kept, such as a perturbation."""

    @property
    def fooled(self) -> np.ndarray:
        """(N,) bool: misclassified, or taken for the target where there is one."""
        if self.targets is None:
            return self.counted & ~self.correct
        return self.counted & (self.predictions == self.targets)


@dataclasses.dataclass(frozen=True, eq=False)
class SuiteResult:
    """What every attack did to every example, each attack alone."""

    labels: np.ndarray
    """(N,) int32."""
    num_classes: int
    clean: np.ndarray
    """(N,) int32, the class of each image as it is."""
    outcomes: Mapping[str, Outcome]
    """By the attacks' labels, in their order."""

    @property
    def clean_correct(self) -> np.ndarray:
        """(N,) bool, which images are correctly classified as they are."""
        return self.clean == self.labels

    @property
    def worst(self) -> np.ndarray:
        """(N,) bool, which images are correctly classified as they are and under every attack."""
        worst = self.clean_correct
        for outcome in self.outcomes.values():
            worst = worst & (outcome.correct | ~outcome.counted)
        return worst

    def accuracy(self, label: str = "worst") -> Share:
        """Returns the share of the images that are correctly classified.

        Args:
            label: "clean", an attack's, or "worst": as they are and under every attack.

        Returns:
            The share among the images that the attack counts.

        Raises:
            ValueError: for an unknown label.
        """
        correct, counted = self._flags(label)
        return share(np.sum(correct & counted), np.sum(counted))

    def class_accuracy(self, label: str = "worst") -> Share:
        """Returns each class's share, (K,) arrays; see `accuracy`."""
        correct, counted = self._flags(label)
        return share(self._per_class(correct & counted), self._per_class(counted))

    def attack_success_rate(self, label: str) -> Share:
        """Returns the share that an attack fools of the images correctly classified as they are."""
        outcome = lookup(self.outcomes, label, what="attack")
        attacked = outcome.counted & self.clean_correct
        return share(np.sum(outcome.fooled & attacked), np.sum(attacked))

    def class_success_rate(self, label: str) -> Share:
        """Returns each class's share, (K,) arrays; see `attack_success_rate`."""
        outcome = lookup(self.outcomes, label, what="attack")
        attacked = outcome.counted & self.clean_correct
        return share(self._per_class(outcome.fooled & attacked), self._per_class(attacked))

    def _flags(self, label: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns which images are right, and which count, (N,) bool each."""
        if label in ("clean", "worst"):
            correct = self.clean_correct if label == "clean" else self.worst
            return correct, np.ones_like(correct)
        outcome = lookup(self.outcomes, label, what="attack")
        return outcome.correct, outcome.counted

    def _per_class(self, flags: np.ndarray) -> np.ndarray:
        return np.bincount(self.labels[flags], minlength=self.num_classes)
