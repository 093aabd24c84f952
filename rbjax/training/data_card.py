"""What a run is trained on, written beside its config: sizes, classes, how images were read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rbjax import atomic
from rbjax.config import Config
from rbjax.data import Dataset

DATA_FILE = "data.json"


def write(workdir: str, config: Config, train_set: Dataset, validation_set: Dataset | None) -> None:
    """Writes data.json.

    Args:
        workdir: the run directory.
        config: a resolved config.
        train_set: what is trained on, after imbalance and subset.
        validation_set: what is held out.
    """
    info, parts = train_set.info, {"train": train_set, "validation": validation_set}
    said: dict[str, Any] = {
        "name": config.dataset.name,
        "source": info.source,
        "licence": info.licence,
        "fingerprint": config.dataset.get("fingerprint"),
        "image_shape": info.image_shape,
        "pixels": train_set.images.dtype.name,
        "mean": info.mean,
        "std": info.std,
        "class_names": info.class_names,
        "class_counts": {k: part.class_counts for k, part in parts.items() if part is not None},
        "num_groups": {
            name: len(np.unique(part.groups))
            for name, part in parts.items()
            if part is not None and part.groups is not None
        },
        "notes": info.notes,
    }
    atomic.write_json(Path(workdir) / DATA_FILE, said)
