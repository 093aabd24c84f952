"""Wide residual networks."""

from __future__ import annotations

from typing import Annotated, ClassVar

import flax.linen as nn
import jax.numpy as jnp

from rbjax.models.head import Backbone
from rbjax.models.layers import Layers, Width, block, global_average
from rbjax.models.preact_resnet import PreActBlock
from rbjax.options import Range
from rbjax.typing import Array, Key


class WideResNet(Backbone):
    """Wide residual network for CIFAR.

    A 3x3 stem of 16 channels, three stages of pre-activation blocks of 16, 32 and 64 channels
    times `widen_factor`, batch norm, ReLU, global average; no convolution has a bias. On 32x32x3
    images of 10 classes WRN-28-10, -34-10 and -40-2 have 36,479,194, 46,160,474 and 2,243,546
    parameters.

    Source: Zagoruyko and Komodakis, "Wide Residual Networks", 2016, arXiv:1605.07146; the blocks as
    in xternalz/WideResNet-pytorch, which TRADES, AugMix and RobustBench use.
    """

    min_size: ClassVar[int] = 1

    depth: Annotated[int, Range(low=10, high=1000)] = 40
    """Convolutions on the way, 6 n + 4 with n blocks a stage."""
    widen_factor: Width = 2
    """What the channels of the stages are multiplied by."""
    dropout: Annotated[float, Range(low=0.0, below=1.0)] = 0.0
    """Probability that a value between a block's convolutions becomes zero."""
    remat: bool = False
    """Whether the backward pass computes blocks again, to save memory."""
    dtype: jnp.dtype = jnp.dtype("float32")
    axis_name: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.depth - 4) % 6:
            raise ValueError(f"depth is {self.depth}; allowed: 6 n + 4, such as 16, 28, 34, 40")

    @nn.compact
    def __call__(self, x: Array, keys: Key | None = None, *, train: bool = False) -> Array:
        """Returns the averaged last maps (B, F) of normalised images `x` (B, H, W, C)."""
        layers, count = Layers(train, self.dtype, self.axis_name), (self.depth - 4) // 6
        x = layers.conv(16, name="conv1")(x)
        for stage in range(3):
            for index in range(count):
                made = block(PreActBlock, remat=self.remat)(
                    layers,
                    16 * 2**stage * self.widen_factor,
                    2 if stage > 0 and index == 0 else 1,
                    dropout=self.dropout,
                    number=stage * count + index,
                    name=f"block{stage + 1}_{index}",
                )
                x = made(x, keys)
        return global_average(nn.relu(layers.norm(name="bn1")(x)))
