"""The modern LeNet of P3 and its four other architectures."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax.numpy as jnp

from rbjax.models.dropout import Dropout
from rbjax.models.head import Backbone
from rbjax.typing import Array, Key


class LeNetModern(Backbone):
    """P3's modern LeNet, five convolutions.

    conv 32 - conv 32 - pool - conv 64 - conv 64 - pool - conv 128 (4x4); the head follows.
    Convolutions are 3x3 without padding, pools 5x5 with stride 2 and padding 2. A ReLU and then
    batch norm follow each convolution and each pool; dropout follows each pool and the last
    convolution. On 28x28x1 images of 10 classes: 198,314 parameters; 197,482 without batch norm;
    326,410 with convolutions as pools.

    Source: the Delta-accuracy paper, section 2 and figure 2; the order of ReLU, batch norm and
    pooling and the dropout rate are those of its authors' notebook.
    """

    min_size: ClassVar[int] = 25

    has_batch_norm: bool = True
    """Whether there is batch norm."""
    pool_dropout: bool = True
    """Whether dropout follows the pools."""
    last_dropout: bool = True
    """Whether dropout follows the last convolution; the authors' "no dropout" keeps this one."""
    pooling: Literal["max", "average", "conv"] = "max"
    """"max", "average" or "conv" (a learnt 5x5 convolution of stride 2)."""
    dtype: jnp.dtype = jnp.dtype("float32")
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, keys: Key | None = None, *, train: bool = False) -> Array:
        """Returns the flattened last maps (B, F) of normalised images `x` (B, H, W, C)."""

        def conv(x: Array, width: int, size: int = 3) -> Array:
            return nn.Conv(width, (size, size), padding="VALID", dtype=self.dtype)(x)

        def relu_and_norm(x: Array) -> Array:
            x = nn.relu(x)
            if not self.has_batch_norm:
                return x
            norm = nn.BatchNorm(momentum=0.9, dtype=self.dtype, axis_name=self.axis_name)
            return norm(x, use_running_average=not train)

        for block, width in enumerate((32, 64)):
            x = relu_and_norm(conv(x, width))
            x = relu_and_norm(conv(x, width))
            x = relu_and_norm(self._pool(x))
            x = Dropout(0.4, layer=block)(x, keys if self.pool_dropout else None)
        x = relu_and_norm(conv(x, 128, size=4))
        x = x.reshape(x.shape[0], -1)
        return Dropout(0.4, layer=2)(x, keys if self.last_dropout else None)

    def _pool(self, x: Array) -> Array:
        window, strides = (5, 5), (2, 2)
        padding: Any = ((2, 2), (2, 2))  # Flax's annotation of its pools knows only strings
        if self.pooling == "max":
            return nn.max_pool(x, window, strides, padding)
        if self.pooling == "average":
            return nn.avg_pool(x, window, strides, padding)
        return nn.Conv(x.shape[-1], window, strides, padding, dtype=self.dtype)(x)
