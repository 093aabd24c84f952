"""Mixup: each image of a batch mixed with another one of it, and so their losses.

`x~ = s x + (1 - s) x'`, `loss = s loss(y) + (1 - s) loss(y')`, one s a step, of Beta(a, a).  Of a
cross-entropy that is the one with the mixed labels.  The partner of an image follows from the
numbers of the examples in the batch, so it does not depend on their order or on the devices.

Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018, arXiv:1710.09412.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rbjax import prng
from rbjax.typing import Array, Key, LossFn


class Targets(NamedTuple):
    """What a batch's inputs are: of one class each, or of two with a share."""

    labels: Array
    """(B,) int32."""
    partners: Array | None = None
    """(B,) int32, the labels of the images mixed in; None where nothing is."""
    share: Array | None = None
    """Of the first image, in [0, 1]."""

    def loss(self, loss_fn: LossFn, logits: Array) -> Array:
        """Returns each input's loss, (B,)."""
        losses = loss_fn(logits, self.labels)
        if self.partners is None or self.share is None:
            return losses
        return self.share * losses + (1 - self.share) * loss_fn(logits, self.partners)

    @property
    def most(self) -> Array:
        """(B,) int32, the label with the larger share."""
        if self.partners is None or self.share is None:
            return self.labels
        return jnp.where(self.share >= 0.5, self.labels, self.partners)


def draw_share(key: Key, step: Array | int, *, alpha: float) -> Array:
    """Returns a step's share of the first image.

    Args:
        key: the run's key.
        step: the number of the step.
        alpha: above 0.

    Returns:
        A float32 of Beta(alpha, alpha).
    """
    own = jax.random.fold_in(prng.named(key, "mixup_share"), step)
    return jax.random.beta(own, alpha, alpha, dtype=jnp.float32)


def partners(bits: Array, example_ids: Array) -> Array:
    """Returns the row that each row is mixed with: the next one in a random circle through all.

    No row is its own partner, unless it is alone.

    Args:
        bits: (B,) a random number for each row, which follows from its example.
        example_ids: (B,) integers, which decide where random numbers are equal.

    Returns:
        (B,) int32, a permutation of 0 to B - 1.
    """
    order = jnp.lexsort((example_ids, bits)).astype(jnp.int32)
    return jnp.zeros_like(order).at[order].set(jnp.roll(order, -1))
