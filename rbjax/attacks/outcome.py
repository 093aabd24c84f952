"""What attacks did to a dataset, example by example; shares with their intervals follow from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rbjax.attacks.counting import Passes
from rbjax.inputs import to_float
from rbjax.metrics import wilson_interval
from rbjax.sheet import Sheet, spoken
from rbjax.tables import lookup

_COUNTED = {
    "num_steps": ("step", "steps"),
    "num_queries": ("query", "queries"),
    "num_epochs": ("epoch", "epochs"),
    "max_passes": ("pass", "passes"),
    "num_restarts": ("restart", "restarts"),
}
"""Options of attacks that say how much they try."""


class Setting(NamedTuple):
    """What an attack may do, as it stands in the heading of every table."""

    norm: str | None
    """None where the attack does not say."""
    epsilon: float | None
    """Radius of the ball; None: any size, or the attack does not say."""
    effort: str
    """How much it tries: "20 steps", "5,000 queries", "standard"."""

    def __str__(self) -> str:
        size = "" if self.epsilon is None else f"epsilon {spoken(self.epsilon)}"
        return ", ".join(filter(None, (self.norm, size, self.effort))) or "not said"


def setting_of(entry: Any) -> Setting:
    """Returns what an entry of `run_attacks` may do, as far as it says.

    Args:
        entry: as for `spec_of`.
    """
    spec = spec_of(entry)
    effort = [str(spec["version"])] if spec.get("version") else []
    for name in _COUNTED:
        count = spec.get(name)
        if isinstance(count, int) and not (name == "num_restarts" and count <= 1):
            effort.append(counted(name, count))
    return Setting(spec.get("norm"), spec.get("epsilon"), ", ".join(effort))


def spec_of(entry: Any) -> dict[str, Any]:
    """Returns that by the names of options, as a config has it; what is not said is left out.

    Args:
        entry: an attack or a driver: its `threat`, and what its plan or its options count.
    """
    options = dict(getattr(entry, "options", None) or ())
    plan, threat = getattr(entry, "plan", None), getattr(entry, "threat", None)
    said = {name: options.get(name) for name in ("norm", "epsilon")}
    if threat is not None:
        said = {"norm": threat.norm, "epsilon": threat.epsilon}
    said["version"] = getattr(entry, "version", options.get("version"))
    said |= {name: options.get(name, getattr(plan, name, None)) for name in _COUNTED}
    return {name: value for name, value in said.items() if value is not None}


def counted(name: str, count: int) -> str:
    """Returns how much an option says is tried: "1 step", "5,000 queries"."""
    return f"{count:,} {_COUNTED[name][count != 1]}"


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
    setting: Setting
    """Norm, epsilon and steps."""
    probability: np.ndarray
    """(N,) float32, what the model gives the predicted class; NaN where it is none, or a driver
    does not say."""
    images: np.ndarray | None
    """(N, H, W, C) float32, the attacked images, by `keep_images` of `run_attacks`; an image that
    is not counted is as it was. None: not kept, or a driver has none."""

    @property
    def fooled(self) -> np.ndarray:
        """(N,) bool: misclassified, or taken for the target where there is one."""
        if self.targets is None:
            return self.counted & ~self.correct
        return self.counted & (self.predictions == self.targets)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class SuiteResult:
    """What every attack did to every example, each attack alone; `print` it for a table."""

    labels: np.ndarray
    """(N,) int32."""
    num_classes: int
    clean: np.ndarray
    """(N,) int32, the class of each image as it is."""
    clean_probability: np.ndarray
    """(N,) float32, what the model gives that class."""
    outcomes: Mapping[str, Outcome]
    """By the attacks' labels, in their order."""

    @property
    def settings(self) -> dict[str, Setting]:
        """Norm, epsilon and steps of each attack."""
        return {label: outcome.setting for label, outcome in self.outcomes.items()}

    @property
    def sheet(self) -> Sheet:
        """An attack a row: what is correctly classified, with its interval, and what is fooled."""
        labels = ["clean", *self.outcomes, *(["worst"] if len(self.outcomes) > 1 else [])]
        shares = [self.accuracy(label) for label in labels]
        classes = [self.class_accuracy(label).value for label in labels]
        lowest = [int(np.nanargmin(of_class)) for of_class in classes]
        return Sheet(
            f"run_attacks: {len(self.labels):,} images of {self.num_classes} classes, correctly "
            f"classified in per cent, 95 % interval\n{described(self.settings)}",
            {
                "attack": labels,
                "images": [of.count for of in shares],
                "correct": [of.value for of in shares],
                "low": [of.low for of in shares],
                "high": [of.high for of in shares],
                "fooled": [
                    self.attack_success_rate(label).value if label in self.outcomes else None
                    for label in labels
                ],
                "worst class": lowest,
                "its correct": [
                    of_class[label] for of_class, label in zip(classes, lowest, strict=True)
                ],
            },
        )

    def __repr__(self) -> str:
        return repr(self.sheet)

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

    def correct(self, label: str = "worst") -> np.ndarray:
        """Returns which images are correctly classified, (N,) bool; see `accuracy`."""
        return self._flags(label)[0]

    def _flags(self, label: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns which images are right, and which count, (N,) bool each."""
        if label in ("clean", "worst"):
            correct = self.clean_correct if label == "clean" else self.worst
            return correct, np.ones_like(correct)
        outcome = lookup(self.outcomes, label, what="attack")
        return outcome.correct, outcome.counted

    def _per_class(self, flags: np.ndarray) -> np.ndarray:
        return np.bincount(self.labels[flags], minlength=self.num_classes)


def described(settings: Mapping[str, Setting]) -> str:
    """Returns attacks with their settings, for a heading."""
    return "; ".join(f"{label}: {setting}" for label, setting in settings.items())


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Verdict:
    """What AutoAttack, or A3, says of a dataset."""

    predictions: np.ndarray
    """(N,) int32, the class of each attacked image."""
    probability: np.ndarray
    """(N,) float32, what the model gives that class; NaN where it is none."""
    robust: np.ndarray
    """(N,) bool: correctly classified as it is, and after every attack."""
    clean_predictions: np.ndarray
    """(N,) int32."""
    clean_probability: np.ndarray
    """(N,) float32."""
    accuracy_after: dict[str, float]
    """Share of all images that is still robust: "clean", then after each attack or round, in
    order."""
    num_attacked: dict[str, int]
    """Images that each attack was run on; of a round, once for each of its repeats."""
    forwards: int
    """Passes of one image forwards, over the whole run."""
    backwards: int
    """And backwards."""
    notes: tuple[str, ...]
    """What was done otherwise than in the version asked for, and why."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Attacked(Verdict):
    """The same with the images."""

    images: np.ndarray
    """(N, H, W, C) float32, adversarial ones where there are any."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class AutoAttackResult(Verdict):
    """What AutoAttack, or A3, did to a dataset; `print` it for a table."""

    name: str
    """Of the function that returned it."""
    setting: Setting
    labels: np.ndarray
    """(N,) int32."""
    num_classes: int
    adversarial_rows: np.ndarray
    """(M,) int64, the images for which there is an adversarial one, ascending."""
    adversarial: np.ndarray | None
    """(M, H, W, C) float32, those adversarial images, by `keep_images`; None: not kept."""
    originals: Any
    """(N, H, W, C), the images as they were given, where those are kept; else None."""

    @property
    def images(self) -> np.ndarray | None:
        """(N, H, W, C) float32, made anew: adversarial where there is one; None: not kept."""
        if self.adversarial is None:
            return None
        images = np.array(to_float(np.asarray(self.originals[:])))
        images[self.adversarial_rows] = self.adversarial
        return images

    @property
    def sheet(self) -> Sheet:
        """An attack or round a row: what is still robust after it."""
        count = len(self.labels)
        after = [share(round(value * count), count) for value in self.accuracy_after.values()]
        notes = "".join(f"\n{note}" for note in self.notes)
        return Sheet(
            f"{self.name}: {self.setting}\n{count:,} images of {self.num_classes} classes, still "
            f"robust in per cent, 95 % interval; {self.forwards:,} passes forwards, "
            f"{self.backwards:,} backwards{notes}",
            {
                "after": list(self.accuracy_after),
                "attacked": [self.num_attacked.get(name) for name in self.accuracy_after],
                "robust": [of.value for of in after],
                "low": [of.low for of in after],
                "high": [of.high for of in after],
            },
        )

    def __repr__(self) -> str:
        return repr(self.sheet)
