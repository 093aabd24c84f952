"""Images chosen by the order in which they are stored, as P5's code does."""

from __future__ import annotations

import numpy as np

FIRST_LABELS = (6, 9, 9, 4, 1, 1, 2, 7, 8, 3)
"""Of CIFAR-10's data_batch_1, the order of its makers and of Keras."""


def rows(
    labels: np.ndarray, index: np.ndarray, *, stored: str, target: int | None, each: int
) -> np.ndarray:
    """Returns the training images that P5's code keeps.

    Under-sampled, the first four fifths of the class are dropped (4,000 of 5,000); over-sampled,
    the first four fifths of all other images, whatever their classes (36,000 of 45,000), so that
    these are not equally many.

    Args:
        labels: (N,) integers.
        index: (N,) the place of each image in the order as stored.
        stored: "balanced", "under" or "over".
        target: the class; None where it is balanced.
        each: images of a class that are there to begin with, the first as stored.

    Returns:
        Row numbers, ascending.
    """
    order = np.argsort(index, kind="stable")
    there = np.concatenate([order[labels[order] == c][:each] for c in np.unique(labels)])
    there = there[np.argsort(index[there], kind="stable")]
    if stored == "balanced":
        return np.sort(there)
    is_target = labels[there] == target
    dropped = there[is_target if stored == "under" else ~is_target]
    dropped = dropped[: len(dropped) - len(dropped) // 5]
    return np.setdiff1d(there, dropped)


def is_original(labels: np.ndarray, index: np.ndarray) -> bool:
    """Returns whether CIFAR-10's training images lie in the order of its makers.

    Args:
        labels: (N,) integers.
        index: (N,) the place of each image in the order as stored.
    """
    first = labels[np.argsort(index, kind="stable")[: len(FIRST_LABELS)]]
    return tuple(first.tolist()) == FIRST_LABELS
