"""What the code of P3's author does and the paper does not say."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from rbjax.data.sampling import Sampler
from rbjax.losses import cross_entropy
from rbjax.typing import Array, LossFn


def softmax_twice() -> LossFn:
    """Returns the cross-entropy of probabilities that are taken for logits.

    `-log softmax(p)_y`, `p = softmax(z)`: at least log(1 + (K - 1) / e), 1.461 of ten classes.

    Returns:
        (logits (B, K), labels (B,)) -> (B,) float32.

    Source: P3's notebook, whose networks end in a softmax and are trained by
    `torch.nn.CrossEntropyLoss`.
    """
    of_logits = cross_entropy()

    def loss(logits: Array, labels: Array) -> Array:
        return of_logits(jax.nn.softmax(logits.astype(jnp.float32)), labels)

    return loss


def in_order() -> Sampler:
    """Returns the sampler whose epochs all take the rows as they lie.

    Returns:
        A sampler.

    Source: P3's notebook, whose loader of the training set does not shuffle.
    """

    def sampler(
        labels: np.ndarray, *, seed: int, epoch: int, batch_size: int, num_steps: int
    ) -> np.ndarray:
        del labels, seed, epoch
        return np.arange(num_steps * batch_size, dtype=np.int32).reshape(num_steps, batch_size)

    return sampler
