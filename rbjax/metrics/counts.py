"""Counts of what was predicted for what: every metric follows from them."""

from __future__ import annotations

import chex
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from rbjax import checks
from rbjax.typing import Array


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
        if checks.is_known(values) and checks.is_known(counted):
            _check_range(field, np.asarray(values)[np.asarray(counted)], num_classes)
    for values in (labels, predictions):
        counted &= (values >= 0) & (values < num_classes)
    cells = jnp.where(counted, labels * num_classes + predictions, num_classes**2)
    counts = jnp.zeros(num_classes**2, jnp.int32).at[cells].add(1, mode="drop")
    return counts.reshape(num_classes, num_classes)


def _check_range(field: str, values: np.ndarray, num_classes: int) -> None:
    wrong = values[(values < 0) | (values >= num_classes)]
    if wrong.size:
        raise ValueError(f"{field} holds {wrong[0]}; allowed: 0 to {num_classes - 1}")
