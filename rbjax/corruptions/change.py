"""What all corruptions share: the range, the dtype, and 8 bits as the published code cuts them."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from rbjax.typing import Array, Key, Perturbation

_SLACK = 1e-3
"""A level that float32 misses from below by less than this is that level, not the one below."""


MIN_SIDE = 8
"""Pixels along an image's shorter side."""


def truncate(image: Array) -> Array:
    """Returns `floor(255 image) / 255`: what is left of an image cut to 8 bits, not rounded.

    Args:
        image: any shape, in [0, 1].

    Returns:
        The same shape and dtype; levels k / 255 stay as they are, float32's error is forgiven.
    """
    return jnp.floor(255 * image + _SLACK) / 255


def round_off(image: Array) -> Array:
    """Returns `round(255 image) / 255`: an image's nearest 8 bits."""
    return jnp.round(255 * image) / 255


@dataclasses.dataclass(frozen=True)
class Corruption:
    """A corruption: its change computed in float32, clipped to [0, 1], in the image's dtype.

    Corruptions are frozen dataclasses so that two made from the same options are equal, and a
    program compiled for one serves the other.
    """

    change: Perturbation
    """(key, image) -> image, which may leave [0, 1]."""
    quantize: bool = False
    """Whether the result is cut to 8 bits."""

    def __call__(self, key: Key, image: Array) -> Array:
        """Returns the corrupted image of one image, in [0, 1]."""
        image = jnp.asarray(image)
        if not jnp.issubdtype(image.dtype, jnp.floating):
            raise ValueError(
                f"image is of {image.dtype}; a corruption needs floating values in [0, 1], of "
                "uint8 image / 255"
            )
        if image.ndim != 3 or min(image.shape[:2]) < MIN_SIDE:
            raise ValueError(
                f"image has shape {image.shape}; a corruption needs (H, W, C) with H and W of at "
                f"least {MIN_SIDE}"
            )
        wide = image.astype(jnp.promote_types(image.dtype, jnp.float32))
        changed = jnp.clip(self.change(key, wide), 0.0, 1.0)
        return (truncate(changed) if self.quantize else changed).astype(image.dtype)
