"""Losses that attacks climb: the higher, the nearer to a mistake. One number per example."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from rbjax.losses.classification import softmax_cross_entropy
from rbjax.typing import Array


def cross_entropy(logits: Array, labels: Array) -> Array:
    """Returns the cross-entropy of each example, what FGSM and PGD climb.

    `-log softmax(z)_y`

    Args:
        logits: (B, K).
        labels: (B,) integers in [0, K).

    Returns:
        (B,) float32.

    Source: Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", 2017,
    arXiv:1706.06083, equation 2.1.
    """
    return softmax_cross_entropy(logits, labels)


def margin(logits: Array, labels: Array) -> Array:
    """Returns by how much the strongest wrong class exceeds the true one.

    `max_{j != y} z_j - z_y`, positive where the example is misclassified. Its gradient does not
    vanish where the classifier is sure, as cross-entropy's does.

    Args:
        logits: (B, K), K at least 2.
        labels: (B,) integers in [0, K).

    Returns:
        (B,) float32.

    Source: Carlini and Wagner, "Towards Evaluating the Robustness of Neural Networks", 2016,
    arXiv:1608.04644, section V-A, f_6 without its clamp.
    """
    chex.assert_rank([logits, labels], [2, 1])
    logits = logits.astype(jnp.float32)
    is_label = jax.nn.one_hot(labels, logits.shape[1], dtype=bool)
    true = jnp.sum(jnp.where(is_label, logits, 0), axis=1)
    return jnp.max(jnp.where(is_label, -jnp.inf, logits), axis=1) - true
