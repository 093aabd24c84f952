"""Focal losses, which count an example the less the surer the model is of its class."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from rbjax.losses.adversarial import cross_entropy, prepare
from rbjax.options import NotNegative, checked
from rbjax.typing import Array, LossFn

_LEAST = 1e-12
"""Below it a loss counts as constant: gamma below 1 divides by it."""


@checked
def focal(*, gamma: NotNegative = 2.0) -> LossFn:
    """Returns the focal loss of a softmax.

    `(1 - p_y)**gamma (-log p_y)`, `p = softmax(z)`; gamma 0 is the cross-entropy.

    Args:
        gamma: how little a sure example counts.

    Returns:
        (logits (B, K), labels (B,)) -> (B,) float32.

    Raises:
        ValueError: if `gamma` is negative.

    Source: Lin et al., "Focal Loss for Dense Object Detection", 2017, arXiv:1708.02002, equation 4,
    of a softmax in the place of a sigmoid.
    """

    def loss(logits: Array, labels: Array) -> Array:
        losses = cross_entropy(logits, labels)
        if gamma == 0:
            return losses
        return (-jnp.expm1(-jnp.maximum(losses, _LEAST))) ** gamma * losses

    return loss


@checked
def sigmoid_focal(*, gamma: NotNegative = 2.0) -> LossFn:
    """Returns the focal loss of a sigmoid for each class, as Cui et al. train with.

    `sum_c (1 - q_c)**gamma (-log q_c)`, `q_y = sigmoid(z_y)` and `q_c = sigmoid(-z_c)` for the
    other classes; gamma 0 is the sum of the binary cross-entropies.  The authors begin from a head
    whose biases are -log(K - 1); here they are 0.

    Args:
        gamma: how little a sure answer counts.

    Returns:
        (logits (B, K), labels (B,)) -> (B,) float32.

    Raises:
        ValueError: if `gamma` is negative.

    Source: Lin et al., 2017, arXiv:1708.02002, equation 4; Cui et al., 2019, arXiv:1901.05555,
    equation 12.
    """

    def loss(logits: Array, labels: Array) -> Array:
        logits, labels = prepare(logits, labels)
        is_label = jax.nn.one_hot(labels, logits.shape[1], dtype=bool)
        signed = jnp.where(is_label, logits, -logits)  # q = sigmoid(signed)
        return jnp.sum(jnp.exp(-gamma * jax.nn.softplus(signed)) * jax.nn.softplus(-signed), axis=1)

    return loss
