"""The small VGG of P5."""

from __future__ import annotations

from typing import ClassVar, Literal

import flax.linen as nn
import jax.numpy as jnp

from rbjax.models.dropout import Dropout
from rbjax.models.head import Backbone
from rbjax.models.layers import Conv
from rbjax.options import Count
from rbjax.typing import Array, Key

_BLOCKS = ((1, 1), (2, 2, 2), (4, 4, 4))
"""Convolutions of each block, in widths of the first."""
_DENSE = 16


class VGGP5(Backbone):
    """P5's small VGG, eight convolutions and a dense layer.

    2 x 32 - pool - 3 x 64 - pool - 3 x 128 - pool - dense 512; the head follows. Convolutions are
    3x3 with "same" padding, pools 2x2; dropout of 0.25 follows each pool and of 0.5 the dense
    layer. 1,525,738 parameters on 32x32x3 images of 10 classes.

    Source: Possas and Zhou, "Effectiveness of adversarial learning on class-imbalanced
    convolutional neural networks", 2017, section 3.1; widths and dropout are the authors' code's.
    """

    min_size: ClassVar[int] = 8

    activation: Literal["author", "paper"] = "author"
    """"author": in the second and third block a ReLU follows only the last convolution, as in the
    code that made the published numbers; "paper": one follows every convolution."""
    width: Count = 32
    """Channels of the first block; the others have 2 and 4 times as many, the dense layer 16."""
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, x: Array, keys: Key | None = None, *, train: bool = False) -> Array:
        """Returns the dense layer (B, 512) of normalised images `x` (B, H, W, C)."""
        for block, layers in enumerate(_BLOCKS):
            for layer, widths in enumerate(layers):
                x = Conv(widths * self.width, (3, 3), dtype=self.dtype)(x)
                is_last = layer == len(layers) - 1
                if block == 0 or is_last or self.activation == "paper":
                    x = nn.relu(x)
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
            x = Dropout(0.25, layer=block)(x, keys)
        x = nn.relu(nn.Dense(_DENSE * self.width, dtype=self.dtype)(x.reshape(x.shape[0], -1)))
        return Dropout(0.5, layer=len(_BLOCKS))(x, keys)
