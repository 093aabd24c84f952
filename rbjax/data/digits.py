"""scikit-learn's handwritten digits: real images that need no network."""

from __future__ import annotations

import functools

import numpy as np

from rbjax.data.order import example_ids

_TEST_PER_CLASS = 36


@functools.cache
def load_digits(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns a split of the 1,797 handwritten digits.

    Intensities 0 to 16 become 0 to 255, and the 8x8 images are enlarged to 16x16 (bilinear,
    half-pixel centres), so that a network with two or three pooling layers still sees one.  The
    test set is the first 36 of each class by digest, the rest is train.

    Args:
        split: "train" or "test".

    Returns:
        images (N, 16, 16, 1) uint8 and labels (N,) int32, in scikit-learn's order.
    """
    from sklearn.datasets import load_digits as sklearn_digits  # takes a second to import

    pixels, target = sklearn_digits(return_X_y=True)
    labels = np.asarray(target, np.int32)
    images = enlarge(np.reshape(pixels, (-1, 8, 8)) * (255.0 / 16.0))[..., None]
    ids = example_ids(images, labels)
    is_test = np.zeros(len(labels), bool)
    for label in range(10):
        rows = np.flatnonzero(labels == label)
        is_test[rows[np.argsort(ids[rows])[:_TEST_PER_CLASS]]] = True
    rows = np.flatnonzero(is_test == (split == "test"))
    return images[rows], labels[rows]


def enlarge(images: np.ndarray) -> np.ndarray:
    """Returns images twice as high and wide, bilinear with half-pixel centres.

    Args:
        images: (N, H, W) in [0, 255].

    Returns:
        (N, 2H, 2W) uint8, rounded half up.
    """
    for axis in (1, 2):
        size = images.shape[axis]
        before = np.take(images, np.maximum(np.arange(size) - 1, 0), axis)
        after = np.take(images, np.minimum(np.arange(size) + 1, size - 1), axis)
        pair = np.stack([0.25 * before + 0.75 * images, 0.75 * images + 0.25 * after], axis + 1)
        shape = list(images.shape)
        shape[axis] *= 2
        images = pair.reshape(shape)
    return np.floor(images + 0.5).astype(np.uint8)
