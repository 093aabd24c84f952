"""Which training images to keep: the robust ones, or as many at random for comparison."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rbjax.data import groups as whole_groups
from rbjax.data.imbalance import select
from rbjax.inputs import ANY_NUMBER, check_integer, check_labels


class Subset(NamedTuple):
    """Some rows of a dataset."""

    rows: np.ndarray
    """(M,) int64, ascending."""
    class_counts: np.ndarray
    """(K,) int64, how many rows of each class."""
    available: np.ndarray
    """(K,) int64, how many of each class there were to choose from."""


def robust_subset(
    robust: np.ndarray,
    labels: np.ndarray,
    *,
    num_classes: int,
    per_class: int = 1500,
    example_ids: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    seed: int = 0,
) -> Subset:
    """Returns so many robust images of each class, chosen at random; all where there are fewer.

    n_c = min(per_class, #{i: robust_i, y_i = c}) images of class c. Which ones depends on the seed
    and on the examples' ids, not on the order of the rows; a smaller `per_class` keeps a part of
    what a larger one keeps. With groups it takes all images of a group or none, of groups more than
    half of whose images are robust, and about so many of each class.

    Args:
        robust: (N,) bool, the flags of `Scores.robust`.
        labels: (N,) integers in [0, K).
        num_classes: K.
        per_class: images of each class; 1,500 in the paper.
        example_ids: (N,) integers >= 0; None: the row numbers.
        groups: (N,) integers, `Dataset.groups`: images that are alike, which the config's
            `dataset.subset` takes together or not at all; None: each by itself.
        seed: which ones, an integer >= 0.

    Returns:
        The subset; `available` counts the robust images, so that a class that had fewer than
        asked for shows.

    Raises:
        ValueError: for wrong shapes, labels or options, or if no image is robust.

    Source:
        Ilie, Popescu and Stefanescu 2020, "Robustness as Inherent Property of Datapoints", section
        2.3 (P4).

    Example:
        >>> robust = np.array([True, True, False, True])
        >>> rbjax.rpr.robust_subset(
        ...     robust, np.array([0, 0, 0, 1]), num_classes=2, per_class=2
        ... ).rows.tolist()
        [0, 1, 3]
    """
    labels, example_ids = _checked(labels, num_classes, example_ids)
    robust = np.asarray(robust)
    if robust.shape != labels.shape or robust.dtype != np.bool_:
        raise ValueError(
            f"robust is {robust.dtype} of shape {robust.shape}; it must be bool {labels.shape}"
        )
    per_class = check_integer("per_class", per_class, low=1)
    if not robust.any():
        raise ValueError("robust is False everywhere; at least one image must be robust")
    if groups is not None:
        of = np.unique(_checked_groups(groups, labels), return_inverse=True)[1]
        robust = (2 * np.bincount(of, robust) > np.bincount(of))[of]
        if not robust.any():
            raise ValueError("robust is False for half of each group or more: none can be kept")
    candidates = np.flatnonzero(robust)
    available = np.bincount(labels[candidates], minlength=num_classes)
    counts = np.minimum(available, per_class)
    return _subset(labels, example_ids, groups, candidates, counts, seed, "robust subset")


def random_subset(
    labels: np.ndarray,
    *,
    class_counts: np.ndarray,
    example_ids: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    seed: int = 0,
) -> Subset:
    """Returns so many images of each class at random, robust or not: a robust subset's control.

    What a model gains by training on robust images shows against a model trained on as many images
    of each class that were not chosen by their robustness. The draw is independent of
    `robust_subset`'s.

    Args:
        labels: (N,) integers in [0, K).
        class_counts: (K,) images of each class, `Subset.class_counts` of the robust subset.
        example_ids: (N,) integers >= 0; None: the row numbers.
        groups: (N,) integers, `Dataset.groups`: images that are alike, which the config's
            `dataset.subset` takes together or not at all; None: each by itself.
        seed: which ones, an integer >= 0.

    Returns:
        The subset; `available` counts all images of each class.

    Raises:
        ValueError: for wrong shapes or labels, or if a class has fewer images than asked for.

    Example:
        >>> subset = rbjax.rpr.random_subset(np.array([0, 0, 0, 1]), class_counts=np.array([2, 1]))
        >>> len(subset.rows), int(subset.rows[-1])
        (3, 3)
    """
    class_counts = np.asarray(class_counts)
    labels, example_ids = _checked(labels, class_counts.size, example_ids)
    if groups is not None:
        _checked_groups(groups, labels)
    candidates = np.arange(labels.size)
    return _subset(labels, example_ids, groups, candidates, class_counts, seed, "random subset")


def _subset(
    labels: np.ndarray,
    example_ids: np.ndarray,
    groups: np.ndarray | None,
    candidates: np.ndarray,
    counts: np.ndarray,
    seed: int,
    name: str,
) -> Subset:
    """Returns so many of the candidates of each class, or about so many in whole groups."""
    labels, num_classes = labels[candidates], counts.size
    if groups is None:
        rows = select(labels, example_ids[candidates], counts, seed=seed, name=name)
    else:
        some = np.asarray(groups)[candidates]
        rows = whole_groups.select(labels, some, counts, seed=seed, name=name)
    taken = np.bincount(labels[rows], minlength=num_classes)
    return Subset(candidates[rows], taken, np.bincount(labels, minlength=num_classes))


def _checked_groups(groups: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the groups, which must be integers, one an example."""
    groups = np.asarray(groups)
    if groups.shape != labels.shape or groups.dtype.kind not in "iu":
        raise ValueError(
            f"groups is {groups.dtype} of shape {groups.shape}; it must be integers {labels.shape}"
        )
    return groups


def _checked(
    labels: np.ndarray, num_classes: int, example_ids: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns labels and ids, (N,) each."""
    labels = np.asarray(labels)
    ids = np.arange(labels.size) if example_ids is None else np.asarray(example_ids)
    if labels.ndim != 1 or ids.shape != labels.shape:
        raise ValueError(
            f"labels and example_ids have shapes {labels.shape} and {ids.shape}; both must be (N,)"
        )
    ids = check_labels(ids, num_examples=ids.size, num_classes=ANY_NUMBER, field="example_ids")
    return check_labels(labels, num_examples=ids.size, num_classes=num_classes), ids
