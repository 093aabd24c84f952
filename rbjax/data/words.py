"""Images of 8 bits in words: four channels of a pixel in one, read and moved together."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from rbjax.inputs import UNIT_INTERVAL
from rbjax.typing import Array


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["pixels"], meta_fields=["channels"]
)
@dataclasses.dataclass(frozen=True)
class Words:
    """An image of 8 bits."""

    pixels: tuple[Array, ...]
    """(H, W) uint32 each; the first channel of four is in the lowest bits."""
    channels: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the image, (H, W, C)."""
        height, width = self.pixels[0].shape
        return height, width, self.channels

    def levels(self, channel: int) -> Array:
        """Returns a channel, (H, W) int32 in [0, 255]."""
        word, place = divmod(channel, 4)
        return ((self.pixels[word] >> 8 * place) & 255).astype(jnp.int32)

    def all_levels(self) -> Array:
        """Returns the image, (H, W, C) int32 in [0, 255]."""
        return jnp.stack([self.levels(channel) for channel in range(self.channels)], axis=-1)


def pack(image: Array) -> Words:
    """Returns the nearest 8 bits of an image (H, W, C), floating in [0, 1] or uint8."""
    if image.dtype != jnp.uint8:
        image = jnp.round(image.astype(jnp.float32) * 255)
    levels = image.astype(jnp.int32)
    return joined([levels[..., channel] for channel in range(levels.shape[-1])])


def joined(channels: list[Array]) -> Words:
    """Returns an image of its channels, each (H, W) int32 in [0, 255]."""
    parts = [level.astype(jnp.uint32) << 8 * (i % 4) for i, level in enumerate(channels)]
    words = [functools.reduce(jnp.bitwise_or, parts[i : i + 4]) for i in range(0, len(parts), 4)]
    return Words(tuple(words), len(channels))


def unpack(words: Words, dtype: jnp.dtype) -> Array:
    """Returns the image (H, W, C), of k / 255 or, where the dtype is uint8, of k."""
    levels = words.all_levels()
    if dtype == jnp.uint8:
        return levels.astype(jnp.uint8)
    # By a table: XLA turns a division by a constant into a product, which is not k / 255.
    return jnp.asarray(UNIT_INTERVAL)[levels].astype(dtype)


def by_channel(change: Callable[[Array], Array], words: Words) -> Words:
    """Returns an image each of whose channels, (H, W) int32, is changed alone."""
    return joined([change(words.levels(channel)) for channel in range(words.channels)])
