"""Encoded images as an array that is decoded when indexed, and how one is made to fit."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rbjax.data import pictures
from rbjax.data.images import cover
from rbjax.data.survey import THREADS, refuse

Read = Callable[[Any, tuple[int, ...]], np.ndarray]
"""(what stands for an image, (H, W, C)) -> its pixels; called in several threads."""


class EncodedImages:
    """Images as an array that is decoded when indexed."""

    def __init__(
        self, items: Sequence[Any], shape: tuple[int, int, int], read: Read, dtype: Any = np.uint8
    ) -> None:
        """Keeps what stands for the images; none is read.

        Args:
            items: N of them: the names of their files.
            shape: height, width and channels of every image.
            read: from an item and the shape to its image.
            dtype: of the pixels, uint8 or float32.
        """
        self._items, self._read = items, read
        self.shape, self.dtype = (len(items), *shape), np.dtype(dtype)

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, rows: int | slice | np.ndarray) -> np.ndarray:
        numbers, shape = np.arange(len(self))[rows], self.shape[1:]
        if np.ndim(numbers) == 0:
            return self._read(self._items[int(numbers)], shape)
        images = np.empty((len(numbers), *shape), self.dtype)

        def fill(row: int) -> ValueError | None:
            try:
                images[row] = self._read(self._items[numbers[row]], shape)
            except ValueError as error:
                return error
            return None

        with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
            failed = pool.map(fill, range(len(numbers)))
            refuse([error for error in failed if error is not None], len(numbers))
        return images


def reader(dtype: Any) -> Read:
    """Returns what reads an image file as `covering` makes it, of a dtype."""

    def read(file: Path, shape: tuple[int, ...]) -> np.ndarray:
        return covering(pictures.read(file, shape[2], dtype), shape)

    return read


def covering(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Returns an image scaled until it covers the frame, and cropped to its middle.

    Args:
        image: (H, W, C) uint8 or float32; scaled bilinearly, with antialiasing.
        shape: height, width and channels wanted.

    Returns:
        `shape`, of the image's dtype.
    """
    height, width, _ = shape
    if image.shape[:2] == (height, width):
        return image
    from PIL import Image

    bands = (Image.fromarray(band) for band in np.moveaxis(image, -1, 0))
    return np.stack([np.asarray(cover(band, height, width)) for band in bands], axis=-1)
