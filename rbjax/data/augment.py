"""Augmentation of one image in [0, 1], inside the compiled step.

Each operation is a deterministic core (`pad_and_crop(image, top, left, padding=...)`) and a random
form (`random_pad_and_crop(key, image, padding=...)`); batches by `vmap`.  What comes from outside
the image is black (0).  Nothing is clipped but by `create`, once, at the end.
"""

from __future__ import annotations

import math

import dm_pix
import jax
import jax.numpy as jnp

from rbjax import prng
from rbjax.geometry import random_rotate
from rbjax.typing import Array, Key, Perturbation


def random_flip_horizontal(key: Key, image: Array) -> Array:
    """Returns the image mirrored left to right half of the time.

    Args:
        key: one key.
        image: (H, W, C).

    Returns:
        (H, W, C).
    """
    return jnp.where(jax.random.bernoulli(key), dm_pix.flip_left_right(image), image)


def random_flip_vertical(key: Key, image: Array) -> Array:
    """Returns the image mirrored top to bottom half of the time.

    Args:
        key: one key.
        image: (H, W, C).

    Returns:
        (H, W, C).
    """
    return jnp.where(jax.random.bernoulli(key), dm_pix.flip_up_down(image), image)


def pad_and_crop(image: Array, top: Array | int, left: Array | int, *, padding: int) -> Array:
    """Returns a window of the image's own size out of the image with black around it.

    Args:
        image: (H, W, C).
        top: first row of the window in the padded image, in [0, 2 padding].
        left: first column, in [0, 2 padding].
        padding: black pixels on each side.

    Returns:
        (H, W, C); the image itself where `top` and `left` are `padding`.
    """
    padded = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    return jax.lax.dynamic_slice(padded, (top, left, 0), image.shape)


def random_pad_and_crop(key: Key, image: Array, *, padding: int) -> Array:
    """Returns a random window of the image's own size out of the image with black around it.

    Args:
        key: one key.
        image: (H, W, C).
        padding: black pixels on each side, at least 0.

    Returns:
        (H, W, C); each of the (2 padding + 1)^2 windows is equally likely.
    """
    top, left = jax.random.randint(key, (2,), 0, 2 * padding + 1)
    return pad_and_crop(image, top, left, padding=padding)


def create(
    *,
    flip_horizontal: bool = False,
    flip_vertical: bool = False,
    rotation_degrees: float = 0.0,
    crop_padding: int = 0,
) -> Perturbation:
    """Makes an augmentation: crop, flips and rotation, in this order, those that are asked for.

    Each operation draws from a stream of its own, so that one more does not change the others.

    Args:
        flip_horizontal: mirror left to right half of the time.
        flip_vertical: mirror top to bottom half of the time.
        rotation_degrees: the largest rotation either way, in [0, 180].
        crop_padding: black pixels around the image before the random crop, at least 0.

    Returns:
        (key, image) -> image, both (H, W, C) in [0, 1]; the image itself if nothing is asked for.

    Raises:
        ValueError: if a number is out of range.
    """
    if not (math.isfinite(rotation_degrees) and 0.0 <= rotation_degrees <= 180.0):
        raise ValueError(f"rotation_degrees = {rotation_degrees!r}: must be in [0, 180]")
    if isinstance(crop_padding, bool) or int(crop_padding) != crop_padding or crop_padding < 0:
        raise ValueError(f"crop_padding = {crop_padding!r}: must be an integer of at least 0")

    def augment(key: Key, image: Array) -> Array:
        if crop_padding:
            image = random_pad_and_crop(prng.named(key, "crop"), image, padding=int(crop_padding))
        if flip_horizontal:
            image = random_flip_horizontal(prng.named(key, "flip_horizontal"), image)
        if flip_vertical:
            image = random_flip_vertical(prng.named(key, "flip_vertical"), image)
        if rotation_degrees:
            image = random_rotate(prng.named(key, "rotate"), image, max_degrees=rotation_degrees)
        return jnp.clip(image, 0.0, 1.0)

    return augment
