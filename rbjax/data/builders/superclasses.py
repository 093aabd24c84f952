"""CIFAR-100 with its superclasses for classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rbjax.data import storage
from rbjax.data.class_names import CIFAR100_SUPERCLASSES
from rbjax.data.description import DatasetInfo

OF = "cifar100"
"""The dataset whose images they are."""


def read(
    info: DatasetInfo, split: str, data_dir: str | Path | None, source: str | Path | None
) -> tuple[DatasetInfo, np.ndarray, np.ndarray]:
    """Reads a split: see `builders.read`."""
    images, labels = storage.read(OF, split, data_dir, source)
    return info, images, np.asarray(CIFAR100_SUPERCLASSES.of_class, np.int32)[labels]
