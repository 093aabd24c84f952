"""LeNet-5 as it is used today: ReLU, max pooling, every map of C3 connected to all of S2."""

from __future__ import annotations

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from rbjax.models.head import Backbone
from rbjax.typing import Array, Key

_SIZE = 32
"""Height and width of the original's input."""


class LeNet5(Backbone):
    """LeNet-5 of today: conv 6 - pool - conv 16 - pool - dense 120 - dense 84; the head follows.

    Convolutions are 5x5 without padding, pools 2x2. Smaller images are set in the middle of 32x32
    first, as the original sets digits of 28x28. Up to that size and with 10 classes it has 61,706
    parameters for one channel and 62,006 for three.

    Source: LeCun et al., "Gradient-Based Learning Applied to Document Recognition", 1998,
    Proceedings of the IEEE 86, section II.B.
    """

    min_size: ClassVar[int] = 1

    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, x: Array, keys: Key | None = None, *, train: bool = False) -> Array:
        """Returns the second dense layer (B, 84) of normalised images `x` (B, H, W, C)."""
        missing = [max(0, _SIZE - size) for size in x.shape[1:3]]
        padding = [(count // 2, count - count // 2) for count in missing]
        for width in (6, 16):
            x = nn.relu(nn.Conv(width, (5, 5), padding=padding, dtype=self.dtype)(x))
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
            padding = [(0, 0), (0, 0)]
        x = x.reshape(x.shape[0], -1)
        for width in (120, 84):
            x = nn.relu(nn.Dense(width, dtype=self.dtype)(x))
        return x
