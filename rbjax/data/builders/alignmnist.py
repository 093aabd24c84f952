"""AlignMNIST, published or generated here: see `rbjax.data.alignmnist`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rbjax.data import alignmnist, storage
from rbjax.data.description import DatasetInfo
from rbjax.data.prepare import take, taken


def read(
    info: DatasetInfo, split: str, data_dir: str | Path | None, source: str | Path | None
) -> tuple[DatasetInfo, np.ndarray, np.ndarray]:
    """Reads a split: see `builders.read`."""
    folder = storage.folder_of(data_dir)
    if not info.files:
        return info, *alignmnist.load_generated_split(split, folder)
    by_hand = storage.manual_folder(folder)
    with taken(info.files, by_hand, source):
        take(info.name, info.files, by_hand, source)
        return info, *alignmnist.load_split(split, folder)
