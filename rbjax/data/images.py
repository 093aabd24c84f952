"""The images of a split: an array in memory, a memory map, or what decodes where it is indexed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np


class ImageArray(Protocol):
    """What can be indexed like (N, H, W, C) uint8; np.ndarray and np.memmap are such, too."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, C)."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """uint8."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> np.ndarray:
        """Returns the images of a slice or of (M,) integers, in memory."""
        ...


class View:
    """Some rows of images that are not in memory; nothing is read before it is indexed."""

    dtype = np.dtype(np.uint8)

    def __init__(self, base: ImageArray, rows: np.ndarray) -> None:
        """Keeps the numbers of the rows.

        Args:
            base: (N, H, W, C) uint8.
            rows: (M,) integers in [0, N).
        """
        self._base = base
        self._rows = np.asarray(rows, np.int64)
        self.shape = (len(self._rows), *base.shape[1:])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: Any) -> np.ndarray:
        return np.asarray(self._base[self._rows[rows]])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)

    def take(self, rows: np.ndarray) -> View:
        """Returns some of the rows; a view of the same base, not of this view."""
        return View(self._base, self._rows[rows])


def is_resident(images: Any) -> bool:
    """Says whether images are in memory as they are."""
    return isinstance(images, np.ndarray) and not isinstance(images, np.memmap)


def take(images: Any, rows: np.ndarray) -> Any:
    """Returns some images; those that are not in memory stay where they are.

    Args:
        images: (N, H, W, C) uint8, an ImageArray.
        rows: (M,) integers in [0, N).

    Returns:
        (M, H, W, C) uint8: an array of images in memory, else a View.
    """
    if is_resident(images):
        return images[rows]
    rows = np.arange(len(images))[rows]  # a mask or a slice becomes numbers
    return images.take(rows) if isinstance(images, View) else View(images, rows)


class _Channels:
    """Some channels of images that are not in memory."""

    dtype = np.dtype(np.uint8)

    def __init__(self, base: ImageArray, chosen: Sequence[int]) -> None:
        self._base = base
        self._chosen = list(chosen)
        self.shape = (*base.shape[:-1], len(self._chosen))

    def __len__(self) -> int:
        return len(self._base)

    def __getitem__(self, rows: Any) -> np.ndarray:
        return np.asarray(self._base[rows])[..., self._chosen]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)


def channels(images: Any, chosen: Sequence[int]) -> Any:
    """Returns some channels of images; those that are not in memory stay where they are.

    Args:
        images: (N, H, W, C) uint8, an ImageArray.
        chosen: (D,) integers in [0, C), in the order wanted.

    Returns:
        (N, H, W, D) uint8: an array of images in memory, else an ImageArray.
    """
    return images[..., list(chosen)] if is_resident(images) else _Channels(images, chosen)


def base(images: Any) -> Any:
    """Returns what some rows or channels of images are read from; images themselves of others."""
    while isinstance(images, View | _Channels):
        images = images._base
    return images
