"""The simple CNN of P4: two small convolutions, one max pooling, one dense layer."""

from __future__ import annotations

from typing import Annotated, ClassVar

import flax.linen as nn
import jax.numpy as jnp

from rbjax.models.head import Backbone
from rbjax.options import Range
from rbjax.typing import Array, Key


class SimpleCNN(Backbone):
    """P4's simple CNN: conv 3x3 - ReLU - conv 3x3 - ReLU - max pool 2x2, no padding.

    The paper gives neither widths nor kernel; (8, 16), (16, 32) and (32, 64) have 24,298, 50,890
    and 110,986 parameters on 28x28x1 images of 10 classes.

    Source: the RPR paper, section 2.3, footnote 6.
    """

    min_size: ClassVar[int] = 6

    widths: Annotated[tuple[int, int], Range(low=1, high=65536)] = (32, 64)
    """Channels of the first and of the second convolution."""
    dtype: jnp.dtype = jnp.dtype("float32")

    def __post_init__(self) -> None:
        widths = self.widths
        is_pair = isinstance(widths, tuple) and len(widths) == 2
        if not is_pair or not all(isinstance(width, int) and width > 0 for width in widths):
            raise ValueError(
                f"widths is {widths}; allowed: two positive integers, such as (32, 64)"
            )
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Array, keys: Key | None = None, *, train: bool = False) -> Array:
        """Returns the flattened maps (B, F) of normalised images `x` (B, H, W, C)."""
        for width in self.widths:
            x = nn.relu(nn.Conv(width, (3, 3), padding="VALID", dtype=self.dtype)(x))
        x = nn.max_pool(x, (2, 2), strides=(2, 2))
        return x.reshape(x.shape[0], -1)
