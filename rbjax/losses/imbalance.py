"""Losses that know how often each class occurs in training."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from rbjax.losses.adversarial import cross_entropy as softmax_cross_entropy
from rbjax.losses.adversarial import prepare
from rbjax.options import Share, checked
from rbjax.typing import Array, LossFn

Counts = Sequence[int] | np.ndarray | Array


@checked
def class_balanced_weights(class_counts: Counts, *, beta: Share = 0.9999) -> np.ndarray:
    """Returns the weight of each class by its effective number of examples.

    `w_c = K v_c / sum_j v_j`, `v_c = (1 - beta) / (1 - beta**n_c)`: all ones for beta 0, inversely
    proportional to the count for beta 1 (the limit).

    Args:
        class_counts: (K,) n_c, each at least 1.
        beta: in [0, 1].

    Returns:
        (K,) float64 weights that sum to K.

    Raises:
        ValueError: if a count is below 1, or `beta` out of its range.

    Source: Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", 2019,
    arXiv:1901.05555, equations 2 and 5.
    """
    counts = _checked(class_counts)
    if beta == 1:
        inverse = 1 / counts
    elif beta == 0:
        inverse = np.ones_like(counts)
    else:  # expm1, because 1 - beta**n loses digits where beta**n is near 1
        inverse = (1 - beta) / -np.expm1(counts * np.log(beta))
    return inverse * len(counts) / inverse.sum()


@checked
def class_balanced(class_counts: Counts, *, beta: Share = 0.9999) -> LossFn:
    """Returns the cross-entropy weighted by the effective number of examples of the class.

    `w_y (-log softmax(z)_y)`, the weights those of `class_balanced_weights`.

    Args:
        class_counts: (K,) examples of each class in training, each at least 1.
        beta: of the effective number of samples (Cui et al. 2019).

    Returns:
        (logits (B, K), labels (B,)) -> (B,) float32; its mean over a batch is divided by the
        number of examples, not by the sum of their weights.

    Raises:
        ValueError: if a count is below 1, or `beta` out of its range.

    Source: Cui et al., 2019, arXiv:1901.05555, equation 10.
    """
    weights = class_balanced_weights(class_counts, beta=beta).astype(np.float32)

    def loss(logits: Array, labels: Array) -> Array:
        _check_classes(logits, len(weights))
        logits, labels = prepare(logits, labels)
        return jnp.asarray(weights)[labels] * softmax_cross_entropy(logits, labels)

    return loss


def balanced_softmax(class_counts: Counts) -> LossFn:
    """Returns the cross-entropy of logits shifted by the log of the class counts.

    `-log softmax(z + log n)_y`

    Args:
        class_counts: (K,) examples of each class in training, each at least 1.

    Returns:
        (logits (B, K), labels (B,)) -> (B,) float32.

    Raises:
        ValueError: if a count is below 1.

    Source: Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", 2020,
    arXiv:2007.10740, equation 4.
    """
    log_counts = np.log(_checked(class_counts)).astype(np.float32)

    def loss(logits: Array, labels: Array) -> Array:
        _check_classes(logits, len(log_counts))
        return softmax_cross_entropy(logits.astype(jnp.float32) + log_counts, labels)

    return loss


def _checked(class_counts: Counts) -> np.ndarray:
    """Returns the counts as float64."""
    counts = np.asarray(class_counts, dtype=np.float64)
    if counts.ndim != 1 or len(counts) < 2:
        raise ValueError(f"class_counts has shape {counts.shape}; allowed: (K,), one per class")
    wrong = np.flatnonzero(~(np.isfinite(counts) & (counts >= 1)))
    if wrong.size:
        raise ValueError(
            f"class_counts is {counts[wrong[0]]:g} for class {wrong[0]}; this loss needs at least "
            "1 example of every class"
        )
    return counts


def _check_classes(logits: Array, num_classes: int) -> None:
    if logits.shape[-1] != num_classes:
        raise ValueError(
            f"class_counts has {num_classes} classes, the logits {logits.shape[-1]}; "
            "they must be the same"
        )
