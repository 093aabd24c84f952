"""One's own arrays: what an .npz file holds, and whether it can be trained on."""

from __future__ import annotations

import hashlib
import zipfile
from typing import Any

import numpy as np

from rbjax.data.arrays import read_member
from rbjax.errors import nearest
from rbjax.inputs import is_channels_first
from rbjax.paths import expanded

_KEYS = {
    "images": ("{split}_images", "x_{split}"),
    "labels": ("{split}_labels", "y_{split}"),
}
"""Names that the arrays of an .npz file may have."""


def read(path: str, split: str) -> tuple[Any, np.ndarray, tuple[str, ...]]:
    """Reads a split.

    Args:
        path: of the file.
        split: "train" or "test".

    Returns:
        Images (N, H, W, C) uint8, labels (N,) int32, and the names of the classes.

    Raises:
        ValueError: naming the file, if an array is missing, unreadable or does not fit.
    """
    where = f"dataset.path = {path!r}"
    try:
        with zipfile.ZipFile(expanded(path, field="dataset.path")) as arrays:
            images, labels = (_array(arrays, kind, split, where) for kind in _KEYS)
            train_labels = _array(arrays, "labels", "train", where)
            names = _names(arrays, where)
    except (OSError, RuntimeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{where}: cannot be read ({error})") from None
    return check_split(images, labels, train_labels, names, split, where)


def check_split(
    images: np.ndarray,
    labels: np.ndarray,
    train_labels: np.ndarray,
    names: tuple[str, ...] | None,
    split: str,
    where: str,
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Returns images (N, H, W, C), labels (N,) and class names, refused if they do not fit.

    Args:
        images: (N, H, W) or (N, H, W, C), as they were given.
        labels: (N,) or (N, 1) whole numbers.
        train_labels: those of train.
        names: of the classes; None: the numbers.
        split: "train" or "test".
        where: what an error begins with.

    Raises:
        ValueError: for other shapes, dtypes or values.
    """
    if images.ndim == 4 and is_channels_first(images.shape[1:]):
        count, channels, height, width = images.shape
        raise ValueError(
            f"{where}: {split} images are {images.shape}, channels first; channels come last: "
            f"store np.moveaxis(images, 1, -1), of shape ({count}, {height}, {width}, {channels})"
        )
    images = images[..., None] if images.ndim == 3 else images
    labels, train_labels = (_whole(x, where) for x in (labels, train_labels))
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) != len(labels):
        raise ValueError(
            f"{where}: {split} images are {images.dtype} {images.shape} with {len(labels)} labels; "
            "must be uint8 (N, H, W) or (N, H, W, C), 0 to 255, with N labels"
        )
    if not images.size:
        raise ValueError(f"{where}: {split} has no images, {images.shape}")
    class_names = names or tuple(map(str, range(int(train_labels.max(initial=0)) + 1)))
    missing = np.setdiff1d(np.arange(len(class_names)), train_labels)
    if len(class_names) < 2 or missing.size:
        what = f"class {class_names[missing[0]]}" if missing.size else "a second class"
        raise ValueError(f"{where}: train has no image of {what}")
    for of, values in (("train", train_labels), (split, labels)):
        if values.size and not 0 <= values.min() <= values.max() < len(class_names):
            raise ValueError(
                f"{where}: {of} labels are in {values.min()}..{values.max()}; must be in "
                f"0..{len(class_names) - 1}"
            )
    return images, labels, class_names


def _array(arrays: zipfile.ZipFile, kind: str, split: str, where: str) -> np.ndarray:
    names, stored = [name.format(split=split) for name in _KEYS[kind]], _stored(arrays)
    name = next((name for name in names if name in stored), None)
    if name is None:
        raise ValueError(
            f"{where}: has no array {' or '.join(names)}; it has {', '.join(stored) or 'none'}"
        )
    return _read_array(arrays, name, where)


def _names(arrays: zipfile.ZipFile, where: str) -> tuple[str, ...] | None:
    """Returns the names of the classes, None where there are none."""
    if "class_names" not in _stored(arrays):
        return None
    names = _read_array(arrays, "class_names", where)
    if names.ndim != 1 or names.dtype.kind != "U" or len(set(names.tolist())) < len(names):
        raise ValueError(
            f"{where}: class_names are {names.dtype} {names.shape}; must be text (K,), each once"
        )
    return tuple(names.tolist())


def _stored(arrays: zipfile.ZipFile) -> list[str]:
    return [name[:-4] for name in arrays.namelist() if name.endswith(".npy")]


def _read_array(arrays: zipfile.ZipFile, name: str, where: str) -> np.ndarray:
    try:
        return read_member(arrays, name)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _whole(labels: np.ndarray, where: str) -> np.ndarray:
    """Returns labels (N,) int32; those of shape (N, 1) lose an axis."""
    flat = labels.reshape(-1) if labels.shape[1:] in ((), (1,)) else labels
    if flat.ndim != 1 or flat.dtype.kind not in "iuf" or np.any(flat != np.floor(flat)):
        raise ValueError(
            f"{where}: labels are {labels.dtype} {labels.shape}; must be whole numbers (N,)"
        )
    if flat.size and not (flat.min() >= -(2**31) and flat.max() < 2**31):
        raise ValueError(f"{where}: labels are in {flat.min()}..{flat.max()}; must be in 0..K - 1")
    return flat.astype(np.int32)


def read_groups(path: str, name: str, num_examples: int) -> np.ndarray:
    """Reads which group each training example is of.

    Args:
        path: of the file.
        name: of the array: (N,) whole numbers or text.
        num_examples: N.

    Returns:
        (N,) int32, groups numbered in the order of their names.

    Raises:
        ValueError: naming the array, if it is missing or of another form.
    """
    where = f"dataset.groups = {name!r}"
    with zipfile.ZipFile(expanded(path, field="dataset.path")) as arrays:
        stored = _stored(arrays)
        if name not in stored:
            raise ValueError(
                f"{where}: no such array in {path}; it has {', '.join(stored)}"
                f"{nearest(name, stored)}"
            )
        groups = _read_array(arrays, name, where)
    if groups.shape != (num_examples,) or groups.dtype.kind not in "iuU":
        raise ValueError(
            f"{where}: is {groups.dtype} {groups.shape}; must be whole numbers or text "
            f"({num_examples},), one a training image"
        )
    return np.unique(groups, return_inverse=True)[1].astype(np.int32)


def fingerprint(path: str) -> str:
    """Returns a digest of the checksums that a zip file keeps of its members.

    Args:
        path: of the file.

    Returns:
        16 characters.

    Raises:
        ValueError: if it is no such file.
    """
    file, where = expanded(path, field="dataset.path"), f"dataset.path = {path!r}"
    try:
        if not file.is_file():
            raise OSError("not a file" if file.exists() else "no such file")
        with zipfile.ZipFile(file) as members:
            lines = sorted(f"{m.filename} {m.CRC} {m.file_size}" for m in members.infolist())
    except (OSError, RuntimeError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{where}: not an .npz file ({error})") from None
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
