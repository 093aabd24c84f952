"""Losses of classifiers, one number per example, in float32."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from rbjax.losses.adversarial import cross_entropy as softmax_cross_entropy
from rbjax.options import Share, checked
from rbjax.typing import Array, LossFn


@checked
def cross_entropy(*, label_smoothing: Share = 0.0) -> LossFn:
    """Returns the cross-entropy with part of the mass given to all classes alike.

    `(1 - s) (-log p_y) + s (1/K) sum_j (-log p_j)`, `p = softmax(z)`.

    Args:
        label_smoothing: s, the mass given to all classes alike.

    Returns:
        (logits (B, K), labels (B,)) -> (B,) float32.

    Raises:
        ValueError: if `label_smoothing` is out of its range.

    Source: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2015,
    arXiv:1512.00567, section 7.
    """
    smoothing = label_smoothing

    def loss(logits: Array, labels: Array) -> Array:
        hard = softmax_cross_entropy(logits, labels)
        if smoothing == 0:
            return hard
        log_probabilities = jax.nn.log_softmax(logits.astype(jnp.float32))
        return (1 - smoothing) * hard - smoothing * jnp.mean(log_probabilities, axis=1)

    return loss
