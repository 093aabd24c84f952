"""AlignMNIST, published or generated here: see `rbjax.data.alignmnist`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rbjax.data import alignmnist, storage
from rbjax.data.description import DatasetInfo
from rbjax.data.prepare import take, taken


def read(
    known: DatasetInfo, split: str, data_dir: str | Path | None, source: str | Path | None
) -> tuple[DatasetInfo, np.ndarray, np.ndarray]:
    """Reads a split: see `builders.read`."""
    folder = storage.folder_of(data_dir)
    if not known.files:
        return known, *alignmnist.load_generated_split(split, folder)
    by_hand = storage.manual_folder(folder)
    with taken(known.files, by_hand, source):
        take(known.name, known.files, by_hand, source)
        return known, *alignmnist.load_split(split, folder)
