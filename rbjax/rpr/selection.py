"""Which training images to keep: the robust ones, or as many at random for comparison."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

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
    seed: int = 0,
) -> Subset:
    """Returns so many robust images of each class, chosen at random; all where there are fewer.

    n_c = min(per_class, #{i: robust_i, y_i = c}) images of class c. Which ones depends on the seed
    and on the examples' ids, not on the order of the rows; a smaller `per_class` keeps a part of
    what a larger one keeps.

    Args:
        robust: (N,) bool, the flags of `Scores.robust`.
        labels: (N,) integers in [0, K).
        num_classes: K.
        per_class: images of each class; 1,500 in the paper.
        example_ids: (N,) integers >= 0; None: the row numbers.
        seed: which ones, an integer >= 0.

    Returns:
        The subset; `available` counts the robust images, so that a class that had fewer than
        asked for shows.

    Raises:
        ValueError: for wrong shapes, labels or options, or if no image is robust.

    Source:
        Ilie, Popescu and Stefanescu 2020, "Robustness as Inherent Property of Datapoints", section
        2.3 (P4).
    """
    labels, example_ids = _checked(labels, num_classes, example_ids)
    robust = np.asarray(robust)
    if robust.shape != labels.shape or robust.dtype != np.bool_:
        raise ValueError(
            f"robust is {robust.dtype} of shape {robust.shape}; it must be bool {labels.shape}"
        )
    per_class = check_integer("per_class", per_class, low=1)
    candidates = np.flatnonzero(robust)
    if candidates.size == 0:
        raise ValueError("robust is False everywhere; at least one image must be robust")
    available = np.bincount(labels[candidates], minlength=num_classes)
    counts = np.minimum(available, per_class)
    rows = select(
        labels[candidates], example_ids[candidates], counts, seed=seed, name="robust subset"
    )
    return Subset(candidates[rows], counts, available)


def random_subset(
    labels: np.ndarray,
    *,
    class_counts: np.ndarray,
    example_ids: np.ndarray | None = None,
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
        seed: which ones, an integer >= 0.

    Returns:
        The subset; `available` counts all images of each class.

    Raises:
        ValueError: for wrong shapes or labels, or if a class has fewer images than asked for.
    """
    class_counts = np.asarray(class_counts)
    labels, example_ids = _checked(labels, class_counts.size, example_ids)
    rows = select(labels, example_ids, class_counts, seed=seed, name="random subset")
    available = np.bincount(labels, minlength=class_counts.size)
    return Subset(rows, class_counts.astype(np.int64), available)


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
