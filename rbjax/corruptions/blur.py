"""Blur: Gaussian, out of focus, by motion and by zooming."""

from __future__ import annotations

import numpy as np

from rbjax import prng
from rbjax.corruptions import separable
from rbjax.inputs import round_off
from rbjax.perturbations.blur import motion_blur as smear
from rbjax.typing import Array, Key

_WIDEST = 8
"""Up to this radius a disk is drawn on a grid of fixed size and smoothed over 3 pixels, not 5."""


def blur(image: Array, sigma: float, *, vertical: bool = False) -> Array:
    """Returns the image blurred by a Gaussian cut off at 4 sigma; edge pixels are repeated outside.

    Args:
        image: (H, W, C).
        sigma: standard deviation, in pixels; below 1/8 nothing changes.
        vertical: whether down the columns only.

    Returns:
        (H, W, C).
    """
    height, width, _ = image.shape
    columns = np.eye(width) if vertical else separable.gaussian(width, sigma)
    return separable.apply(image, separable.gaussian(height, sigma), columns)


def disk(radius: float, sigma: float) -> np.ndarray:
    """Returns the weights of a lens out of focus: a disk, its rim smoothed.

    A pixel whose centre lies within the radius is in the disk; it sums to 1 and is smoothed by a
    Gaussian of 3 x 3 weights, of 5 x 5 if the radius is above 8.

    Args:
        radius: of the disk, in pixels.
        sigma: of the Gaussian, in pixels.

    Returns:
        (2 r + 1, 2 r + 1) float64, r the largest distance with a weight above 1e-8.
    """
    reach, rim = (_WIDEST, 1) if radius <= _WIDEST else (int(np.ceil(radius)), 2)
    squares = np.arange(-reach, reach + 1) ** 2
    weights = (squares[:, None] + squares <= radius**2).astype(float)
    taps = np.exp(-0.5 * (np.arange(-rim, rim + 1) / sigma) ** 2)
    smooth = separable.convolution(len(weights), taps / taps.sum(), border="reflect")
    weights = smooth @ (weights / weights.sum()) @ smooth.T
    used = np.flatnonzero(weights.max(axis=0) > 1e-8)
    return weights[used[0] : used[-1] + 1, used[0] : used[-1] + 1]


def gaussian_blur(key: Key, image: Array, *, sigma: float, profile: str) -> Array:
    """Returns the image blurred by a Gaussian: see `blur`.

    In the profile "mnist" it acts down the columns only: MNIST-C's code calls its filter with the
    two axes of an image as one axis and channels.

    Args:
        key: not used.
        image: (H, W, C).
        sigma: in pixels.
        profile: one of `PROFILES`.

    Returns:
        (H, W, C).
    """
    del key
    return blur(image, sigma, vertical=profile == "mnist")


def defocus_blur(key: Key, image: Array, *, radius: float, sigma: float) -> Array:
    """Returns the image averaged over a disk: see `disk`; it is mirrored at its last pixels.

    Args:
        key: not used.
        image: (H, W, C).
        radius: of the disk, in pixels.
        sigma: of the smoothing of its rim, in pixels.

    Returns:
        (H, W, C).
    """
    del key
    # A disk is a sum of few products of a column and a row: 5 of 15 x 15 weights.
    columns, sizes, rows = np.linalg.svd(disk(radius, sigma))
    used = sizes > 1e-7 * sizes[0]
    down, along = (columns * sizes).T[used], rows[used]
    height, width, _ = image.shape
    return separable.apply_sum(
        image,
        np.stack([separable.convolution(height, w, border="reflect") for w in down]),
        np.stack([separable.convolution(width, w, border="reflect") for w in along]),
    )


def motion_blur(key: Key, image: Array, *, radius: int, sigma: float) -> Array:
    """Returns the image smeared in a direction uniform in +-45 degrees.

    See `rbjax.perturbations.blur.motion_blur`; the result is rounded to 8 bits, as the published
    code saves it.

    Args:
        key: one key.
        image: (H, W, C) in [0, 1].
        radius: in pixels.
        sigma: in pixels.

    Returns:
        (H, W, C).
    """
    degrees = prng.uniform(key, minval=-45.0, maxval=45.0)
    return round_off(smear(image, degrees, radius=radius, sigma=sigma))


def zoom_blur(key: Key, image: Array, *, stop: float, step: float) -> Array:
    """Returns the mean of the image and of enlargements of its middle.

    (image + sum over f of zoom_f(image)) / (n + 1), f the n factors 1, 1 + step, ... as
    `numpy.arange(1, stop, step)` has them: in floating point the last may be the stop itself.

    Args:
        key: not used.
        image: (H, W, C).
        stop: where the factors end.
        step: from one factor to the next.

    Returns:
        (H, W, C).
    """
    del key
    height, width, _ = image.shape
    factors = np.arange(1, stop, step)
    rows, columns = (
        np.stack([separable.zoom(side, factor) for factor in factors]) for side in (height, width)
    )
    total = separable.apply_sum(image, rows, columns)
    return (image + total) / (len(factors) + 1)
