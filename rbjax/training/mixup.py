"""Mixup: each image of a batch is mixed with another image of it, and their losses likewise.

`x~ = s x + (1 - s) x'`, `loss = s loss(y) + (1 - s) loss(y')`, one s a step, from Beta(a, a).  For
the cross-entropy this equals the loss of the mixed labels.  An image's partner follows from the ids
of the examples in the batch, so it depends neither on their order nor on the devices.

Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018, arXiv:1710.09412.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from rbjax import prng
from rbjax.typing import Array, Key, LossFn


class Targets(NamedTuple):
    """The classes of a batch's inputs: one each, or two with a share."""

    labels: Array
    """(B,) int32."""
    partners: Array | None = None
    """(B,) int32, the labels of the images mixed in; None without Mixup."""
    share: Array | None = None
    """The first image's, in [0, 1]."""

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
    """Returns the first image's share in a step.

    Args:
        key: the run's key.
        step: the number of the step.
        alpha: above 0.

    Returns:
        A float32 from Beta(alpha, alpha).
    """
    own = prng.fold_in(prng.named(key, "mixup_share"), step)
    return prng.beta(own, alpha, alpha)


def partners(bits: Array, example_ids: Array) -> Array:
    """Returns the row that each row is mixed with: the next one in a random cycle through all rows.

    No row is its own partner, unless it is the only one.

    Args:
        bits: (B,) a random number for each row, derived from its example.
        example_ids: (B,) integers, which break ties between equal random numbers.

    Returns:
        (B,) int32, a permutation of 0 to B - 1.
    """
    order = jnp.lexsort((example_ids, bits)).astype(jnp.int32)
    return jnp.zeros_like(order).at[order].set(jnp.roll(order, -1))
