"""Dropout whose mask belongs to the example."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from rbjax import prng
from rbjax.prng import per_draw
from rbjax.typing import Array, Key


class Dropout(nn.Module):
    """Inverted dropout that draws each example's mask from the example's own key.

    `y = x * m / (1 - rate)`, `m ~ Bernoulli(1 - rate)` from `fold_in(keys[i], layer)`. Flax's own
    draws one mask for the whole batch, so that an example's mask depends on its place in it.

    Source: Srivastava et al., "Dropout", 2014, JMLR 15.
    """

    rate: float
    """Probability that a value becomes zero, in [0, 1)."""
    layer: int
    """The layer's number: layers of one network draw differently."""

    def __call__(self, x: Array, keys: Key | None) -> Array:
        """Drops values of `x` (B, ...); `keys` (B,), or None to return `x` as it is."""
        if keys is None:
            return x
        keep = jax.vmap(lambda key: prng.bernoulli(key, 1 - self.rate, x.shape[1:]))(
            per_draw(keys, self.layer)
        )
        return jnp.where(keep, x / (1 - self.rate), jnp.zeros_like(x))
