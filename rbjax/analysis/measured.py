"""What was measured of a model under each attack, or at each severity, alike for all results."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rbjax.analysis.evaluation import Report, recall_of, results_of
from rbjax.attacks import SuiteResult
from rbjax.attacks.outcome import Setting, Share, share
from rbjax.corruptions import CorruptionResult
from rbjax.errors import a_type
from rbjax.metrics import error_rates
from rbjax.sheet import spoken

_NORM_OR_NUMBER = re.compile(r"((?<![a-z0-9])l[012](?!\d))|\d[\d./]*", re.IGNORECASE)


class Measured(NamedTuple):
    """A model's accuracy, clean or under one attack."""

    label: str
    name: str
    """Of the attack; "" where it is not known."""
    setting: Setting
    """Of nothing where there is no attack."""
    correct: np.ndarray
    """(K,) images of each class that are correctly classified, of"""
    count: np.ndarray
    """(K,) images that count."""
    passes: float | None
    """Through the model, forwards and backwards, for one image."""
    targets: np.ndarray | None = None
    """The classes to be taken for, one an image that counts or one for all; None: any wrong one."""

    @property
    def accuracy(self) -> Share:
        """Of all images."""
        return share(self.correct.sum(), self.count.sum())

    @property
    def classes(self) -> np.ndarray:
        """(K,) accuracy of each class; NaN for one without images that count."""
        return share(self.correct, self.count).value

    @property
    def family(self) -> str:
        """The label without its numbers: "pgd" of "pgd 2/255" and of "pgd20"."""
        left = _NORM_OR_NUMBER.sub(lambda found: found[1] or "", self.label)
        return " ".join(left.split()).strip(" _-=:,@()") or "attack"

    @property
    def unsaid_name(self) -> str:
        """The attack's name, "" where the label begins with it."""
        return "" if self.label.startswith(self.name) else self.name

    @property
    def aim(self) -> str:
        """What images are to be taken for: "taken for class 3"; "" for any wrong class."""
        if self.targets is None:
            return ""
        classes = np.unique(self.targets)
        return f"taken for class {classes[0]}" if len(classes) == 1 else "taken for given targets"

    def __str__(self) -> str:
        setting = "" if str(self.setting) == "not said" else str(self.setting)
        said = ", ".join(filter(None, (self.unsaid_name, setting, self.aim)))
        return f"{self.label}: {said}" if said else self.label


_ARCHIVES = {
    "cifar": "CIFAR-10-C",
    "tiny_imagenet": "Tiny ImageNet-C",
    "imagenet": "ImageNet-C",
    "mnist": "MNIST-C",
}
"""Profiles, and what their constants were published with."""

Family = tuple[str, list[Measured]]
"""What a curve is called, and its points."""


class Levels(NamedTuple):
    """A model's accuracy under one corruption, from severity 0, clean, on."""

    name: str
    severities: np.ndarray
    """(S,) integers, ascending; the first is 0."""
    overall: np.ndarray
    """(S,) share of all images."""
    classes: np.ndarray
    """(S, K) share of each class; NaN for one without images."""


def attacked(result: Any) -> list[Measured]:
    """Returns what was measured, clean first, then under each attack, then the worst of several.

    Args:
        result: of `run_attacks` or `evaluate`.

    Raises:
        ValueError: for another result.
    """
    if isinstance(result, SuiteResult):
        return _of_suite(result)
    if isinstance(result, Report) and "results" in result:
        return _of_report(result)
    raise ValueError(
        f"result is {a_type(result)}; it must be what run_attacks, evaluate or read_report returned"
    )


def _of_suite(result: SuiteResult) -> list[Measured]:
    found, no_setting = [], Setting(None, None, "")
    for label in ["clean", *result.outcomes, *(["worst"] if len(result.outcomes) > 1 else [])]:
        outcome = result.outcomes.get(label)
        counted = np.ones_like(result.clean_correct) if outcome is None else outcome.counted
        correct, count = (
            np.bincount(result.labels[flags], minlength=result.num_classes)
            for flags in (result.correct(label) & counted, counted)
        )
        setting = no_setting if outcome is None else outcome.setting
        passes = None if outcome is None or outcome.passes is None else outcome.passes._asdict()
        targets = None if outcome is None or outcome.targets is None else outcome.targets[counted]
        found.append(Measured(label, "", setting, correct, count, _each(passes, count), targets))
    return found


def _of_report(report: Report) -> list[Measured]:
    found, settings = [], report.settings
    for label, result in results_of(report):
        correct, count = (np.asarray(result["classwise"][name]) for name in ("correct", "count"))
        spec = result.get("attack") or {}
        name, target = str(spec.get("name") or ""), spec.get("target_class")
        setting = settings.get(label, Setting(None, None, ""))
        passes = _each(result.get("passes"), count)
        targets = None if target is None else np.array([target])
        found.append(Measured(label, name, setting, correct, count, passes, targets))
    return found


def _each(passes: Mapping[str, Any] | None, count: np.ndarray) -> float | None:
    """Returns the passes for one image, of those over all images."""
    if not passes or not count.sum():
        return None
    return float((passes["forwards"] + passes["backwards"]) / count.sum())


def described(found: Sequence[Measured]) -> str:
    """Returns attacks with norm, epsilon and steps, and how many images: what a caption says."""
    count = int(found[0].count.sum())
    attacks = [str(one) for one in found if one.label not in ("clean", "worst")]
    parts = [
        f"{text} ({one.count.sum():,} images)" if one.count.sum() != count else text
        for text, one in zip(attacks, found[1:], strict=False)
    ]
    return "; ".join([*parts, f"n\xa0=\xa0{count:,} images"])


def over_epsilon(found: Sequence[Measured]) -> dict[str, list[Family]]:
    """Returns the attacks that were made at several sizes, by norm.

    Attacks whose labels differ in numbers alone, and that are alike in name, norm, steps, images
    that count and targets, are one curve; the clean accuracy is its value at 0.

    Args:
        found: of `attacked`.

    Raises:
        ValueError: if there is none.
    """
    sized = [one for one in found if one.setting.epsilon is not None]
    by_norm: dict[str, list[Family]] = {}
    for points in _curves(
        sized,
        alike=lambda one: (one.setting.norm, one.setting.effort),
        place=lambda one: float(one.setting.epsilon or 0.0),
    ):
        if len(points) < 2:
            continue
        setting = points[0].setting
        start = found[0]._replace(setting=setting._replace(epsilon=0.0))
        whole = np.array_equal(start.count, points[0].count)
        curve = [*([start] if whole else []), *points]
        name = _called(points[0], setting.effort, found[0])
        by_norm.setdefault(str(setting.norm), []).append((name, curve))
    if not by_norm:
        raise ValueError(
            "no attack of this result was made at several epsilons; run one at two or more, with "
            "labels that differ in numbers alone: 'pgd 2/255', 'pgd 8/255'"
        )
    return by_norm


def over_passes(found: Sequence[Measured]) -> list[Family]:
    """Returns the attacks whose passes are counted, as curves of different passes.

    Attacks whose labels differ in numbers alone, and that are alike in name, norm, epsilon, images
    that count and targets, are one curve.

    Args:
        found: of `attacked`.

    Raises:
        ValueError: if there are fewer than two.
    """
    counted = [one for one in found if one.passes]
    if len(counted) < 2:
        raise ValueError(
            "the passes of fewer than two attacks of this result are counted; run at least two, "
            "such as one with 10 and with 100 steps: 'pgd 10', 'pgd 100'"
        )
    families = _curves(
        counted,
        alike=lambda one: one.setting[:2],
        place=lambda one: float(one.passes or 0.0),
    )
    return [
        (f"{_called(of[0], '', found[0])}: {of[0].setting._replace(effort='')}", of)
        for of in families
    ]


def _curves(
    found: Sequence[Measured],
    *,
    alike: Callable[[Measured], tuple[Any, ...]],
    place: Callable[[Measured], float],
) -> list[list[Measured]]:
    """Returns the points of each curve, ascending; no two of one stand at the same place.

    Args:
        found: of `attacked`.
        alike: in what the points of a curve do not differ, besides family, name, the images of each
            class that count, and targets.
        place: where a point stands.
    """
    groups: dict[tuple[Any, ...], list[list[Measured]]] = {}
    for one in found:
        aim = None if one.targets is None else one.targets.tobytes()
        key = (one.family, one.name, one.count.tobytes(), aim, *alike(one))
        of_group = groups.setdefault(key, [])
        for points in of_group:
            if place(one) not in map(place, points):
                points.append(one)
                break
        else:
            of_group.append([one])
    return [sorted(points, key=place) for of_group in groups.values() for points in of_group]


def _called(one: Measured, effort: str, clean: Measured) -> str:
    """Returns what a curve is called: family, attack, how much it tries, on whom, to what end."""
    classes = np.flatnonzero(one.count)
    is_part = len(classes) == 1 and np.count_nonzero(clean.count) > 1
    whom = f"class {classes[0]} alone" if is_part else ""
    return ", ".join(filter(None, (one.family, one.unsaid_name, effort, whom, one.aim)))


def radii(by_norm: Mapping[str, Sequence[Family]]) -> str:
    """Returns what a caption says of curves over epsilon: attacks, norms, sizes, how many images.

    Args:
        by_norm: of `over_epsilon`.
    """
    parts, counts = [], []
    for norm, families in by_norm.items():
        for name, points in families:
            sizes = [spoken(one.setting.epsilon) for one in points if one.setting.epsilon]
            parts.append(f"{name}: {norm}, epsilon {', '.join(sizes)}")
            counts.append(int(points[-1].count.sum()))
    if len(set(counts)) > 1:
        parts = [f"{part}, {count:,} images" for part, count in zip(parts, counts, strict=True)]
    return "; ".join([*parts, f"n\xa0=\xa0{max(counts):,} images"])


def corrupted(result: Any) -> tuple[list[Levels], str]:
    """Returns the accuracies under each corruption, and what a caption says of them.

    Args:
        result: of `run_corruptions`, or of an evaluation under corruptions.

    Raises:
        ValueError: for another result, or if no corruption has several severities.
    """
    if isinstance(result, CorruptionResult):
        clean, by_class = error_rates(result.confusion())
        rates = {name: error_rates(result.confusion(name)) for name in result.predictions}
        shares = {name: (1 - whole, 1 - each) for name, (whole, each) in rates.items()}
        levels, profile, count = result.severities, result.profile, len(result.labels)
        start = float(1 - clean), 1 - by_class
    elif isinstance(result, Report) and result.get("corruptions"):
        part, first = result["corruptions"], result["results"]["clean"]
        whole, each = part["accuracy"], part["class_accuracy"]
        shares = {
            name: (np.asarray(whole[name], np.float64), np.asarray(each[name], np.float64))
            for name in part["order"]
        }
        levels, profile, count = part["severities"], part["profile"], sum(result["class_counts"])
        start = first["summary"]["accuracy"], recall_of(first)
    else:
        raise ValueError(
            f"result is {a_type(result)}; it must be what run_corruptions returned, or an "
            "evaluation under corruptions"
        )
    several = [name for name in shares if len(levels[name]) > 1]
    if not several:
        raise ValueError("each corruption of this result has one severity; a curve needs several")
    found = [_from_clean(name, levels[name], *shares[name], *start) for name in several]
    return found, f"{len(found)} corruptions, constants of {profile}; n\xa0=\xa0{count:,} images"


def corruptions_said(part: Mapping[str, Any], num_images: int) -> str:
    """Returns how many corrupted images there are, and whose constants they are of.

    Args:
        part: an evaluation's "corruptions".
        num_images: of the test set.
    """
    levels = sorted({len(part["severities"][name]) for name in part["order"]})
    each = " to ".join(map(str, dict.fromkeys((levels[0], levels[-1]))))
    constants = _ARCHIVES.get(part["profile"], part["profile"])
    kinds, several = len(part["order"]), levels[-1] > 1
    return (
        f"{kinds} corruption{'s' * (kinds > 1)} \u00d7 {each} severit{'ies' if several else 'y'} "
        f"\u00d7 {num_images:,} images, constants of {constants}"
    )


def _from_clean(
    name: str,
    severities: Sequence[int],
    overall: np.ndarray,
    classes: np.ndarray,
    clean: float,
    class_clean: np.ndarray,
) -> Levels:
    order = np.argsort(severities)
    return Levels(
        name,
        np.concatenate([[0], np.asarray(severities)[order]]),
        np.concatenate([[clean], overall[order]]),
        np.concatenate([np.asarray(class_clean)[None], classes[order]]),
    )
