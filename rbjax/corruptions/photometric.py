"""Brightness, contrast and saturation: changes of every pixel's colour."""

from __future__ import annotations

import jax.numpy as jnp

from rbjax.typing import Array, Key


def brightness(key: Key, image: Array, *, amount: float) -> Array:
    """Returns the image with the V of every pixel's HSV raised.

    image V' / V, V the largest channel, V' = min(V + amount, 1); a black pixel becomes grey, of
    the amount. Of one channel it is min(image + amount, 1); of n, V is the largest of the n.

    Args:
        key: not used.
        image: (H, W, C) in [0, 1].
        amount: in pixel units.

    Returns:
        (H, W, C).
    """
    del key
    value = jnp.max(image, axis=-1, keepdims=True)
    brighter = jnp.minimum(value + amount, 1.0)
    black = value == 0
    return jnp.where(black, brighter, image * (brighter / jnp.where(black, 1.0, value)))


def contrast(key: Key, image: Array, *, factor: float) -> Array:
    """Returns `mean + factor (image - mean)`, the mean each channel's own.

    Args:
        key: not used.
        image: (H, W, C).
        factor: below 1 for less contrast.

    Returns:
        (H, W, C).
    """
    del key
    mean = jnp.mean(image, axis=(0, 1), keepdims=True)
    return mean + factor * (image - mean)


def saturate(key: Key, image: Array, *, factor: float, amount: float) -> Array:
    """Returns the image with the S of every pixel's HSV changed.

    V - (V - image) S' / S, V the largest channel, S = 1 - smallest / V, and
    S' = clip(factor S + amount, 0, 1). A grey pixel of three channels turns reddish if the amount
    is positive, as in HSV its hue is 0; of any other number of channels it stays grey, and so an
    image of one channel stays as it is.

    Args:
        key: not used.
        image: (H, W, C) in [0, 1].
        factor: of the saturation.
        amount: what is added to it.

    Returns:
        (H, W, C).
    """
    del key
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
