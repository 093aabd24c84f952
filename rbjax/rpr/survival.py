"""What the first failures of a dataset say: survival curves and robust ratios, class by class."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rbjax import checks


class SurvivalCurves(NamedTuple):
    """The share of images that withstood t draws, for t from 0 to max_steps."""

    overall: np.ndarray
    """(max_steps + 1,) float64, of all images counted."""
    classes: np.ndarray
    """(K, max_steps + 1) float64, of the images of each class; NaN for a class without any."""
    counts: np.ndarray
    """(K,) int64, images counted of each class."""


class RobustRatio(NamedTuple):
    """How many images of each class withstood every draw."""

    counts: np.ndarray
    """(K,) int64, images counted of each class."""
    robust: np.ndarray
    """(K,) int64, those of them that are robust."""

    @property
    def classes(self) -> np.ndarray:
        """(K,) float64, the share of each class; NaN for a class without images."""
        return _share(self.robust, self.counts)

    @property
    def overall(self) -> float:
        """The share of all images counted; NaN if there are none."""
        return float(_share(np.sum(self.robust), np.sum(self.counts)))


def survival_curve(
    first_failure: np.ndarray,
    max_steps: int,
    labels: np.ndarray,
    *,
    num_classes: int,
    counted: np.ndarray | None = None,
) -> SurvivalCurves:
    """Returns the share of images still robust as a function of the number of draws.

    S(t) = #{i: N_i > t} / n, so S(0) = 1 and S(max_steps) is the robust ratio.

    Args:
        first_failure: (N,) integers, 1 to max_steps, or max_steps + 1 where no draw failed.
        max_steps: draws of an image.
        labels: (N,) integers, the true classes.
        num_classes: K.
        counted: (N,) bool, the images that count: `scores.clean_correct` for the ratio among the
            images that are classified right unperturbed; None: all, the unconditional ratio.

    Returns:
        The curves, all images' and each class's.

    Raises:
        ValueError: if the shapes differ, or a first failure or a label is out of range.

    Source:
        Ilie, Popescu and Stefanescu 2020, "Robustness as Inherent Property of Datapoints", figure
        3 (P4).
    """
    first_failure, labels = _counted(first_failure, max_steps, labels, num_classes, counted)
    failures = np.zeros((num_classes, max_steps + 2), np.int64)
    np.add.at(failures, (labels, first_failure), 1)
    failed = np.cumsum(failures, axis=1)[:, : max_steps + 1]
    counts = np.bincount(labels, minlength=num_classes)
    survivors = counts[:, None] - failed
    return SurvivalCurves(
        overall=_share(np.sum(survivors, axis=0), np.sum(counts)),
        classes=_share(survivors, counts[:, None]),
        counts=counts,
    )


def robust_ratio(
    first_failure: np.ndarray,
    max_steps: int,
    labels: np.ndarray,
    *,
    num_classes: int,
    counted: np.ndarray | None = None,
) -> RobustRatio:
    """Returns how many images of each class withstood all `max_steps` draws.

    Args:
        first_failure: as for `survival_curve`.
        max_steps: draws of an image.
        labels: (N,) integers, the true classes.
        num_classes: K.
        counted: as for `survival_curve`.

    Returns:
        Counts, and the shares that follow from them.

    Raises:
        ValueError: as `survival_curve`.
    """
    first_failure, labels = _counted(first_failure, max_steps, labels, num_classes, counted)
    return RobustRatio(
        counts=np.bincount(labels, minlength=num_classes),
        robust=np.bincount(labels[first_failure > max_steps], minlength=num_classes),
    )


def _counted(
    first_failure: np.ndarray,
    max_steps: int,
    labels: np.ndarray,
    num_classes: int,
    counted: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns first failures and labels of the images that count, checked."""
    checks.integer("max_steps", max_steps, low=1)
    first_failure, labels = np.asarray(first_failure), np.asarray(labels)
    counted = np.ones(labels.shape, bool) if counted is None else np.asarray(counted, bool)
    if not first_failure.shape == labels.shape == counted.shape == (labels.size,):
        raise ValueError(
            f"first_failure, labels and counted have shapes {first_failure.shape}, {labels.shape} "
            f"and {counted.shape}; all must be (N,)"
        )
    for field, values, low, high in (
        ("first_failure", first_failure, 1, max_steps + 1),
        ("labels", labels, 0, num_classes - 1),
    ):
        wrong = values[(values < low) | (values > high)]
        if wrong.size:
            raise ValueError(f"{field} holds {wrong[0]}; allowed: {low} to {high}")
    return first_failure[counted], labels[counted]


def _share(part: Any, whole: Any) -> np.ndarray:
    """Returns part / whole, NaN where whole is 0."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)
