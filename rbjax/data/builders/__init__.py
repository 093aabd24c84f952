"""Datasets that TFDS does not have: each module reads one in the form in which it is published."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from rbjax.data import storage
from rbjax.data.description import DatasetInfo


def read(
    info: DatasetInfo,
    split: str,
    data_dir: str | Path | None = None,
    source: str | Path | None = None,
) -> tuple[DatasetInfo, Any, np.ndarray]:
    """Reads a split with the dataset's builder, which prepares it first if necessary.

    Args:
        info: the dataset's description; `builder` is a module of this package.
        split: one of its splits.
        data_dir: the folder of datasets; `storage.default_data_dir()`.
        source: where the published files are taken from, if they are needed: a mirror's URL, or
            the path of the archive or of the folder it was unpacked to; None: from this machine, or
            downloaded.

    Returns:
        The description, completed from the files, images (N, H, W, C) uint8, an
        `images.ImageArray`, and labels (N,) int32.

    Raises:
        DatasetNotFoundError: if it is not on this machine and cannot be downloaded.
        ValueError: naming the file, if one is damaged; what was written is removed.
    """
    module = importlib.import_module(f"{__name__}.{info.builder}")
    return module.read(info, split, data_dir, source)


def place(info: DatasetInfo, split: str, data_dir: Path) -> Path:
    """Returns the folder of a split that is decoded to a memory-mapped file; it may not exist yet.

    Args:
        info: as for `read`.
        split: as for `read`.
        data_dir: the folder of datasets.

    Returns:
        A path.
    """
    return storage.own_folder(data_dir) / "mapped" / info.name / split


def stored(info: DatasetInfo, data_dir: Path) -> str:
    """Returns where a dataset is on this machine, as text for a user.

    Args:
        info: as for `read`.
        data_dir: the folder of datasets.

    Returns:
        A path; "" if it is not on this machine.
    """
    if info.name == "alignmnist_generated":
        own = storage.own_folder(data_dir) / info.name
        return f"{own}, made on first use" if storage.find("mnist", data_dir) else ""
    if info.name == "cifar100_superclasses":
        return str(storage.find("cifar100", data_dir) or "")
    prepared = place(info, "train", data_dir).parent
    placed = [storage.manual_folder(data_dir) / file.name for file in info.files]
    return next((str(path) for path in (prepared, *placed) if path.exists()), "")
