"""Counts of what was predicted for what, the metrics of each class, and means over the classes."""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from rbjax.inputs import is_known
from rbjax.typing import Array


class ClasswiseMetrics(NamedTuple):
    """One value per class, each (K,); a ratio whose denominator is 0 is 0, as in scikit-learn."""

    count: Any
    """Examples of the class; where it is 0, recall says nothing."""
    predicted: Any
    """Examples that were classified as the class."""
    correct: Any
    """Examples of the class that were classified as it."""
    recall: Any
    """correct / count: the class's accuracy."""
    precision: Any
    """correct / predicted."""
    f1: Any
    """2 correct / (count + predicted)."""


def confusion_matrix(
    labels: ArrayLike, predictions: ArrayLike, num_classes: int, mask: ArrayLike | None = None
) -> Array:
    """Counts the examples of each true and predicted class; jit-able, and matrices add up.

    Args:
        labels: (B,) integers in [0, K); inside jit, an example outside is not counted.
        predictions: (B,) integers in [0, K), as labels.
        num_classes: K.
        mask: (B,) bool, False for examples that do not count; None counts all.

    Returns:
        (K, K) int32, row = true class, column = predicted class.

    Raises:
        ValueError: for a label or prediction outside [0, K) where its value is known.
    """
    labels, predictions = jnp.asarray(labels), jnp.asarray(predictions)
    chex.assert_equal_shape([labels, predictions])
    counted = jnp.ones(labels.shape, bool) if mask is None else jnp.asarray(mask)
    chex.assert_equal_shape([labels, counted])
    for field, values in (("labels", labels), ("predictions", predictions)):
        if is_known(values) and is_known(counted):
            value = np.asarray(values)[np.asarray(counted)]
            wrong = value[(value < 0) | (value >= num_classes)]
            if wrong.size:
                raise ValueError(f"{field} holds {wrong[0]}; allowed: 0 to {num_classes - 1}")
    for values in (labels, predictions):
        counted &= (values >= 0) & (values < num_classes)
    cells = jnp.where(counted, labels * num_classes + predictions, num_classes**2)
    counts = jnp.zeros(num_classes**2, jnp.int32).at[cells].add(1, mode="drop")
    return counts.reshape(num_classes, num_classes)


def classwise(
    labels: ArrayLike, predictions: ArrayLike, *, num_classes: int, mask: ArrayLike | None = None
) -> ClasswiseMetrics:
    """Returns the metrics of each class; jit-able.

    Args:
        labels: (N,) integers in [0, K).
        predictions: (N,) integers in [0, K).
        num_classes: K.
        mask: (N,) bool, False for examples that do not count.

    Returns:
        Counts int32 and ratios float32, (K,) each.

    Raises:
        ValueError: for a label or prediction outside [0, K) where its value is known.
    """
    return from_confusion(confusion_matrix(labels, predictions, num_classes, mask))


def from_confusion(matrix: Array | np.ndarray) -> ClasswiseMetrics:
    """Returns the metrics of each class.

    Args:
        matrix: (K, K) counts, row = true class, column = predicted class.

    Returns:
        (K,) arrays of the matrix's own kind: float64 ratios from numpy, float32 from JAX.
    """
    chex.assert_rank(matrix, 2)
    xp = matrix.__array_namespace__()
    count, predicted, correct = matrix.sum(axis=1), matrix.sum(axis=0), matrix.diagonal()

    def ratio(numerator: Any, denominator: Any) -> Any:
        return numerator / xp.where(denominator == 0, 1, denominator)

    return ClasswiseMetrics(
        count=count,
        predicted=predicted,
        correct=correct,
        recall=ratio(correct, count),
        precision=ratio(correct, predicted),
        f1=ratio(2 * correct, count + predicted),
    )


def summarize(matrix: Array | np.ndarray) -> dict[str, float]:
    """Returns the metrics over all classes, on the host in float64.

    Classes without an example are left out of balanced accuracy, worst class, spread and deviation
    and count as 0 in the macro F1, as in scikit-learn with `labels=range(K)`.

    Args:
        matrix: (K, K) counts, row = true class, column = predicted class.

    Returns:
        `accuracy`; `balanced_accuracy`, the mean recall; `macro_f1`, the mean F1; `weighted_f1`,
        that by class counts; `worst_class_accuracy`, the lowest recall; `class_spread`, the
        highest less the lowest; `class_std`, their standard deviation (over K, not K - 1);
        `num_examples`. All but the last are in [0, 1].

    Raises:
        ValueError: if the matrix counts no example.
    """
    counts = np.asarray(matrix).astype(np.int64)
    total = int(counts.sum())
    if total == 0:
        raise ValueError("the confusion matrix counts no example; there is nothing to summarize")
    metrics = from_confusion(counts)
    recall = metrics.recall[metrics.count > 0]
    return {
        "accuracy": float(metrics.correct.sum() / total),
        "balanced_accuracy": float(recall.mean()),
        "macro_f1": float(metrics.f1.mean()),
        "weighted_f1": float(metrics.f1 @ metrics.count / total),
        "worst_class_accuracy": float(recall.min()),
        "class_spread": float(recall.max() - recall.min()),
        "class_std": float(recall.std()),
        "num_examples": float(total),
    }
