"""Networks that P4 or PRBench may have meant, beside rbjax's `simple_cnn`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from rbjax.models.dropout import Dropout
from rbjax.models.head import Backbone
from rbjax.options import Positive, Range
from rbjax.typing import Array, Key

ACTIVATIONS = {
    "relu": nn.relu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "linear": lambda x: x,
}
"""What may follow a convolution, by name; Keras's layers have none unless one is asked for."""


class ReadCNN(Backbone):
    """P4's simple CNN with what the paper leaves open: two 3x3 convolutions, a 2x2 max pooling."""

    min_size: ClassVar[int] = 6

    widths: Annotated[tuple[int, int], Range(low=1, high=65536)] = (16, 32)
    """Channels of the first and of the second convolution."""
    activation: Literal["relu", "tanh", "sigmoid", "linear"] = "relu"
    """After each convolution."""
    scale: Positive = 1.0
    """What multiplies the input: 255 for values from 0 to 255."""
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, x: Array, keys: Key | None = None, *, train: bool = False) -> Array:
        """Returns the flattened maps (B, F) of images `x` (B, H, W, C)."""
        x = x * self.scale
        for width in self.widths:
            x = nn.Conv(width, (3, 3), padding="VALID", dtype=self.dtype)(x)
            x = ACTIVATIONS[self.activation](x)
        x = nn.max_pool(x, (2, 2), strides=(2, 2))
        return x.reshape(x.shape[0], -1)


class MNISTNet(Backbone):
    """The MNIST network of Robey's advbench, whose name and arguments PRBench's code gives.

    Convolutions 3x3 of 32 and 64 with ReLU, max pooling 2x2, dropout 0.25, a dense layer of 128
    with ReLU, dropout 0.5, and the head. PRBench does not publish its definition.

    Source: https://github.com/arobey1/advbench, advbench/networks.py.
    """

    min_size: ClassVar[int] = 6

    widths: Annotated[tuple[int, int, int], Range(low=1, high=65536)] = (32, 64, 128)
    """Channels of the convolutions, and values of the dense layer."""
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, x: Array, keys: Key | None = None, *, train: bool = False) -> Array:
        """Returns the dense layer's values (B, F) of images `x` (B, H, W, C)."""
        for width in self.widths[:2]:
            x = nn.relu(nn.Conv(width, (3, 3), padding="VALID", dtype=self.dtype)(x))
        x = nn.max_pool(x, (2, 2), strides=(2, 2))
        keys = keys if train else None
        x = Dropout(0.25, layer=0)(x.reshape(x.shape[0], -1), keys)
        x = nn.relu(nn.Dense(self.widths[2], dtype=self.dtype)(x))
        return Dropout(0.5, layer=1)(x, keys)
