"""Draws of test images with replacement, class by class: a bootstrap of class accuracies."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from rbjax.inputs import ANY_NUMBER, check_labels
from rbjax.options import Count, checked


@checked
def resample_classes(
    labels: ArrayLike, *, num_draws: Count = 2000, seed: int = 0
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yields how much each image of a class counts in each draw.

    A draw takes n_c of the n_c images of class c with replacement. The mean over the class of any
    number an image is `weights @ numbers[rows]`; the same weights for two models make their
    difference paired.

    Args:
        labels: (N,) integers, the classes of the images.
        num_draws: D.
        seed: an integer >= 0; the same labels and seed give the same draws.

    Returns:
        For each class that has images, ascending: the class, its rows (n_c,), and weights (D, n_c)
        float64 that sum to 1 in each draw.

    Raises:
        ValueError: for labels that are no (N,) integers, or a number out of its range.

    Source: Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979, Annals of Statistics 7.

    Example:
        >>> for label, rows, weights in rbjax.metrics.resample_classes([0, 1, 0], num_draws=4):
        ...     print(label, rows, weights.shape, weights.sum(axis=1))
        ...
        0 [0 2] (4, 2) [1. 1. 1. 1.]
        1 [1] (4, 1) [1. 1. 1. 1.]
    """
    labels = np.asarray(labels)
    labels = check_labels(labels, num_examples=labels.size, num_classes=ANY_NUMBER)
    generator = np.random.default_rng(seed)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        shares = np.full(len(rows), 1 / len(rows))
        yield int(label), rows, generator.multinomial(len(rows), shares, num_draws) / len(rows)
