"""A multilayer perceptron, the family that knows nothing of where a pixel is."""

from __future__ import annotations

from typing import Annotated, ClassVar

import flax.linen as nn
import jax.numpy as jnp

from rbjax.inputs import is_channels_first
from rbjax.models.head import Backbone
from rbjax.options import Range
from rbjax.typing import Array, Key


class MLP(Backbone):
    """Multilayer perceptron: dense layers with a ReLU after each, of the flattened image.

    Two hidden layers of 256 have 269,322 parameters on 28x28x1 images of 10 classes.

    Source: Rumelhart, Hinton and Williams, "Learning representations by back-propagating errors",
    1986, Nature 323; ReLU for the sigmoid.
    """

    min_size: ClassVar[int] = 1

    widths: Annotated[tuple[int, ...], Range(low=1, high=65536)] = (256, 256)
    """Units of each hidden layer."""
    dtype: jnp.dtype = jnp.dtype("float32")

    def __post_init__(self) -> None:
        widths = self.widths
        some = isinstance(widths, tuple) and len(widths) > 0
        if not some or not all(isinstance(width, int) and width > 0 for width in widths):
            raise ValueError(f"widths is {widths}; allowed: positive integers, such as (256, 256)")
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Array, keys: Key | None = None, *, train: bool = False) -> Array:
        """Returns the last hidden layer (B, F) of normalised images `x` (B, H, W, C).

        Raises:
            ValueError: for images with their channels first, which a flattened image would hide.
        """
        if x.ndim == 4 and is_channels_first(x.shape[1:]):
            raise ValueError(
                f"images are {x.shape}, channels first; channels come last: give "
                "jnp.moveaxis(images, 1, -1)"
            )
        x = x.reshape(x.shape[0], -1)
        for width in self.widths:
            x = nn.relu(nn.Dense(width, dtype=self.dtype)(x))
        return x
