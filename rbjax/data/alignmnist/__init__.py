"""AlignMNIST: MNIST's training images, and 75 times the same images deformed class by class.

`load_split` reads the published file, `load_generated_split` makes a set of the same layout.
The two have different names, `alignmnist` and `alignmnist_generated`: the second is made by the
published method, but how strong the published deformations are is not published.

That strength is the one free number, `Recipe.scale` (with `Settings.prior_weight`). Of the scales
measured at the default weight the default is the one at which P3's six published networks lose
nearest to what they lose on the published blocks, 1.25 points on average
(`experiments.delta_accuracy.strength`): on 10,000 training images, block 1, they lose

    scale                0.75   0.8    0.85
    points, mean of six  0.94   1.10   1.34

points. Comparisons across networks should be made at several scales.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rbjax.data import storage
from rbjax.data.alignmnist.alignment import Settings
from rbjax.data.alignmnist.generated import DEFAULT, Maker, Recipe
from rbjax.data.alignmnist.published import read_block
from rbjax.paths import expanded
from rbjax.tables import lookup

__all__ = [
    "DEFAULT",
    "SPLITS",
    "Recipe",
    "Settings",
    "gaussians",
    "load_generated_split",
    "load_split",
]

SPLITS: dict[str, int] = {"train": 0, **{f"block_{number}": number for number in range(1, 76)}}
"""Split -> block; "train" is MNIST's training split, undeformed."""

_FILE = Path("downloads") / "manual" / "alignmnist.npz"


def load_split(
    split: str, data_dir: str | Path | None = None, *, path: str | Path | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Reads a block of the published alignmnist.npz.

    Args:
        split: one of SPLITS.
        data_dir: the folder of TFDS's datasets; $TFDS_DATA_DIR or ~/tensorflow_datasets.
        path: the file; <data_dir>/downloads/manual/alignmnist.npz.

    Returns:
        images (60000, 28, 28, 1) uint8, if possible a view of a read-only mapped file, and
        labels (60000,) int32.

    Raises:
        DatasetNotFoundError: (a ValueError) if the file is missing.
        ValueError: for an unknown split, or a file that is damaged or not in the published format.
    """
    block = lookup(SPLITS, split, what="alignmnist split")
    folder = _folder(data_dir)
    path = folder / _FILE if path is None else expanded(path)
    return read_block(path, block, kept=storage.own_folder(folder) / "alignmnist")


def load_generated_split(
    split: str, data_dir: str | Path | None = None, *, recipe: Recipe = DEFAULT
) -> tuple[np.ndarray, np.ndarray]:
    """Makes a block of deformed MNIST training images, or reads it if it was made before.

    Args:
        split: one of SPLITS.
        data_dir: the folder of TFDS's datasets; $TFDS_DATA_DIR or ~/tensorflow_datasets.
        recipe: how the images are deformed.

    Returns:
        images (60000, 28, 28, 1) uint8 and labels (60000,) int32, row for row MNIST's training
        split as stored; a block is a read-only mapped file.

    Raises:
        DatasetNotFoundError: (a ValueError) if MNIST is missing and cannot be prepared.
        ValueError: for an unknown split.
    """
    block = lookup(SPLITS, split, what="alignmnist_generated split")
    maker = _maker(data_dir, recipe)
    return (maker.block(block) if block else maker.images), maker.labels


def gaussians(data_dir: str | Path | None = None, *, recipe: Recipe = DEFAULT) -> np.ndarray:
    """Returns the Gaussian of each digit that blocks are made with, before the recipe's scale.

    Args:
        data_dir: the folder of TFDS's datasets; $TFDS_DATA_DIR or ~/tensorflow_datasets.
        recipe: how they are learnt.

    Returns:
        (10, d, d) float64 covariances, for `perturbations.gaussian_diffeomorphism`.

    Raises:
        DatasetNotFoundError: (a ValueError) if MNIST is missing and cannot be prepared.
    """
    return _maker(data_dir, recipe).covariances()


def _maker(data_dir: str | Path | None, recipe: Recipe) -> Maker:
    folder = _folder(data_dir)
    images, labels = storage.read("mnist", "train", folder)
    return Maker(images, labels, storage.own_folder(folder) / "alignmnist_generated", recipe)


def _folder(data_dir: str | Path | None) -> Path:
    return storage.default_data_dir() if data_dir is None else expanded(data_dir, field="data_dir")
