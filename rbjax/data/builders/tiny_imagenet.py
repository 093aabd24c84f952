"""Tiny ImageNet: 200 of ImageNet's classes, scaled down to 64x64.

The published archive holds tiny-imagenet-200/ with words.txt (a class's number and its names),
train/<class>/images/*.JPEG and val/images/*.JPEG with val/val_annotations.txt (file, class, box).
Many sort the latter into folders of their classes, val/<class>/*.JPEG or val/<class>/images/*.JPEG;
that is read, too.  A class's label is the place of its number in ascending order.

Source: Stanford CS231n, http://cs231n.stanford.edu/tiny-imagenet-200.zip.
Written from the published layout; the archive itself could not be fetched where this was written.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from rbjax.data.builders import mapped
from rbjax.data.builders.members import Members
from rbjax.data.description import DatasetInfo
from rbjax.data.digests import CheckedImages

_SUFFIXES = (".jpeg", ".jpg", ".png")
_TABLE = "val_annotations.txt"


def read(
    info: DatasetInfo, split: str, data_dir: str | Path | None, source: str | Path | None
) -> tuple[DatasetInfo, CheckedImages, np.ndarray]:
    """Reads a split: see `builders.read`."""
    return mapped.read(info, split, data_dir, source, examples, class_names=class_names)


def class_names(members: Members, info: DatasetInfo) -> tuple[str, ...]:
    """Reads the first name of every class from words.txt.

    Args:
        members: the published files.
        info: of the dataset; its class names are the classes' numbers.

    Returns:
        (200,) such as "goldfish"; the number where words.txt lacks it, and behind a name that two
        classes have.

    Raises:
        ValueError: if there is no words.txt.
    """
    lines = _lines(members, "words.txt")
    words = {line[0]: line[1].split(",")[0].strip() for line in lines if len(line) > 1}
    names = [words.get(number, number) for number in info.class_names]
    return tuple(
        name if names.count(name) == 1 else f"{name} ({number})"
        for name, number in zip(names, info.class_names, strict=True)
    )


def examples(members: Members, info: DatasetInfo, split: str) -> Iterator[tuple[np.ndarray, int]]:
    """Yields a split's images and labels.

    Args:
        members: the published files.
        info: of the dataset; its class names are the classes' numbers.
        split: "train" or "test", which is published as val.

    Yields:
        (64, 64, 3) uint8, grey images as RGB, and the label.

    Raises:
        ValueError: naming the file, if it cannot be read or is of another size or class.
    """
    labels = {number: label for label, number in enumerate(info.class_names)}
    stored = info.stored_splits.get(split, split)
    # <split>/<number>/<file> or <split>/<number>/images/<file>; val/images/<file> and a table.
    paths = [PurePosixPath(name) for name in members.inside(stored)]
    paths = [path for path in paths if path.suffix.lower() in _SUFFIXES]
    table: dict[str, str] = {}
    if any(_folder(path, stored) is None for path in paths) or _has(members, _TABLE):
        table = {line[0]: line[1] for line in _lines(members, _TABLE) if len(line) > 1}
    numbers = {}
    for path in paths:
        where, number = members.where(str(path)), _folder(path, stored)
        said = table.get(path.name) if stored != "train" else None
        if number is None and said is None:
            raise ValueError(f"{where}: {_TABLE} does not name its class")
        if number is not None and said not in (None, number):
            raise ValueError(f"{where}: {_TABLE} says that its class is {said}")
        numbers[path] = number or said
    for path, number in numbers.items():
        name = str(path)
        if number not in labels:
            raise ValueError(f"{members.where(name)}: {number} is not a class of {info.name}")
        yield _decode(members.read(name), info, members.where(name)), labels[number]


def _folder(path: PurePosixPath, stored: str) -> str | None:
    """Returns the class in whose folder a file is, None for val/images/<file>."""
    folders = path.parts[:-1]
    below = folders[len(folders) - folders[::-1].index(stored) :]
    return next((name for name in below if name != "images"), None)


def _has(members: Members, file_name: str) -> bool:
    return any(PurePosixPath(name).name == file_name for name in members.names)


def _lines(members: Members, file_name: str) -> list[list[str]]:
    """Returns the lines of a table, split at tabs."""
    names = [name for name in members.names if PurePosixPath(name).name == file_name]
    if not names:
        raise ValueError(f"{members.path}: holds no {file_name}")
    text = members.read(names[0]).decode("utf-8", "replace")
    return [line.split("\t") for line in text.splitlines()]


def _decode(content: bytes, info: DatasetInfo, where: str) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as opened:
            image = np.asarray(opened.convert("RGB"))
    except Exception as error:  # Pillow's readers raise whatever a damaged file leads to
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"{where}: not an image that can be read ({reason})") from None
    if image.shape != info.image_shape:
        raise ValueError(f"{where}: is {image.shape[0]} x {image.shape[1]} pixels; must be 64 x 64")
    return image
