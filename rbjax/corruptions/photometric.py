"""Brightness, contrast and saturation: changes of every pixel's colour, the same at every call."""

from __future__ import annotations

from rbjax import photometric
from rbjax.typing import Array, Key


def brightness(key: Key, image: Array, *, amount: float) -> Array:
    """Returns the image with the V of every pixel's HSV raised: see `photometric.raise_value`.

    Args:
        key: not used.
        image: (H, W, C) in [0, 1].
        amount: in pixel units.

    Returns:
        (H, W, C).
    """
    del key
    return photometric.raise_value(image, amount)


def contrast(key: Key, image: Array, *, factor: float) -> Array:
    """Returns `m + factor (image - m)`, m the mean of each channel.

    Args:
        key: not used.
        image: (H, W, C).
        factor: below 1 for less contrast.

    Returns:
        (H, W, C).
    """
    del key
    return photometric.scale_contrast(image, factor)


def saturate(key: Key, image: Array, *, factor: float, amount: float) -> Array:
    """Returns the image with the S of every pixel's HSV changed: see `photometric`.

    Args:
        key: not used.
        image: (H, W, C) in [0, 1].
        factor: of the saturation.
        amount: what is added to it.

    Returns:
        (H, W, C).
    """
    del key
    return photometric.scale_saturation(image, factor, amount)
