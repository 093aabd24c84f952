"""Datasets, class imbalance, augmentation and batches.

    train, validation = load_train("cifar10", validation_fraction=0.1)
    counts = imbalance.exponential(num_max=5000, num_classes=10, imbalance_ratio=100)

TensorFlow is imported only when TFDS prepares a dataset for the first time; TFDS and scikit-learn
are imported when one of their datasets is loaded.
"""

from __future__ import annotations

from rbjax.data import augment, custom, imbalance, pipeline, subset
from rbjax.data.custom import Arrays
from rbjax.data.datasets import DATASETS, DatasetInfo, info, names, with_bands
from rbjax.data.loading import (
    Dataset,
    divide_train,
    from_arrays,
    hold_out_last,
    in_memory,
    load,
    load_train,
    split_validation,
    subsample,
)
from rbjax.data.prepare import DatasetNotFoundError

__all__ = [
    "DATASETS",
    "Arrays",
    "Dataset",
    "DatasetInfo",
    "DatasetNotFoundError",
    "augment",
    "custom",
    "divide_train",
    "from_arrays",
    "hold_out_last",
    "imbalance",
    "in_memory",
    "info",
    "load",
    "load_train",
    "names",
    "pipeline",
    "split_validation",
    "subsample",
    "subset",
    "with_bands",
]
