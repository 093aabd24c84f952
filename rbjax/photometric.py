"""Brightness, contrast, saturation and hue of one image in [0, 1], as each field defines them.

Augmentation has torchvision's (`adjust_*`): a factor of 1 and a shift of 0 change nothing.
A perturbation shifts brightness and scales contrast. ImageNet-C raises HSV's value and scales its
saturation. Nothing is clipped here.
"""

from __future__ import annotations

import dm_pix
import jax.numpy as jnp

from rbjax.typing import Array

_GREY = (0.2989, 0.587, 0.114)
"""Red, green and blue in grey, as torchvision weighs them."""


def adjust_brightness(image: Array, factor: Array | float) -> Array:
    """Returns `factor image`.

    Args:
        image: (H, W, C).
        factor: at least 0.

    Returns:
        (H, W, C).
    """
    return factor * image


def shift_brightness(image: Array, delta: Array | float) -> Array:
    """Returns `image + delta`.

    Args:
        image: (H, W, C).
        delta: in pixel units.

    Returns:
        (H, W, C).
    """
    return image + jnp.asarray(delta, image.dtype)


def raise_value(image: Array, amount: Array | float) -> Array:
    """Returns the image with the V of every pixel's HSV raised.

    image V' / V, V the largest channel, V' = min(V + amount, 1); a black pixel becomes grey, of
    the amount. Of one channel it is min(image + amount, 1); of n, V is the largest of the n.

    Args:
        image: (H, W, C) in [0, 1].
        amount: in pixel units.

    Returns:
        (H, W, C).
    """
    value = jnp.max(image, axis=-1, keepdims=True)
    brighter = jnp.minimum(value + amount, 1.0)
    black = value == 0
    return jnp.where(black, brighter, image * (brighter / jnp.where(black, 1.0, value)))


def adjust_contrast(image: Array, factor: Array | float) -> Array:
    """Returns `factor image + (1 - factor) m`, m the mean of the image's grey version.

    Args:
        image: (H, W, C), C 1 or 3.
        factor: at least 0.

    Returns:
        (H, W, C).

    Raises:
        ValueError: for another number of channels.
    """
    grey = image if image.shape[-1] == 1 else _grey(image, "contrast", "1 or 3")
    return factor * image + (1 - factor) * jnp.mean(grey)


def scale_contrast(image: Array, factor: Array | float) -> Array:
    """Returns `m + factor (image - m)`, m the mean of each channel.

    Args:
        image: (H, W, C).
        factor: below 1 for less contrast.

    Returns:
        (H, W, C).
    """
    mean = jnp.mean(image, axis=(0, 1), keepdims=True)
    return mean + jnp.asarray(factor, image.dtype) * (image - mean)


def adjust_saturation(image: Array, factor: Array | float) -> Array:
    """Returns `factor image + (1 - factor) g`, `g = 0.2989 R + 0.587 G + 0.114 B`.

    Args:
        image: (H, W, 3).
        factor: at least 0.

    Returns:
        (H, W, 3).

    Raises:
        ValueError: for another number of channels.
    """
    return factor * image + (1 - factor) * _grey(image, "saturation", "3")


def scale_saturation(image: Array, factor: float, amount: float) -> Array:
    """Returns the image with the S of every pixel's HSV changed.

    V - (V - image) S' / S, V the largest channel, S = 1 - smallest / V, and
    S' = clip(factor S + amount, 0, 1). A grey pixel of three channels turns reddish if the amount
    is positive, as in HSV its hue is 0; of any other number of channels it stays grey, and so an
    image of one channel stays as it is.

    Args:
        image: (H, W, C) in [0, 1].
        factor: of the saturation.
        amount: what is added to it.

    Returns:
        (H, W, C).
    """
    value = jnp.max(image, axis=-1, keepdims=True)
    depth = value - jnp.min(image, axis=-1, keepdims=True)
    grey = depth == 0
    saturation = depth / jnp.where(value == 0, 1.0, value)
    changed = jnp.clip(saturation * factor + amount, 0.0, 1.0)
    coloured = value - (value - image) * (changed / jnp.where(grey, 1.0, saturation))
    if image.shape[-1] == 3:
        # A grey pixel's hue is 0, which is red.
        reddish = jnp.concatenate([value] + [value * (1 - changed)] * 2, axis=-1)
        return jnp.where(grey, reddish, coloured)
    return jnp.where(grey, image, coloured)


def adjust_hue(image: Array, shift: Array | float) -> Array:
    """Returns the image with its hue turned, saturation and value of HSV kept.

    Args:
        image: (H, W, 3) in [0, 1].
        shift: in [-0.5, 0.5], of a whole turn.

    Returns:
        (H, W, 3).

    Raises:
        ValueError: for another number of channels.
    """
    _check_channels(image, "hue", "3")
    return jnp.asarray(dm_pix.adjust_hue(image, shift))


def _grey(image: Array, what: str, allowed: str) -> Array:
    """(H, W, 1)."""
    _check_channels(image, what, allowed)
    red, green, blue = (image[..., i : i + 1] for i in range(3))
    return _GREY[0] * red + _GREY[1] * green + _GREY[2] * blue


def _check_channels(image: Array, what: str, allowed: str) -> None:
    if image.shape[-1] != 3:
        raise ValueError(f"{what} of {image.shape[-1]} channels is not defined; allowed: {allowed}")
