"""A folder of images by class: its files, and their pixels as arrays.

    path/train/<class>/<file>   and   path/test/<class>/<file>   (or val in place of test)
    path/<class>/<file>         a share of each class is held out as test

Folders inside a class belong to it.  Classes and files are in alphabetical order.  Images are
whatever Pillow reads, whatever they are called (see `pictures`), or .npy files (H, W, C) with any
number of bands.  What is left out is counted and named.
"""

from __future__ import annotations

import collections
import concurrent.futures
import functools
import hashlib
import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rbjax.data import pictures
from rbjax.data.images import cover
from rbjax.data.imbalance import select
from rbjax.paths import expanded

_SPLITS = {"train": ("train",), "test": ("test", "val")}
_OF_SPLITS = {"train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval"}
"""What folders of splits are called elsewhere; as classes they would mix all others."""
_CLUTTER = {"__MACOSX", "Thumbs.db", "desktop.ini"}
"""What systems leave beside files, besides names that begin with a dot, such as ._photo.png."""
_AT_ONCE, _THREADS = 1000, 8
_JUST_NOW = 1.0
"""Seconds; a file that was written since may be written again without looking different."""


class Listing(NamedTuple):
    """The images of one split."""

    files: tuple[Path, ...]
    labels: np.ndarray
    """(N,) int32."""
    class_names: tuple[str, ...]


class Survey(NamedTuple):
    """What the files of a folder, of both splits, are together."""

    fingerprint: str
    """16 characters: a digest of their names and their contents."""
    channels: int
    """The most that an image has: 3 as soon as one has colours, 1 if all are grey."""
    mixed: str
    """What is said of images with fewer channels; "" if there are none."""
    said: tuple[str, ...]
    """What is said of files that are left out, or not read as they are stored."""


class _Tree(NamedTuple):
    """The files of a folder."""

    class_names: tuple[str, ...]
    files: dict[str, list[list[Path]]]
    """Of each split, class by class; one that is made of shares of train is not in it."""
    left_out: list[tuple[str, Path]]
    """Why, and what."""


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
    root, where = expanded(path, field="dataset.path"), f"dataset.path = {str(path)!r}"
    tree = _tree(root, where)
    has_splits = _split_folder(root, "train") is not None
    if split not in tree.files and has_splits:
        raise ValueError(f"{where}: has a folder train but none called test or val beside it")
    own = tree.files[split if has_splits else "train"]
    folder = (_split_folder(root, split) or root) if has_splits else root
    for name, files in zip(tree.class_names, own, strict=True):
        # Test may lack a class, which then does not count; train may not.
        if not files and (not has_splits or split == "train"):
            raise ValueError(f"{where}: {folder / name} holds no image that can be read")
    if not any(own):
        raise ValueError(f"{where}: {folder} holds no image that can be read")
    labels = np.repeat(np.arange(len(own), dtype=np.int32), [len(files) for files in own])
    listing = Listing(tuple(itertools.chain.from_iterable(own)), labels, tree.class_names)
    return listing if has_splits else _share(listing, root, split, test_fraction, where)


def survey(path: str | Path) -> Survey:
    """Reads every file of a folder and the header of its image; again only after a change.

    Args:
        path: the folder.

    Returns:
        A Survey.

    Raises:
        ValueError: as `scan`, or naming a file that cannot be read.
    """
    root, where = expanded(path, field="dataset.path"), f"dataset.path = {str(path)!r}"
    tree = _tree(root, where)
    return survey_files(root, _all(tree), tree.left_out)


def survey_files(root: Path, files: Sequence[Path], left_out: Sequence[tuple[str, Path]]) -> Survey:
    """Returns the survey of some files; they are read again only after a change.

    Args:
        root: the folder that they are in.
        files: in the order in which they count.
        left_out: why another entry of the folder is not among them, and which.

    Raises:
        ValueError: naming a file that cannot be read.
    """
    digest, newest = hashlib.sha256(), 0.0
    for file in files:
        stat = file.stat()
        state = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
        digest.update(f"{file} {state}\n".encode("utf-8", "surrogateescape"))
        newest = max(newest, stat.st_mtime, stat.st_ctime)
    is_settled = newest < time.time() - _JUST_NOW
    survey_ = _survey if is_settled else _survey.__wrapped__
    return survey_(root, tuple(files), tuple(left_out), digest.hexdigest())


@functools.lru_cache(maxsize=8)
def _survey(
    root: Path, files: tuple[Path, ...], left_out: tuple[tuple[str, Path], ...], stamp: str
) -> Survey:
    """`survey_files`, once for each state of the files, `stamp`."""
    digest, headers = hashlib.sha256(), []
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        for some in itertools.batched(files, _AT_ONCE):
            for file, (content, header) in zip(some, pool.map(_examine, some), strict=True):
                name = file.relative_to(root).as_posix()
                digest.update(name.encode("utf-8", "surrogateescape") + b"\0" + content)
                headers.append(header)
    channels = max((header.channels for header in headers), default=1)
    fewer = sum(header.channels == 1 for header in headers) if channels == 3 else 0
    verb, all_ = ("is", "it is") if fewer == 1 else ("are", "they are")
    mixed = f"{fewer} of {len(files)} images {verb} grey, others in colour: {all_} read as RGB"
    counts = collections.Counter(change for header in headers for change in header.changes)
    said = [f"{count} of {len(files)} images {change}" for change, count in counts.items()]
    reasons: dict[str, list[str]] = {}
    for reason, entry in left_out:
        reasons.setdefault(reason, []).append(entry.relative_to(root).as_posix())
    for reason, names in reasons.items():
        few = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        said.append(f"left out, {reason}: {len(names)} ({few})")
    return Survey(digest.hexdigest()[:16], channels, mixed if fewer else "", tuple(said))


def _examine(file: Path) -> tuple[bytes, pictures.Header]:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ValueError(f"{file}: cannot be read ({error})") from None
    return hashlib.sha256(content).digest(), pictures.header(file, content)


def image_shape(
    files: Sequence[Path], *, image_size: tuple[int, int] | None, channels: int
) -> tuple[int, int, int]:
    """Returns the shape of the images as they are read.

    Args:
        files: at least one.
        image_size: height and width; None: the first image's.
        channels: to which images are converted; the bands of .npy files.

    Returns:
        Height, width, channels.

    Raises:
        ValueError: if the first image cannot be read.
    """
    height, width, bands = pictures.read(files[0], channels).shape
    height, width = image_size or (height, width)
    return height, width, bands


Read = Callable[[Path, tuple[int, ...]], np.ndarray]


class FolderImages:
    """The images of a folder as an array that is decoded when indexed."""

    dtype = np.dtype(np.uint8)

    def __init__(self, files: Sequence[Path], shape: tuple[int, int, int], read: Read) -> None:
        """Keeps the names of the files; none is read.

        Args:
            files: N files.
            shape: height, width and channels of every image.
            read: from a file and the shape to its image; called in several threads.
        """
        self._files = tuple(files)
        self._read = read
        self.shape = (len(self._files), *shape)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, rows: int | slice | np.ndarray) -> np.ndarray:
        numbers, shape = np.arange(len(self))[rows], self.shape[1:]
        if np.ndim(numbers) == 0:
            return self._read(self._files[int(numbers)], shape)
        images = np.empty((len(numbers), *shape), np.uint8)

        def fill(row: int) -> None:
            images[row] = self._read(self._files[numbers[row]], shape)

        with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(fill, range(len(numbers))))  # whose errors are raised here
        return images


def read_equal(file: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Reads an image that has the size of the others; `read_covering`, but refuses another size."""
    image = pictures.read(file, shape[2])
    if image.shape[:2] != shape[:2]:
        raise ValueError(
            f"{file}: is {image.shape[0]} x {image.shape[1]} pixels, others are {shape[0]} x "
            f"{shape[1]}; give dataset.image_size"
        )
    return image


def read_covering(file: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Reads an image, scaled until it covers the frame, and cropped to its middle.

    Args:
        file: its name.
        shape: height, width and channels.

    Returns:
        `shape` uint8.

    Raises:
        ValueError: naming the file, if it cannot be read.
    """
    height, width, channels = shape
    image = pictures.read(file, channels)
    if image.shape[:2] == (height, width):
        return image
    from PIL import Image

    bands = (Image.fromarray(band) for band in np.moveaxis(image, -1, 0))
    return np.stack([np.asarray(cover(band, height, width)) for band in bands], axis=-1)


def _tree(root: Path, where: str) -> _Tree:
    try:
        if not root.is_dir():
            raise ValueError(f"{where}: {'not a folder' if root.exists() else 'no such folder'}")
        return _found(root, where)
    except OSError as error:
        raise ValueError(f"{where}: cannot be read ({error})") from None


def _found(root: Path, where: str) -> _Tree:
    left_out: list[tuple[str, Path]] = []
    folders = {split: folder for split in _SPLITS if (folder := _split_folder(root, split))}
    if "train" in folders:
        others = (entry for entry in sorted(root.iterdir()) if entry not in folders.values())
        left_out += [(why_left_out(entry) or "beside train and test", entry) for entry in others]
    else:
        folders = {"train": root}
    classes = {split: _classes(folder, left_out) for split, folder in folders.items()}
    class_names = tuple(classes["train"])
    if class_names and all(name.casefold() in _OF_SPLITS for name in class_names):
        raise ValueError(
            f"{where}: holds {', '.join(class_names)}, which are names of splits, not of classes; "
            "rename them to train and test"
        )
    if len(class_names) < 2:
        raise ValueError(
            f"{where}: {folders['train']} holds {len(class_names)} class folders; must be at least "
            "2, as train/<class>/<image> and test/<class>/<image>, or <class>/<image>"
        )
    for name in classes.get("test", ()):
        if name not in class_names:
            entry = folders["test"] / name
            raise ValueError(f"{where}: {entry} is a class that train does not have")
    files = {
        split: [images_below(own[name], left_out) if name in own else [] for name in class_names]
        for split, own in classes.items()
    }
    return _Tree(class_names, files, left_out)


def _classes(folder: Path, left_out: list[tuple[str, Path]]) -> dict[str, Path]:
    """Returns the folders of the classes by name."""
    classes = {}
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        reason = why_left_out(entry)
        if not reason and not entry.is_dir():
            reason = "in no class's folder"
        elif not reason and folder.resolve().is_relative_to(entry.resolve()):
            reason = "links to a folder above"
        if reason:
            left_out.append((reason, entry))
        else:
            classes[entry.name] = entry
    return classes


def images_below(folder: Path, left_out: list[tuple[str, Path]]) -> list[Path]:
    """Returns the images of a class, in its folder and those below, in alphabetical order.

    Args:
        folder: of the class.
        left_out: to which is added why another entry is not among them, and which.
    """
    images, pending, seen = [], [folder], {folder.resolve()}
    while pending:
        inside = pending.pop()
        for entry in sorted(inside.iterdir(), key=lambda entry: (entry.is_symlink(), entry)):
            reason = why_left_out(entry)
            if not reason and entry.is_dir():
                real = entry.resolve()
                if real in seen or folder.resolve().is_relative_to(real):
                    reason = "links to a folder above, or read already"
                else:
                    seen.add(real)
                    pending.append(entry)
            elif not reason and pictures.is_image(entry):
                images.append(entry)
            elif not reason:
                reason = "not an image that Pillow reads"
            if reason:
                left_out.append((reason, entry))
    return sorted(images)


def why_left_out(entry: Path) -> str:
    """Returns why an entry of a folder is left out whatever it holds, "" for most."""
    if entry.name.startswith(".") or entry.name in _CLUTTER:
        return "hidden, or a system's own"
    if entry.is_dir() or entry.is_file():
        return ""
    return "a broken link" if entry.is_symlink() else "neither a file nor a folder"


def _all(tree: _Tree) -> list[Path]:
    """Returns the files of all splits."""
    classes = itertools.chain.from_iterable(tree.files.values())
    return sorted(itertools.chain.from_iterable(classes))


def _split_folder(root: Path, split: str) -> Path | None:
    return next((root / name for name in _SPLITS[split] if (root / name).is_dir()), None)


def _share(listing: Listing, root: Path, split: str, test_fraction: float, where: str) -> Listing:
    """Returns one split of a folder without splits, chosen by the names of the files."""
    names = [file.relative_to(root).as_posix() for file in listing.files]
    digests = [hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest() for name in names]
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
