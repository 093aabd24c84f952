"""Datasets that TFDS does not have: each module reads one, as it is published."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from rbjax.data.description import DatasetInfo


def read(
    known: DatasetInfo, split: str, data_dir: str | Path | None = None
) -> tuple[DatasetInfo, Any, np.ndarray]:
    """Reads a split with the dataset's builder, which prepares it where that was not done yet.

    Args:
        known: the dataset's description; `builder` is a module of this package.
        split: one of its splits.
        data_dir: the folder of datasets; `storage.default_data_dir()`.

    Returns:
        The description, completed by what only the files say, images (N, H, W, C) uint8, an
        `images.ImageArray`, and labels (N,) int32.

    Raises:
        DatasetNotFoundError: if it is neither here nor can be downloaded.
        ValueError: naming the file, if one is damaged.
    """
    return _module(known).read(known, split, data_dir)


def prepare(
    known: DatasetInfo, split: str, data_dir: Path, source: str | Path | None = None
) -> None:
    """Prepares a split anew.

    Args:
        known: as for `read`.
        split: as for `read`.
        data_dir: the folder of datasets.
        source: where the published files are taken from: a mirror's URL, or the path of the
            archive or of the folder it was unpacked to; None: as they are found or downloaded.

    Raises:
        DatasetNotFoundError: if they cannot be had.
        ValueError: naming the file, if one is damaged; nothing is left of what was written.
    """
    _module(known).prepare(known, split, data_dir, source)


def _module(known: DatasetInfo) -> Any:
    return importlib.import_module(f"{__name__}.{known.builder}")
