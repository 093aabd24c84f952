"""Droughtwatch: satellite images of Kenya, and how many cows their centre feeds (0 to 3).

The published archive holds TFRecord files, train/part-* and val/part-*.  A record has a label and
eleven bands B1 to B11, each the bytes of a 65x65 image of uint8.

Source: Hobbs and Svetlichnaya, 2020, arXiv:2004.04081; https://github.com/wandb/droughtwatch.
Written from the published schema; the files themselves could not be downloaded here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from rbjax.data.builders import mapped
from rbjax.data.builders.members import Members
from rbjax.data.description import DatasetInfo
from rbjax.data.digests import CheckedImages
from rbjax.data.tfrecord import parse_example, records

_LABEL = "label"


def read(
    info: DatasetInfo, split: str, data_dir: str | Path | None, source: str | Path | None
) -> tuple[DatasetInfo, CheckedImages, np.ndarray]:
    """Reads a split: see `builders.read`."""
    return mapped.read(info, split, data_dir, source, examples)


def examples(members: Members, info: DatasetInfo, split: str) -> Iterator[tuple[np.ndarray, int]]:
    """Yields a split's images and labels, file by file.

    Args:
        members: the published files.
        info: of the dataset.
        split: "train" or "test", which is published as val.

    Yields:
        (65, 65, 11) uint8, bands in the order of the description, and the label.

    Raises:
        ValueError: naming the file, for a damaged record, a band that is missing or too short, or a
            label out of range.
    """
    stored = info.stored_splits.get(split, split)
    for name in members.inside(stored):
        if not PurePosixPath(name).name.startswith("part-"):
            continue
        with members.open(name) as file:
            where = members.where(name)
            for number, record in enumerate(records(file, where)):
                yield _example(record, info, f"{where}: record {number}")


def _example(record: bytes, info: DatasetInfo, where: str) -> tuple[np.ndarray, int]:
    try:
        features = parse_example(record)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    missing = [key for key in (*info.channel_names, _LABEL) if not features.get(key)]
    if missing:
        raise ValueError(f"{where}: has no {', '.join(missing)}; it has {', '.join(features)}")
    label = features[_LABEL][0]
    if not isinstance(label, int) or not 0 <= label < info.num_classes:
        raise ValueError(f"{where}: label is {label!r}; must be in 0..{info.num_classes - 1}")
    height, width, _ = info.image_shape
    image = np.empty(info.image_shape, np.uint8)
    for channel, band in enumerate(info.channel_names):
        pixels = features[band][0]
        if not isinstance(pixels, bytes) or len(pixels) < height * width:
            size = len(pixels) if isinstance(pixels, bytes) else "no"
            raise ValueError(f"{where}: {band} has {size} bytes; must be {height * width} or more")
        flat = np.frombuffer(pixels, np.uint8, count=height * width)
        image[..., channel] = flat.reshape(height, width)
    return image, label
