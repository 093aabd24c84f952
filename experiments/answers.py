"""What networks answer on test images, kept byte by byte, and class accuracies with their draws."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from rbjax.metrics import mean_over_seeds, resample_classes

NUM_DRAWS = 1000


def packed(classes: np.ndarray) -> str:
    """Returns classes (N,), of at most 255, as a hexadecimal number; -1, of none, is its 255."""
    return np.asarray(classes).astype(np.int16).astype(np.uint8).tobytes().hex()


def stored(result: Mapping[str, Any], name: str) -> np.ndarray:
    """Returns what `packed` made of a result's field, (N,) int64."""
    classes = np.frombuffer(bytes.fromhex(result[name]), np.uint8).astype(np.int64)
    return np.where(classes == 255, -1, classes)


def recall(result: Mapping[str, Any], name: str = "clean") -> np.ndarray:
    """Returns the share of each class that is correct, (K,), as the field `name` answers."""
    labels, classes = stored(result, "labels"), stored(result, name)
    counts = np.asarray(result["count"])
    right = np.bincount(labels[classes == labels], minlength=len(counts))
    return right / np.maximum(counts, 1)


def class_means(values: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns means over each class, of all images and of each draw, (1 + NUM_DRAWS, M, K).

    The draws, with replacement within each class, are the same for all that has these labels.

    Args:
        values: (M, N), a number an image, of each of M models.
        labels: (N,).
        num_classes: K; a class without images has 0.
    """
    means = np.zeros((1 + NUM_DRAWS, len(values), num_classes), np.float32)
    for label, rows, weights in resample_classes(labels, num_draws=NUM_DRAWS):
        means[0, :, label] = values[:, rows].mean(axis=1)
        means[1:, :, label] = weights.astype(np.float32) @ values[:, rows].T.astype(np.float32)
    return means


class Estimate(NamedTuple):
    """A mean over seeds in per cent or points, with its 95 % interval."""

    value: float
    low: float
    high: float
    seeds: int
    """Whose mean it is."""
    wanted: int
    """Of the scale."""

    def __str__(self) -> str:
        return f"{self.value:+.1f} ({self.low:+.1f} to {self.high:+.1f})"

    def plain(self) -> str:
        """Returns a share, without signs, its interval cut to what a share can be."""
        return f"{self.value:.1f} ({max(self.low, 0):.1f} to {min(self.high, 100):.1f})"


def over_seeds(drawn: np.ndarray, wanted: int) -> Estimate:
    """Returns the mean over seeds, with the error of seeds and of test images.

    Args:
        drawn: (S, 1 + D), a number of each seed, of all images and then of each draw of them.
        wanted: how many seeds there are to be.
    """
    variance = float(np.var(drawn[:, 1:].mean(axis=0)))
    found = mean_over_seeds(drawn[:, 0], variance=variance)
    return Estimate(found.value, found.low, found.high, len(drawn), wanted)
