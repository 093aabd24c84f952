"""Brightness, contrast, saturation and hue of one image in [0, 1], as torchvision defines them.

A factor of 1 and a shift of 0 leave the image as it is.  Nothing is clipped here.  The random forms
of the first three take a factor uniform in [max(0, 1 - size), 1 + size].
"""

from __future__ import annotations

import dm_pix
import jax
import jax.numpy as jnp

from rbjax.typing import Array, Key

_GREY = (0.2989, 0.587, 0.114)


def adjust_brightness(image: Array, factor: Array | float) -> Array:
    """Returns `factor image`.

    Args:
        image: (H, W, C).
        factor: at least 0.

    Returns:
        (H, W, C).
    """
    return factor * image


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


def random_brightness(key: Key, image: Array, *, size: float) -> Array:
    """Returns `adjust_brightness` by a random factor.

    Args:
        key: one key.
        image: (H, W, C).
        size: at least 0.

    Returns:
        (H, W, C).
    """
    return adjust_brightness(image, _factor(key, size))


def random_contrast(key: Key, image: Array, *, size: float) -> Array:
    """Returns `adjust_contrast` by a random factor.

    Args:
        key: one key.
        image: (H, W, C), C 1 or 3.
        size: at least 0.

    Returns:
        (H, W, C).
    """
    return adjust_contrast(image, _factor(key, size))


def random_saturation(key: Key, image: Array, *, size: float) -> Array:
    """Returns `adjust_saturation` by a random factor.

    Args:
        key: one key.
        image: (H, W, 3).
        size: at least 0.

    Returns:
        (H, W, 3).
    """
    return adjust_saturation(image, _factor(key, size))


def random_hue(key: Key, image: Array, *, size: float) -> Array:
    """Returns `adjust_hue` by a shift uniform in [-size, size].

    Args:
        key: one key.
        image: (H, W, 3) in [0, 1].
        size: in [0, 0.5].

    Returns:
        (H, W, 3).
    """
    return adjust_hue(image, jax.random.uniform(key, minval=-size, maxval=size))


def _factor(key: Key, size: float) -> Array:
    return jax.random.uniform(key, minval=max(0.0, 1.0 - size), maxval=1.0 + size)


def _grey(image: Array, what: str, allowed: str) -> Array:
    """(H, W, 1)."""
    _check_channels(image, what, allowed)
    red, green, blue = (image[..., i : i + 1] for i in range(3))
    return _GREY[0] * red + _GREY[1] * green + _GREY[2] * blue


def _check_channels(image: Array, what: str, allowed: str) -> None:
    if image.shape[-1] != 3:
        raise ValueError(f"{what} of {image.shape[-1]} channels is not defined; allowed: {allowed}")
