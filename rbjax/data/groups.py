"""Selections that take all of a group or nothing: frames of one track, images of one patient."""

from __future__ import annotations

import numpy as np

from rbjax.data.order import priorities


def select(
    labels: np.ndarray,
    groups: np.ndarray,
    class_counts: np.ndarray,
    *,
    seed: int = 0,
    name: str = "imbalance",
) -> np.ndarray:
    """Picks whole groups, so that there are about so many examples of each class.

    Groups come in a random order; one is picked if that brings the counts nearer to those asked
    for, sum_c |picked_c - asked_c|.  A class of which something is asked for and nothing was picked
    then gets the first of its groups, however large.

    Args:
        labels: (N,) integers in [0, K).
        groups: (N,) integers.
        class_counts: (K,) how many to pick of each class.
        seed: an integer >= 0.
        name: the stream of random numbers.

    Returns:
        Row numbers, ascending, int64.
    """
    asked, (sizes, group_of) = np.asarray(class_counts, np.int64), _sizes(labels, groups)
    sizes = np.pad(sizes, ((0, 0), (0, len(asked) - sizes.shape[1])))
    picked, counts = np.zeros(len(sizes), bool), np.zeros_like(asked)
    ordered = _ordered(len(sizes), seed=seed, name=name)
    for group in ordered:
        after = counts + sizes[group]
        if np.abs(after - asked).sum() < np.abs(counts - asked).sum():
            picked[group], counts = True, after
    for label in np.flatnonzero(asked > 0):
        if counts[label] == 0:
            first = ordered[np.argmax(sizes[ordered, label] > 0)]
            picked[first], counts = True, counts + sizes[first]
    return np.flatnonzero(picked[group_of])


def first(groups: np.ndarray, num_examples: int, *, seed: int = 0, name: str) -> np.ndarray:
    """Picks whole groups in a random order, each that still has room.

    Args:
        groups: (N,) integers.
        num_examples: how many to pick at most.
        seed: an integer >= 0.
        name: the stream of random numbers.

    Returns:
        Row numbers, ascending, int64.

    Raises:
        ValueError: if not even the smallest group has room.
    """
    sizes, group_of = _sizes(np.zeros_like(groups), groups)
    picked, room = np.zeros(len(sizes), bool), num_examples
    for group in _ordered(len(sizes), seed=seed, name=name):
        if sizes[group, 0] <= room:
            picked[group], room = True, room - sizes[group, 0]
    if not picked.any():
        raise ValueError(
            f"{num_examples} examples: not even the smallest group has room, of {sizes.min()}"
        )
    return np.flatnonzero(picked[group_of])


def _sizes(labels: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the examples of each class in each group, (G, K), and each example's group."""
    known, group_of = np.unique(groups, return_inverse=True)
    sizes = np.zeros((len(known), int(np.max(labels, initial=0)) + 1), np.int64)
    np.add.at(sizes, (group_of, labels), 1)
    return sizes, group_of


def _ordered(num_groups: int, *, seed: int, name: str) -> np.ndarray:
    return np.argsort(priorities(np.arange(num_groups), seed=seed, name=name), kind="stable")
