"""Class counts of a long tail, and which examples stay.

A profile gives the number of examples of each class; `select` picks them.  Class 0 is the head.
Where classes differ by nature it acts on each class's own count, n_i lambda^i as P1 writes it.
Cui et al. (2019, arXiv:1901.05555), Cao et al. (2019, arXiv:1906.07413) and Buda et al. (2018,
arXiv:1710.05381) define the exponential, step and linear profiles.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np

from rbjax.data.order import priorities
from rbjax.inputs import ANY_NUMBER, check_labels
from rbjax.options import MOST, Count, Range, Share, checked, validate
from rbjax.tables import Table

Classes = Annotated[int, Range(low=2, high=MOST)]
Ratio = Annotated[float, Range(low=1.0)]

# Counts that are whole in exact arithmetic stay whole in floating point.
_SLACK = 1e-6


@checked
def balanced(
    *, num_max: Count | None = None, num_classes: Classes, class_counts: np.ndarray | None = None
) -> np.ndarray:
    """Returns equal class counts.

    Args:
        num_max: count of every class; left out, each keeps all it has.
        num_classes: K.
        class_counts: (K,) the examples there are of each class; without num_max alone.

    Returns:
        (K,) int64.

    Raises:
        ValueError: if an argument is out of range.
    """
    return _before(num_max, class_counts, num_classes)


@checked
def exponential(
    *,
    num_max: Count | None = None,
    num_classes: Classes,
    imbalance_ratio: Ratio | None = None,
    decay: Annotated[float, Range(above=0.0, high=1.0)] | None = None,
    class_counts: np.ndarray | None = None,
) -> np.ndarray:
    """Returns class counts that fall exponentially.

    floor(n_i * decay**i + 1e-6) for class i, n_i the count it has before.  `decay` is the lambda of
    P1; with the ratio given instead, decay = imbalance_ratio**(-1 / (K - 1)).  Both give the same
    counts.

    Args:
        num_max: n_i, the same of every class; left out, each class's own.
        num_classes: K.
        imbalance_ratio: class 0's count over the last one's, if all n_i are equal.
        decay: lambda of P1, n_i * lambda**i, in place of the ratio.
        class_counts: (K,) the examples there are of each class; without num_max alone.

    Returns:
        (K,) int64.

    Raises:
        ValueError: if an argument is out of range, or a class would be left empty.

    Source:
        Cui et al., 2019, arXiv:1901.05555 (long-tailed CIFAR).
    """
    if imbalance_ratio is not None and decay is not None:
        raise ValueError("give imbalance_ratio or decay, one of the two; both given")
    if imbalance_ratio is not None:
        decay = imbalance_ratio ** (-1.0 / (num_classes - 1))
    if decay is None:
        raise ValueError("give imbalance_ratio or decay, one of the two; none given")
    before = _before(num_max, class_counts, num_classes)
    return _filled(before * decay ** np.arange(num_classes) + _SLACK)


@checked
def linear(
    *,
    num_max: Count | None = None,
    num_classes: Classes,
    imbalance_ratio: Ratio,
    class_counts: np.ndarray | None = None,
) -> np.ndarray:
    """Returns class counts that fall linearly.

    floor(n_i - (n_i - n_i / imbalance_ratio) i / (K - 1) + 1/2) for class i, n_i the count it has
    before.

    Args:
        num_max: n_i, the same of every class; left out, each class's own.
        num_classes: K.
        imbalance_ratio: class 0's count over the last one's, if all n_i are equal.
        class_counts: (K,) the examples there are of each class; without num_max alone.

    Returns:
        (K,) int64.

    Raises:
        ValueError: if an argument is out of range, or a class would be left empty.

    Source:
        Buda et al., 2018, arXiv:1710.05381 (linear imbalance).
    """
    before = _before(num_max, class_counts, num_classes)
    steps = np.arange(num_classes) / (num_classes - 1)
    return _filled(before - (before - before / imbalance_ratio) * steps + 0.5 + _SLACK)


@checked
def step(
    *,
    num_max: Count | None = None,
    num_classes: Classes,
    imbalance_ratio: Ratio,
    minority_fraction: Share = 0.5,
    class_counts: np.ndarray | None = None,
) -> np.ndarray:
    """Returns class counts of two sizes.

    The first floor(K (1 - minority_fraction)) classes have n_i, the count they have before, the
    others floor(n_i / imbalance_ratio).

    Args:
        num_max: n_i, the same of every class; left out, each class's own.
        num_classes: K.
        imbalance_ratio: a large class's count over a small one's, if all n_i are equal.
        minority_fraction: share of the classes that are small.
        class_counts: (K,) the examples there are of each class; without num_max alone.

    Returns:
        (K,) int64.

    Raises:
        ValueError: if an argument is out of range, or a class would be left empty.

    Source:
        Buda et al., 2018, arXiv:1710.05381 (step imbalance); with half of the classes small,
        Cao et al., 2019, arXiv:1906.07413.
    """
    num_large = math.floor(num_classes * (1.0 - minority_fraction) + _SLACK)
    large = np.arange(num_classes) < num_large
    before = _before(num_max, class_counts, num_classes)
    return _filled(np.where(large, before, before / imbalance_ratio) + _SLACK)


@checked
def target(
    *,
    num_classes: Classes,
    target_class: Annotated[int, Range(low=0, high=MOST)] = 0,
    target_count: Count,
    other_count: Count,
) -> np.ndarray:
    """Returns class counts that are equal but for one class.

    P5 under-samples a class of CIFAR-10 to 1,000 of 5,000, or over-samples it by cutting every
    other class to 1,000.

    Args:
        num_classes: K.
        target_class: the class that differs, in [0, K).
        target_count: examples of that class; left out, all there are.
        other_count: examples of each other class; left out, all there are.

    Returns:
        (K,) int64.

    Raises:
        ValueError: if an argument is out of range.

    Source:
        Possas and Zhou, "Effectiveness of adversarial learning on class-imbalanced convolutional
        neural networks", section 3.2.
    """
    _check_class(target_class, num_classes)
    counts = np.full(num_classes, other_count, np.int64)
    counts[target_class] = target_count
    return counts


@checked
def power(
    *,
    class_counts: np.ndarray,
    power: Annotated[float, Range(low=0.0, high=10.0)] = 1.0,
    num_max: Count | None = None,
) -> np.ndarray:
    """Returns class counts that sharpen or relax the imbalance a dataset has by nature.

    n'_c = floor(m (n_c / n_max)**power + 1e-6), n_max the largest count.  1 keeps the proportions,
    0 makes classes equal, 1/2 halves the imbalance on a logarithmic scale, 2 doubles it.  m is
    `num_max`, or the largest that no class is too small for: n_max where the power is at least 1,
    else n_max (n_min / n_max)**(1 - power).

    Args:
        class_counts: (K,) the examples there are of each class, at least 1.
        power: of the natural imbalance: 0 makes classes equal, 1/2 halves it on a logarithmic
            scale.
        num_max: count of the largest class; None: the most there can be.

    Returns:
        (K,) int64.

    Raises:
        ValueError: if an argument is out of range, or a class would be left empty.
    """
    counts = np.asarray(class_counts, np.float64)
    if counts.min() < 1:
        raise ValueError(f"class {int(np.argmin(counts))} has no examples; must be at least 1")
    shares = counts / counts.max()
    largest = counts.max() * min(1.0, shares.min() ** (1.0 - power))
    if num_max is not None:
        largest = num_max
    return _filled(largest * shares**power + _SLACK)


def create(name: str | np.ndarray, *, class_counts: np.ndarray, **options: Any) -> np.ndarray:
    """Returns a profile's class counts for a dataset.

    Args:
        name: one of PROFILES, or `package.module:maker`; or the counts themselves, (K,).
        class_counts: (K,) the examples there are of each class.
        **options: the profile's own; one that is None counts as not given.  Without `num_max` a
            profile acts on what there is of each class; `target_count` and `other_count` are all
            there is.

    Returns:
        (K,) int64, at most `class_counts`.

    Raises:
        ValueError: if the name or an option is unknown, a value is out of range, or a class has
            fewer examples than asked for.
    """
    class_counts = np.asarray(class_counts, np.int64)
    if not isinstance(name, str):
        counts = np.asarray(name, np.int64)
    else:
        options = {key: value for key, value in options.items() if value is not None}
        counts = _of_profile(name, class_counts, options)
    _check_available(counts, class_counts)
    return counts


def _of_profile(name: str, class_counts: np.ndarray, options: dict[str, Any]) -> np.ndarray:
    """Returns a profile's counts, what was left out taken from the counts there are."""
    own, options = PROFILES.options(name), dict(options)
    seed = options.pop("seed", 0) if PROFILES.accepts(name, "seed") else 0
    left_out = [option for option in PROFILES.derived if option in own and option not in options]
    PROFILES.check(name, own, [*options, *left_out])
    options = validate(own, options)
    if name == "target":
        return _target_of(class_counts, **options)
    supplied = {"num_classes": len(class_counts), "class_counts": class_counts, "seed": seed}
    counts = PROFILES.create(name, options, **supplied)
    shape, kind = np.shape(counts), np.asarray(counts).dtype.kind
    if shape != class_counts.shape or kind not in "iu" or np.min(counts) < 0:
        raise ValueError(
            f"imbalance profile {name!r} makes {counts!r}; it must make {len(class_counts)} whole "
            "numbers of at least 0, one per class"
        )
    return counts


def select(
    labels: np.ndarray,
    example_ids: np.ndarray,
    class_counts: np.ndarray,
    *,
    seed: int = 0,
    name: str = "imbalance",
) -> np.ndarray:
    """Picks so many examples of each class.

    Each class is ordered by a random number that depends on the seed and the example's id; the
    first `class_counts[c]` of class c stay.  The same examples are picked however the split is
    stored, and smaller counts pick a subset of what larger ones do.

    Args:
        labels: (N,) integers in [0, K).
        example_ids: (N,) integers, an example's rank in its split.
        class_counts: (K,) how many to pick of each class.
        seed: an integer >= 0.
        name: the stream of random numbers.

    Returns:
        (sum of class_counts,) int64 row numbers, ascending.

    Raises:
        ValueError: if a class has fewer examples than asked for, or the seed is negative.
    """
    class_counts = np.asarray(class_counts, np.int64)
    labels = check_labels(labels, num_examples=len(example_ids), num_classes=ANY_NUMBER)
    _check_available(class_counts, np.bincount(labels, minlength=len(class_counts)))
    order = np.argsort(priorities(example_ids, seed=seed, name=name), kind="stable")
    picked = [order[labels[order] == label][:count] for label, count in enumerate(class_counts)]
    return np.sort(np.concatenate(picked)).astype(np.int64)


PROFILES: Table[np.ndarray] = Table(
    "imbalance profile",
    {
        "balanced": balanced,
        "exponential": exponential,
        "linear": linear,
        "power": power,
        "step": step,
        "target": target,
    },
    supplied=("num_classes", "class_counts", "seed"),
    derived=("target_count", "other_count"),
)

LEVELS: dict[str, tuple[str, dict[str, float]]] = {
    "balanced": ("balanced", {}),
    "linear": ("linear", {"imbalance_ratio": 100.0}),
    "long_tailed": ("exponential", {"imbalance_ratio": 100.0}),
}
"""P1's three levels of distribution bias: profile and options, for `create`.

Its figure 1 draws them on CIFAR-100 without a number; the ratio of 100 is the field's most used.
"""


def _target_of(
    class_counts: np.ndarray,
    *,
    target_class: int = 0,
    target_count: int | None = None,
    other_count: int | None = None,
) -> np.ndarray:
    """`target`, where a count that is not given is all there is of each class."""
    num_classes = len(class_counts)
    _check_class(target_class, num_classes)
    counts = class_counts.copy()
    if other_count is not None:
        counts[:] = other_count
        counts[target_class] = class_counts[target_class]
    if target_count is not None:
        counts[target_class] = target_count
    return counts


def _before(num_max: int | None, class_counts: np.ndarray | None, num_classes: int) -> np.ndarray:
    """Returns what each class has before a profile, (K,) int64."""
    if num_max is not None:
        return np.full(num_classes, num_max, np.int64)
    if class_counts is None or np.shape(class_counts) != (num_classes,):
        raise ValueError(
            f"num_max is None; it must be a number, or class_counts the {num_classes} counts that "
            "there are"
        )
    return np.array(class_counts, np.int64)


def _check_class(target_class: int, num_classes: int) -> None:
    whole = isinstance(target_class, int | np.integer) and not isinstance(target_class, bool)
    if not whole or not 0 <= target_class < num_classes:
        raise ValueError(f"target_class = {target_class!r}: must be in 0..{num_classes - 1}")


def _filled(counts: np.ndarray) -> np.ndarray:
    """Rounds down, and refuses a class with nothing in it."""
    counts = np.floor(counts).astype(np.int64)
    if counts.min() < 1:
        empty = int(np.argmin(counts >= 1))
        raise ValueError(
            f"class {empty} would have no examples, with {counts[0]} of class 0; "
            "lower the imbalance or raise num_max"
        )
    return counts


def _check_available(asked: np.ndarray, available: np.ndarray) -> None:
    if len(asked) != len(available):
        raise ValueError(f"class_counts has {len(asked)} classes, the labels have {len(available)}")
    if np.any(asked < 0):
        raise ValueError(f"class_counts = {asked.tolist()}: must be at least 0")
    short = np.flatnonzero(asked > available)
    if len(short):
        label = int(short[0])
        raise ValueError(
            f"class {label}: {asked[label]} examples asked for, {available[label]} available"
        )
