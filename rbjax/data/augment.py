"""Augmentation of one image in [0, 1], inside the compiled step.

Each operation is a deterministic core (`pad_and_crop(image, top, left, padding=...)`) and a random
form (`random_pad_and_crop(key, image, padding=...)`); batches by `vmap`.  Outside the image is
black (0), or the `fill`: after a model's normalisation the mean colour is 0.
Brightness, contrast, saturation and hue are torchvision's: a factor of 1 and a shift of 0 leave the
image as it is, and the random factor is uniform in [max(0, 1 - size), 1 + size].  `create` clips
after each of these four, as torchvision does, and the result once at the end.
"""

from __future__ import annotations

from collections.abc import Sequence

import dm_pix
import jax
import jax.numpy as jnp

from rbjax import cpab, photometric, prng
from rbjax.geometry import random_rotate
from rbjax.inputs import check_integer, check_real
from rbjax.typing import Array, Key, Perturbation

_SMOOTHNESS = 0.35
"""Distance over which the velocities of a deformation are similar, in widths of the image."""
_FLOW_STEPS = 10


def random_flip_horizontal(key: Key, image: Array) -> Array:
    """Returns the image mirrored left to right half of the time.

    Args:
        key: one key.
        image: (H, W, C).

    Returns:
        (H, W, C).
    """
    return jnp.where(prng.bernoulli(key), dm_pix.flip_left_right(image), image)


def random_flip_vertical(key: Key, image: Array) -> Array:
    """Returns the image mirrored top to bottom half of the time.

    Args:
        key: one key.
        image: (H, W, C).

    Returns:
        (H, W, C).
    """
    return jnp.where(prng.bernoulli(key), dm_pix.flip_up_down(image), image)


def pad_and_crop(
    image: Array,
    top: Array | int,
    left: Array | int,
    *,
    padding: int,
    fill: Sequence[float] = (0.0,),
) -> Array:
    """Returns a window of the image's own size out of the image with one colour around it.

    Args:
        image: (H, W, C).
        top: first row of the window in the padded image, in [0, 2 padding].
        left: first column, in [0, 2 padding].
        padding: pixels on each side.
        fill: their colour, C numbers or one for all channels; black.

    Returns:
        (H, W, C); the image itself where `top` and `left` are `padding`.
    """
    height, width, channels = image.shape
    shape = (height + 2 * padding, width + 2 * padding, channels)
    canvas = jnp.broadcast_to(jnp.asarray(fill, image.dtype), shape)
    padded = jax.lax.dynamic_update_slice(canvas, image, (padding, padding, 0))
    start = tuple(map(jnp.int32, (top, left, 0)))
    return jax.lax.dynamic_slice(padded, start, image.shape)


def random_pad_and_crop(
    key: Key, image: Array, *, padding: int, fill: Sequence[float] = (0.0,)
) -> Array:
    """Returns a random window of the image's own size out of the image with a colour around it.

    Args:
        key: one key.
        image: (H, W, C).
        padding: pixels on each side, at least 0.
        fill: their colour, C numbers or one for all channels; black.

    Returns:
        (H, W, C); each of the (2 padding + 1)^2 windows is equally likely.
    """
    top, left = prng.randint(key, (2,), 0, 2 * padding + 1)
    return pad_and_crop(image, top, left, padding=padding, fill=fill)


def cutout(
    image: Array,
    row: Array | int,
    column: Array | int,
    *,
    size: int,
    fill: Sequence[float] = (0.0,),
) -> Array:
    """Returns the image with a square of one colour, cut off where it leaves the image.

    Args:
        image: (H, W, C).
        row: of its centre; the square is rows row - size // 2 to row - size // 2 + size - 1.
        column: of its centre, likewise.
        size: its side in pixels.
        fill: its colour, C numbers or one for all channels; black.

    Returns:
        (H, W, C).
    """
    down = jnp.arange(image.shape[0])[:, None] - row + size // 2
    right = jnp.arange(image.shape[1]) - column + size // 2
    inside = (down >= 0) & (down < size) & (right >= 0) & (right < size)
    return jnp.where(inside[..., None], jnp.asarray(fill, image.dtype), image)


def random_cutout(key: Key, image: Array, *, size: int, fill: Sequence[float] = (0.0,)) -> Array:
    """Returns the image with a square of one colour, its centre uniform over the pixels.

    Args:
        key: one key.
        image: (H, W, C).
        size: its side in pixels.
        fill: its colour, C numbers or one for all channels; black.

    Returns:
        (H, W, C).

    Source: DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with
    Cutout", 2017, arXiv:1708.04552.
    """
    row, column = prng.randint(key, (2,), 0, jnp.array(image.shape[:2]))
    return cutout(image, row, column, size=size, fill=fill)


def random_brightness(key: Key, image: Array, *, size: float) -> Array:
    """Returns `photometric.adjust_brightness` by a random factor.

    Args:
        key: one key.
        image: (H, W, C).
        size: at least 0.

    Returns:
        (H, W, C).
    """
    return photometric.adjust_brightness(image, _factor(key, size))


def random_contrast(key: Key, image: Array, *, size: float) -> Array:
    """Returns `photometric.adjust_contrast` by a random factor.

    Args:
        key: one key.
        image: (H, W, C), C 1 or 3.
        size: at least 0.

    Returns:
        (H, W, C).
    """
    return photometric.adjust_contrast(image, _factor(key, size))


def random_saturation(key: Key, image: Array, *, size: float) -> Array:
    """Returns `photometric.adjust_saturation` by a random factor.

    Args:
        key: one key.
        image: (H, W, 3).
        size: at least 0.

    Returns:
        (H, W, 3).
    """
    return photometric.adjust_saturation(image, _factor(key, size))


def random_hue(key: Key, image: Array, *, size: float) -> Array:
    """Returns `photometric.adjust_hue` by a shift uniform in [-size, size].

    Args:
        key: one key.
        image: (H, W, 3) in [0, 1].
        size: in [0, 0.5].

    Returns:
        (H, W, 3).
    """
    return photometric.adjust_hue(image, prng.uniform(key, minval=-size, maxval=size))


def create(
    *,
    flip_horizontal: bool = False,
    flip_vertical: bool = False,
    rotation_degrees: float = 0.0,
    crop_padding: int = 0,
    deformation: float = 0.0,
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
    hue: float = 0.0,
    cutout_size: int = 0,
    fill: Sequence[float] = (0.0,),
) -> Perturbation:
    """Makes an augmentation of the requested operations.

    Crop, flips, rotation, deformation, colour jitter and Cutout come in this order, jitter as
    brightness, contrast, saturation and hue (torchvision shuffles these four).  Each has a random
    stream of its own, so adding one does not change the others.

    Args:
        flip_horizontal: whether to mirror left to right half of the time.
        flip_vertical: whether to mirror top to bottom half of the time.
        rotation_degrees: the largest rotation either way, in [0, 180].
        crop_padding: pixels around the image before the random crop, at least 0.
        deformation: how far a smooth deformation moves pixels, in widths of the image: the standard
            deviation of velocities (`rbjax.cpab`), at most 1; 0.05 is a lot.
        brightness: size of the factor's range, `[max(0, 1 - size), 1 + size]`.
        contrast: likewise.
        saturation: likewise.
        hue: the largest shift either way, in [0, 0.5].
        cutout_size: the side of Cutout's square, at least 0.
        fill: the colour that crop, rotation and Cutout fill with, C numbers in [0, 1] or one.

    Returns:
        (key, image) -> image, both (H, W, C) in [0, 1]; the image itself if nothing is requested.

    Raises:
        ValueError: if a number is out of range; and, when called, for an image whose channels have
            no contrast, saturation or hue, or are not those of the fill.
    """
    degrees = check_real("rotation_degrees", rotation_degrees, high=180.0)
    padding = check_integer("crop_padding", crop_padding, low=0)
    reach = check_real("deformation", deformation, high=1.0)
    square = check_integer("cutout_size", cutout_size, low=0)
    fill = tuple(check_real("fill", part, high=1.0) for part in fill)
    jitter = (
        ("brightness", random_brightness, check_real("brightness", brightness)),
        ("contrast", random_contrast, check_real("contrast", contrast)),
        ("saturation", random_saturation, check_real("saturation", saturation)),
        ("hue", random_hue, check_real("hue", hue, high=0.5)),
    )

    def augment(key: Key, image: Array) -> Array:
        if len(fill) not in (1, image.shape[-1]):
            raise ValueError(f"fill has {len(fill)} numbers; allowed: 1 or {image.shape[-1]}")
        if padding:
            crop = prng.named(key, "crop")
            image = random_pad_and_crop(crop, image, padding=padding, fill=fill)
        if flip_horizontal:
            image = random_flip_horizontal(prng.named(key, "flip_horizontal"), image)
        if flip_vertical:
            image = random_flip_vertical(prng.named(key, "flip_vertical"), image)
        if degrees:
            colour = jnp.asarray(fill if any(fill) else 0.0, image.dtype)
            turn = prng.named(key, "rotate")
            image = random_rotate(turn, image - colour, max_degrees=degrees) + colour
        if reach:
            field, own = cpab.Field(), prng.named(key, "deformation")
            factor = cpab.factor(cpab.smooth_covariance(field, length_scale=_SMOOTHNESS))
            image = cpab.random_warp(own, image, reach * factor, field=field, num_steps=_FLOW_STEPS)
        for name, change, size in jitter:
            if size:
                image = jnp.clip(change(prng.named(key, name), image, size=size), 0.0, 1.0)
        if square:
            image = random_cutout(prng.named(key, "cutout"), image, size=square, fill=fill)
        return jnp.clip(image, 0.0, 1.0)

    return augment


def _factor(key: Key, size: float) -> Array:
    return prng.uniform(key, minval=max(0.0, 1.0 - size), maxval=1.0 + size)
