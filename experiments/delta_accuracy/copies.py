"""Deformed copies of images: the published AlignMNIST where it is at hand, else our generator's."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rbjax import atomic
from rbjax.config import Config
from rbjax.data import Dataset, DatasetNotFoundError, alignmnist, digests, order, storage
from rbjax.data.alignmnist import generated
from rbjax.training import setup

PUBLISHED, GENERATED = "published", "generated"


class Deformer(NamedTuple):
    """What makes copies; each is made once, and kept in a folder."""

    covariances: np.ndarray
    """(K, d, d), each class's Gaussian."""
    recipe: alignmnist.Recipe
    folder: Path

    def deform(self, dataset: Dataset, block: int) -> np.ndarray:
        """Returns a copy of each image, (N, H, W, C) uint8, row for row, made anew.

        Args:
            dataset: the images; a copy depends on an example's id and class alone.
            block: which draw, from 1.
        """
        return generated.deform(
            np.asarray(dataset.images[np.arange(dataset.num_examples)]),
            dataset.labels,
            dataset.example_ids,
            self.covariances,
            block=block,
            recipe=self.recipe,
        )

    def copy(self, dataset: Dataset, block: int) -> np.ndarray:
        """Returns what `deform` does, read from its file if it was made before."""
        about = json.dumps(atomic.plain(self.recipe._asdict()), sort_keys=True)
        digest = hashlib.sha256(f"{about} {dataset.info.name} {dataset.split}".encode())
        digest.update(np.ascontiguousarray(dataset.example_ids))
        path = self.folder / f"{digest.hexdigest()[:16]}-{block:02d}.npy"
        if path.exists() and digests.is_intact(path):
            return np.load(path, mmap_mode="r", allow_pickle=False)
        deformed = self.deform(dataset, block)
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic.replace(path) as file:
            np.lib.format.write_array(file, deformed, allow_pickle=False)
        digests.seal(path)
        return deformed


def deformer(config: Config, recipe: alignmnist.Recipe, folder: Path) -> Deformer:
    """Returns what deforms a config's images, by Gaussians of its whole training split.

    Args:
        config: a resolved config.
        recipe: how.
        folder: of the copies that are made.
    """
    if config.dataset.name == "mnist":
        covariances = alignmnist.gaussians(config.data_dir, recipe=recipe)
    else:
        train = setup.load(config, "train")
        images = np.asarray(train.images[np.arange(train.num_examples)])
        kept = storage.own_folder(storage.folder_of(config.data_dir)) / "alignmnist_generated"
        maker = generated.Maker(images, train.labels, kept, recipe, train.info.num_classes)
        covariances = maker.covariances()
    return Deformer(covariances, recipe, folder)


def replaced(dataset: Dataset, images: np.ndarray) -> Dataset:
    """Returns a dataset with other images of the same examples, row for row."""
    return dataclasses.replace(dataset, images=images)


def published(dataset: Dataset, block: int, data_dir: str | None) -> np.ndarray | None:
    """Returns the published copies of MNIST's training images, row for row.

    Args:
        dataset: some of the training images.
        block: from 1.
        data_dir: where alignmnist.npz may lie, as `rbjax.data.alignmnist.load_split` looks for it.

    Returns:
        (N, 28, 28, 1) uint8; None if the file is missing.
    """
    if dataset.info.name != "mnist":
        return None
    try:
        images, labels = alignmnist.load_split("train", data_dir)
    except DatasetNotFoundError:
        return None
    # The file is in MNIST's original order; an example's id is its rank by label and pixels.
    rows = np.argsort(order.example_ids(images, labels))[dataset.example_ids]
    return alignmnist.load_split(f"block_{block}", data_dir)[0][rows]
