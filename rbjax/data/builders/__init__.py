"""Datasets that TFDS does not have: each module reads one, as it is published."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from rbjax.data import storage
from rbjax.data.description import DatasetInfo


def read(
    known: DatasetInfo,
    split: str,
    data_dir: str | Path | None = None,
    source: str | Path | None = None,
) -> tuple[DatasetInfo, Any, np.ndarray]:
    """Reads a split with the dataset's builder, which prepares it where that was not done yet.

    Args:
        known: the dataset's description; `builder` is a module of this package.
        split: one of its splits.
        data_dir: the folder of datasets; `storage.default_data_dir()`.
        source: where the published files are taken from, if they are needed: a mirror's URL, or
            the path of the archive or of the folder it was unpacked to; None: as they are found or
            downloaded.

    Returns:
        The description, completed by what only the files say, images (N, H, W, C) uint8, an
        `images.ImageArray`, and labels (N,) int32.

    Raises:
        DatasetNotFoundError: if it is neither here nor can be downloaded.
        ValueError: naming the file, if one is damaged; nothing is left of what was written.
    """
    module = importlib.import_module(f"{__name__}.{known.builder}")
    return module.read(known, split, data_dir, source)


def place(known: DatasetInfo, split: str, data_dir: Path) -> Path:
    """Returns the folder of a split that is decoded to a mapped file; it may not exist yet.

    Args:
        known: as for `read`.
        split: as for `read`.
        data_dir: the folder of datasets.

    Returns:
        A path.
    """
    return storage.own_folder(data_dir) / "mapped" / known.name / split


def stored(known: DatasetInfo, data_dir: Path) -> str:
    """Returns where a dataset lies on this machine, for people.

    Args:
        known: as for `read`.
        data_dir: the folder of datasets.

    Returns:
        A path; "" where it is not here.
    """
    if known.name == "alignmnist_generated":
        own = storage.own_folder(data_dir) / known.name
        return f"{own}, made where it is asked for" if storage.find("mnist", data_dir) else ""
    prepared = place(known, "train", data_dir).parent
    placed = [storage.manual_folder(data_dir) / file.name for file in known.files]
    found = [path for path in (prepared, *placed) if path.exists()]
    return str(found[0]) if found else ""
