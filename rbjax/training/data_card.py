"""What a run is trained on, beside its config: sizes, classes, statistics, how images were read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rbjax import atomic
from rbjax.config import Config
from rbjax.data import Dataset, DatasetInfo

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


def read(workdir: str, config: Config) -> DatasetInfo | None:
    """Returns what data.json says of one's own data, which may be elsewhere by now.

    Args:
        workdir: the run directory.
        config: the run's.

    Returns:
        What a model needs to be made; None: there is no such file, or it is damaged, or of other
        data than the config.
    """
    try:
        said = atomic.read_json(Path(workdir) / DATA_FILE)
        if said["fingerprint"] != config.dataset.fingerprint:
            return None
        return DatasetInfo(
            name=said["name"],
            image_shape=tuple(said["image_shape"]),
            class_names=tuple(said["class_names"]),
            num_examples={name: sum(count) for name, count in said["class_counts"].items()},
            mean=tuple(said["mean"]),
            std=tuple(said["std"]),
            source=said["source"],
            licence=said["licence"],
            notes=tuple(said["notes"]),
        )
    except (AttributeError, KeyError, OSError, TypeError, ValueError):
        return None
