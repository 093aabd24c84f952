"""The scale of images: mean and deviation of each channel, the largest value, what is said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from rbjax.inputs import parts

_MOST_MEASURED = 5000
"""Images that are measured at most, of train; of others a tenth."""


class Scale(NamedTuple):
    """What images are in [0, 1]."""

    mean: np.ndarray
    """(C,) float64."""
    std: np.ndarray
    """(C,) float64."""
    largest: float


def measure(images: Any, num_images: int = _MOST_MEASURED) -> Scale:
    """Returns the scale of images.

    Args:
        images: (N, H, W, C) uint8, or float32 of 16 bits in [0, 1]; decoded a few at a time.
        num_images: that are measured at most, evenly spread.
    """
    rows = np.unique(np.linspace(0, len(images) - 1, num_images).astype(np.int64))
    # Counted value by value: exact, in little memory.
    top = 255 if images.dtype == np.uint8 else 65535
    counts = np.zeros((images.shape[-1], top + 1), np.int64)
    for some in parts(rows, images.shape[1:]):
        pixels = images[some]
        pixels = pixels if top == 255 else np.rint(pixels * top).astype(np.int64)
        for channel, count in enumerate(counts):
            count += np.bincount(pixels[..., channel].ravel(), minlength=top + 1)
    values, shares = np.arange(top + 1) / top, counts / counts.sum(axis=1, keepdims=True)
    mean = shares @ values
    std = np.sqrt(np.sum(shares * (values - mean[:, None]) ** 2, axis=1))
    return Scale(mean, std, float(np.flatnonzero(counts.any(axis=0)).max() / top))


def dark(largest: float, dtype: np.dtype) -> tuple[str, ...]:
    """Returns what is said of images of 16 bits that use a small part of their range."""
    if dtype != np.float32 or largest >= 0.5:
        return ()
    return (
        f"the largest value is {largest:.4f} of the range of 16 bits ({round(largest * 65535)} of "
        "65535): epsilon is in units of the whole range",
    )


def beside(images: Any, trained_on: Sequence[float]) -> tuple[str, ...]:
    """Returns what is said of the scale of images that a model is given, beside its own.

    Args:
        images: as of `measure`.
        trained_on: the mean of each channel of the images that the model was trained on, (C,).
    """
    theirs = measure(images, _MOST_MEASURED // 10)
    means = [", ".join(f"{value:.3f}" for value in mean) for mean in (theirs.mean, trained_on)]
    said = f"their mean is {means[0]}, that of the training images {means[1]}"
    return (*dark(theirs.largest, images.dtype), said)
