"""A folder of images by class: its files, and their pixels as arrays.

    path/train/<class>/<file>   and   path/test/<class>/<file>   (or val in place of test)
    path/<class>/<file>         a share of each class is held out as test

Classes and files are in alphabetical order.  Images are whatever Pillow reads, or .npy files
(H, W, C) with any number of bands.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rbjax.data.images import cover
from rbjax.data.imbalance import select
from rbjax.paths import expanded

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".npy", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
_SPLITS = {"train": ("train",), "test": ("test", "val")}
_MODES = {1: "L", 3: "RGB"}
_EIGHT_BITS = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"}
"""Pillow's modes with at most 8 bits a channel; it would truncate the values of others."""


class Listing(NamedTuple):
    """The images of one split."""

    files: tuple[Path, ...]
    labels: np.ndarray
    """(N,) int32."""
    class_names: tuple[str, ...]


def scan(path: str | Path, split: str, *, test_fraction: float = 0.2) -> Listing:
    """Lists the images of a split.

    Args:
        path: the folder.
        split: "train" or "test".
        test_fraction: share of each class that is test if the folder has no splits of its own, in
            (0, 1); which images depends on their names alone.

    Returns:
        A Listing.

    Raises:
        ValueError: if there is no such folder, it holds no classes, or a class no image.
    """
    root = expanded(path, field="dataset.path")
    where = f"dataset.path = {str(path)!r}"
    if not root.is_dir():
        raise ValueError(f"{where}: {'not a folder' if root.exists() else 'no such folder'}")
    train = _split_folder(root, "train") or root
    class_names = tuple(sorted(entry.name for entry in _visible(train) if entry.is_dir()))
    if len(class_names) < 2:
        raise ValueError(
            f"{where}: {train} holds {len(class_names)} class folders; must be at least 2, as "
            "train/<class>/<image> and test/<class>/<image>, or <class>/<image>"
        )
    test = _split_folder(root, "test")
    for entry in _visible(test) if test and train != root else ():
        if entry.is_dir() and entry.name not in class_names:
            raise ValueError(f"{where}: {entry} is a class that train does not have")
    has_splits = train != root
    folder = _split_folder(root, split) if has_splits else None
    if folder is None and has_splits:
        raise ValueError(f"{where}: has a folder train but none called test or val beside it")
    files, labels = [], []
    for label, name in enumerate(class_names):
        own = _images(root / name if folder is None else folder / name)
        # Test may lack a class, which then does not count; train may not.
        if not own and (folder is None or split == "train"):
            raise ValueError(
                f"{where}: {(folder or root) / name} holds no image ({', '.join(SUFFIXES)})"
            )
        files += own
        labels += [label] * len(own)
    if not files:
        raise ValueError(f"{where}: {folder} holds no image ({', '.join(SUFFIXES)})")
    listing = Listing(tuple(files), np.asarray(labels, np.int32), class_names)
    return listing if folder is not None else _share(listing, split, test_fraction, where)


def fingerprint(path: str | Path) -> str:
    """Returns a fingerprint of a folder of images: a digest of the names and sizes of its files.

    Args:
        path: the folder.

    Returns:
        16 characters.
    """
    root = expanded(path, field="dataset.path")
    parts = [root / name for names in _SPLITS.values() for name in names]
    parts = [part for part in parts if part.is_dir()] if parts[0].is_dir() else [root]
    files = sorted(file for part in parts for each in _visible(part) for file in _images(each))
    lines = [f"{file.relative_to(root).as_posix()} {file.stat().st_size}" for file in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def image_shape(
    files: Sequence[Path], *, image_size: tuple[int, int] | None, channels: int | None
) -> tuple[int, int, int]:
    """Returns the shape of the images as they are read.

    Args:
        files: at least one.
        image_size: height and width; None: the first image's.
        channels: None: the first image's (1 for grey ones, else 3; the bands of a .npy file).

    Returns:
        Height, width, channels.

    Raises:
        ValueError: if the first image cannot be read.
    """
    height, width, bands = _raw(files[0], channels).shape
    height, width = image_size or (height, width)
    return height, width, bands


class FolderImages:
    """The images of a folder as an array that is decoded when indexed."""

    dtype = np.dtype(np.uint8)

    def __init__(self, files: Sequence[Path], shape: tuple[int, int, int], *, resize: bool) -> None:
        """Keeps the names of the files; none is read.

        Args:
            files: N files.
            shape: height, width and channels of every image.
            resize: whether images of other sizes are scaled until they cover the frame, and cropped
                to its middle; if not, they are refused.
        """
        self._files = tuple(files)
        self._resize = resize
        self.shape = (len(self._files), *shape)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, rows: int | slice | np.ndarray) -> np.ndarray:
        numbers = np.arange(len(self))[rows]
        if np.ndim(numbers) == 0:
            return self._read(self._files[int(numbers)])
        images = np.empty((len(numbers), *self.shape[1:]), np.uint8)
        for row, number in enumerate(numbers):
            images[row] = self._read(self._files[number])
        return images

    def _read(self, file: Path) -> np.ndarray:
        height, width, channels = self.shape[1:]
        image = _raw(file, channels)
        if image.shape[:2] == (height, width):
            return image
        if not self._resize:
            raise ValueError(
                f"{file}: is {image.shape[0]} x {image.shape[1]} pixels, others are {height} x "
                f"{width}; give dataset.image_size"
            )
        from PIL import Image

        bands = (Image.fromarray(band) for band in np.moveaxis(image, -1, 0))
        return np.stack([np.asarray(cover(band, height, width)) for band in bands], axis=-1)


def _raw(file: Path, channels: int | None) -> np.ndarray:
    """Returns an image as stored, (H, W, C) uint8."""
    if file.suffix.lower() == ".npy":
        try:
            image = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(f"{file}: not a .npy file that can be read ({error})") from None
        if image.dtype != np.uint8 or image.ndim != 3 or channels not in (None, image.shape[2]):
            bands = "C" if channels is None else channels
            raise ValueError(
                f"{file}: is {image.dtype} of shape {image.shape}; must be uint8 (H, W, {bands})"
            )
        return image
    from PIL import Image

    try:
        with Image.open(file) as opened:
            if opened.mode not in _EIGHT_BITS:
                raise ValueError(f"has more than 8 bits a channel ({opened.mode}); at most 8")
            grey = opened.mode in ("1", "L", "LA", "La")
            bands = channels or (1 if grey else 3)
            if bands not in _MODES:
                raise ValueError(f"has 1 or 3 channels, not {bands}; store bands as .npy (H, W, C)")
            image = np.asarray(opened.convert(_MODES[bands]))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # Pillow's
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{file}: not an image that can be read ({reason})") from None
    return image.reshape(*image.shape[:2], bands)


def _split_folder(root: Path, split: str) -> Path | None:
    return next((root / name for name in _SPLITS[split] if (root / name).is_dir()), None)


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    files = (file for file in _visible(folder) if file.suffix.lower() in SUFFIXES)
    return sorted(file for file in files if file.is_file())


def _visible(folder: Path) -> list[Path]:
    return [entry for entry in folder.iterdir() if not entry.name.startswith(".")]


def _share(listing: Listing, split: str, test_fraction: float, where: str) -> Listing:
    """Returns one split of a folder without splits, chosen by the names of the files."""
    names = [f"{file.parent.name}/{file.name}".encode() for file in listing.files]
    digests = [hashlib.sha256(name).digest() for name in names]
    ranks = np.empty(len(names), np.int64)
    ranks[sorted(range(len(names)), key=digests.__getitem__)] = np.arange(len(names))
    counts = np.bincount(listing.labels, minlength=len(listing.class_names))
    held_out = np.floor(test_fraction * counts + 0.5).astype(np.int64)
    for wrong in np.flatnonzero((held_out < 1) | (held_out >= counts)):
        raise ValueError(
            f"{where}: class {listing.class_names[wrong]} has {counts[wrong]} images, of which "
            f"dataset.test_fraction = {test_fraction:g} makes {held_out[wrong]} test; both splits "
            "need at least one"
        )
    test = select(listing.labels, ranks, held_out, name="test")
    rows = test if split == "test" else np.setdiff1d(np.arange(len(names)), test)
    files = tuple(listing.files[row] for row in rows)
    return Listing(files, listing.labels[rows], listing.class_names)
