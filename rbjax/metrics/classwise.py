"""Counts of what was predicted for what, the metrics of each class, and means over the classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from rbjax.inputs import NO_CLASS, check_integer, check_labels, is_known
from rbjax.sheet import Sheet
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

    @property
    def sheet(self) -> Sheet:
        """A class a row."""
        columns = {name: np.asarray(values).tolist() for name, values in self._asdict().items()}
        return Sheet(
            f"classwise: {sum(columns['count']):,} images of {len(self.count)} classes; ratios in "
            "per cent",
            {"class": list(map(str, range(len(self.count)))), **columns},
        )

    def __repr__(self) -> str:
        if is_known(tuple(self)) and np.ndim(self.count) == 1:
            return repr(self.sheet)
        return f"ClasswiseMetrics{tuple(self)!r}"


def confusion_matrix(
    labels: ArrayLike, predictions: ArrayLike, num_classes: int, mask: ArrayLike | None = None
) -> Array:
    """Counts the examples of each true and predicted class; jit-able, and matrices add up.

    Args:
        labels: (B,) integers in [0, K); inside jit, an example outside is not counted.
        predictions: (B,) integers in [0, K), as labels; or `NO_CLASS`, -1, as rbjax predicts where
            a model's answer is NaN: wrong whatever the label.
        num_classes: K.
        mask: (B,) bool, False for examples that do not count; None counts all.

    Returns:
        (K, K) int32, row = true class, column = predicted class; (K, K + 1) if a prediction is
        `NO_CLASS`, which the last column counts. Inside jit, where that is not known, always
        (K, K): `classwise` counts it there.

    Raises:
        ValueError: for labels or predictions that are not (B,) integers, or outside [0, K) where
            their values are known.

    Example:
        >>> rbjax.metrics.confusion_matrix([0, 0, 1], [0, 1, 1], 2).tolist()
        [[1, 1], [0, 1]]
    """
    counts = _counts(labels, predictions, num_classes, mask)
    is_wide = is_known(counts) and np.asarray(counts[:, -1]).any()
    return counts if is_wide else counts[:, :-1]


def stack_confusions(matrices: Sequence[Array | np.ndarray]) -> np.ndarray:
    """Returns confusion matrices as one array.

    Args:
        matrices: S of `confusion_matrix`, of one number of classes.

    Returns:
        (S, K, K), or (S, K, K + 1) if a matrix counts predictions of `NO_CLASS`.

    Example:
        >>> matrix = np.array([[3, 1], [0, 4]])
        >>> rbjax.metrics.stack_confusions([matrix, 2 * matrix]).shape
        (2, 2, 2)
    """
    width = max(matrix.shape[1] for matrix in matrices)
    arrays = [np.asarray(matrix) for matrix in matrices]
    return np.stack([np.pad(x, ((0, 0), (0, width - x.shape[1]))) for x in arrays])


def classwise(
    labels: ArrayLike, predictions: ArrayLike, *, num_classes: int, mask: ArrayLike | None = None
) -> ClasswiseMetrics:
    """Returns the metrics of each class; jit-able.

    Args:
        labels: (N,) integers in [0, K).
        predictions: (N,) integers in [0, K), or `NO_CLASS`, as for `confusion_matrix`.
        num_classes: K.
        mask: (N,) bool, False for examples that do not count.

    Returns:
        Counts int32 and ratios float32, (K,) each.

    Raises:
        ValueError: as `confusion_matrix`.

    Example:
        >>> found = rbjax.metrics.classwise([0, 0, 1], [0, 1, 1], num_classes=2)
        >>> found.recall.tolist(), found.precision.tolist()
        ([0.5, 1.0], [1.0, 0.5])
    """
    return from_confusion(_counts(labels, predictions, num_classes, mask))


def _counts(labels: Any, predictions: Any, num_classes: int, mask: ArrayLike | None) -> Array:
    """Returns the counts (K, K + 1), the last column of predictions of no class."""
    num_classes = check_integer("num_classes", num_classes, low=1)
    labels, predictions = (
        x if isinstance(x, jax.Array) else np.asarray(x) for x in (labels, predictions)
    )
    num_examples = labels.shape[0] if labels.ndim else 1
    if mask is not None:
        mask = mask if isinstance(mask, jax.Array) else np.asarray(mask)
        if mask.shape != (num_examples,) or mask.dtype != bool:
            raise ValueError(
                f"mask is {mask.dtype} of shape {mask.shape}; it must be bool ({num_examples},)"
            )
    numbers = []
    for field, values, lowest in (("labels", labels, 0), ("predictions", predictions, NO_CLASS)):
        if mask is not None and values.shape == mask.shape:  # any number may fill up a batch
            where = jnp.where if isinstance(values, jax.Array) or not is_known(mask) else np.where
            values = where(mask, values, np.zeros((), values.dtype))
        numbers.append(
            check_labels(
                values,
                num_examples=num_examples,
                num_classes=num_classes,
                field=field,
                lowest=lowest,
            )
        )
    rows, columns = map(jnp.asarray, numbers)
    is_counted = (rows < num_classes) & (columns < num_classes)
    rows = jnp.where(is_counted if mask is None else is_counted & mask, rows, num_classes)
    columns = jnp.where(columns == NO_CLASS, num_classes, columns)
    counts = jnp.zeros((num_classes, num_classes + 1), jnp.int32)
    return counts.at[rows, columns].add(1, mode="drop")


def from_confusion(matrix: Array | np.ndarray) -> ClasswiseMetrics:
    """Returns the metrics of each class.

    Args:
        matrix: (K, K) integers of any width, counts, row = true class, column = predicted class; or
            (K, K + 1), the last column of predictions of no class.

    Returns:
        (K,) arrays of the matrix's own kind: float64 ratios from numpy, float32 from JAX.

    Raises:
        ValueError: for another shape or dtype.

    Example:
        >>> found = rbjax.metrics.from_confusion(np.array([[3, 1], [0, 4]]))
        >>> found.recall.tolist(), found.precision.tolist()
        ([0.75, 1.0], [1.0, 0.8])
    """
    matrix = matrix if isinstance(matrix, jax.Array) else np.asarray(matrix)
    is_matrix = matrix.ndim == 2 and matrix.shape[1] - matrix.shape[0] in (0, 1)
    if not is_matrix or not jnp.issubdtype(matrix.dtype, jnp.integer):
        raise ValueError(
            f"matrix is {matrix.dtype} of shape {matrix.shape}; it must hold counts, integers "
            "(K, K), or (K, K + 1) with those of no class"
        )
    xp, is_of_jax = matrix.__array_namespace__(), isinstance(matrix, jax.Array)
    whole, real = (jnp.int32, jnp.float32) if is_of_jax else (np.int64, np.float64)
    count = matrix.sum(axis=1, dtype=whole)
    predicted = matrix.sum(axis=0, dtype=whole)[: len(matrix)]
    correct = matrix.diagonal().astype(whole)  # a narrow integer does not hold twice itself

    def ratio(numerator: Any, denominator: Any) -> Any:
        return numerator.astype(real) / xp.where(denominator == 0, 1, denominator).astype(real)

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
        matrix: (K, K) or (K, K + 1) counts, as for `from_confusion`.

    Returns:
        `accuracy`; `balanced_accuracy`, the mean recall; `macro_f1`, the mean F1; `weighted_f1`,
        that by class counts; `worst_class_accuracy`, the lowest recall; `class_spread`, the
        highest less the lowest; `class_std`, their standard deviation (over K, not K - 1);
        `num_examples`. All but the last are in [0, 1].

    Raises:
        ValueError: if the matrix counts no example.

    Example:
        >>> found = rbjax.metrics.summarize(np.array([[3, 1], [0, 4]]))
        >>> found["accuracy"], found["worst_class_accuracy"], found["class_spread"]
        (0.875, 0.75, 0.25)
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
