"""Where one's own data are, and how they are read: what the config says of them.

--config.dataset.name=folder --config.dataset.path=photographs --config.dataset.image_size=64,64
--config.dataset.name=folder --config.dataset.path=scans --config.dataset.metadata=scans.csv
--config.dataset.name=npz --config.dataset.path=arrays.npz
--config.dataset.name=huggingface --config.dataset.path=downloaded
--config.dataset.name=imagenet_folder --config.dataset.path=ILSVRC2012_img_val
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import numpy as np

from rbjax.data.datasets import DATASETS, IMAGENET_MEAN, IMAGENET_STD
from rbjax.options import Count, Range, checked
from rbjax.tables import Table


class Source(NamedTuple):
    """Where your own data are, and how they are read."""

    kind: str
    """A name in CUSTOM, or `package.module:maker`."""
    path: str
    image_size: tuple[int, int] | None = None
    """Of a folder: height and width that images are scaled and cropped to; None: they are equal."""
    channels: int | None = None
    """Of a folder: 1 or 3, to which images are converted; None: 3 if any has colours, else 1."""
    test_fraction: float = 0.2
    """Of a folder without splits: share of each class that is test."""
    options: tuple[tuple[str, Any], ...] = ()
    """Of a maker of arrays; of ImageNet's folder, devkit, mean and std."""
    groups: str | None = None
    """Which group each image is of: an array of an .npz file, a column of a table, "subfolders"."""
    metadata: str | None = None
    """Of a folder: the table of its images."""
    labels: str | None = None
    """The column of the classes."""


class Arrays(NamedTuple):
    """A dataset as a maker of one's own returns it, or a dict of the same."""

    train_images: np.ndarray
    """(N, H, W) or (N, H, W, C) uint8."""
    train_labels: np.ndarray
    """(N,) integers in [0, K)."""
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...] | None = None
    """K names; None: the numbers."""


_Size = Annotated[tuple[int, int], Range(low=1, high=16384, unit="pixels")]
_Channels = Annotated[tuple[float, float, float], Range(low=0.0, high=1.0, unit="pixels in [0, 1]")]
_Share = Annotated[float, Range(above=0.0, high=0.9)]


@checked
def folder(
    *,
    path: str,
    image_size: _Size | None = None,
    channels: Count | None = None,
    test_fraction: _Share = 0.2,
    metadata: str | None = None,
    labels: str | None = None,
    groups: str | None = None,
) -> Source:
    """Returns one's own images, in a folder for each class, or named in a table.

    Args:
        path: of train/<class>/<image> and test/<class>/<image>, or <class>/<image>.
        image_size: height and width that images are scaled and cut to; None: all have one size.
        channels: 1 or 3 to turn images into; None: 3 if any image has colours, else 1.
        test_fraction: share of each class that is test where the folder has no splits.
        metadata: a CSV of the images with columns file and, if need be, label, group and split;
            in the folder or elsewhere.
        labels: the column of the classes; None: label, or else the folders.
        groups: the column that names the patient or scene of each image, or "subfolders" of the
            classes: none is on both sides of a split; None: group, where there is such a column.

    Returns:
        Where they are, and how they are read.

    Raises:
        ValueError: for an option out of range, or a column of no table.
    """
    if labels is not None and metadata is None:
        raise ValueError(f"labels = {labels!r}: a column of dataset.metadata, which is not given")
    if groups not in (None, SUBFOLDERS) and metadata is None:
        raise ValueError(
            f"groups = {groups!r}: a column of dataset.metadata, which is not given; allowed "
            f"without it: {SUBFOLDERS}"
        )
    size = None if image_size is None else _pair(image_size)
    return Source(
        "folder",
        path,
        size,
        channels,
        test_fraction,
        metadata=metadata,
        labels=labels,
        groups=groups,
    )


SUBFOLDERS = "subfolders"
"""What `groups` says where the folders inside a class are groups."""


def _pair(image_size: Any) -> tuple[int, int]:
    if len(image_size) != 2 or not all(side == int(side) for side in image_size):
        raise ValueError(
            f"dataset.image_size = {image_size}: must be height and width, such as (64, 64)"
        )
    return int(image_size[0]), int(image_size[1])


@checked
def imagenet(
    *,
    path: str,
    devkit: str | None = None,
    image_size: _Size = (224, 224),
    mean: _Channels = IMAGENET_MEAN,
    std: _Channels = IMAGENET_STD,
) -> Source:
    """Returns ImageNet's validation images in a folder, which are a test set alone.

    Args:
        path: of n01440764/<image> for each class, or of images ILSVRC2012_val_00000001.JPEG.
        devkit: what labels the latter, the development kit's folder or archive; None: one beside
            path, or TFDS's list.
        image_size: height and width; 8/7 of it is what the shorter side is scaled to.
        mean: of red, green and blue, as the weights want it; of torchvision's Inception-v3 0.5.
        std: likewise.

    Returns:
        Where they are, and how they are read.

    Raises:
        ValueError: for an option out of range.
    """
    options = (("devkit", devkit), ("mean", tuple(mean)), ("std", tuple(std)))
    return Source("imagenet_folder", path, _pair(image_size), 3, options=options)


def npz(*, path: str, groups: str | None = None) -> Source:
    """Returns one's own arrays, in an .npz file.

    Args:
        path: of the file, with train_images, train_labels, test_images, test_labels and perhaps
            class_names.
        groups: an array of the file, (N,) whole numbers or text, that names the group of each
            training image: no group is divided by the validation split or any selection.

    Returns:
        Where they are.
    """
    return Source("npz", path, groups=groups)


@checked
def huggingface(
    *,
    path: str,
    image_size: _Size | None = None,
    channels: Count | None = None,
    test_fraction: _Share = 0.2,
    images: str | None = None,
    labels: str | None = None,
    groups: str | None = None,
) -> Source:
    """Returns a Hugging Face dataset of images on this machine.

    Args:
        path: of a folder of Parquet files or one such file, or of what `save_to_disk` wrote.
        image_size: height and width that images are scaled and cut to; None: all have one size.
        channels: 1 or 3 to turn images into; None: 3 if any image has colours, else 1.
        test_fraction: share of each class that is test where there is one split.
        images: the column of the images; None: the only one, or else image.
        labels: the column of the classes; None: the only one, or else label.
        groups: the column that names the patient or scene of each image: none is on both sides of
            a split; None: each image is its own.

    Returns:
        Where they are, and how they are read.

    Raises:
        ValueError: for an option out of range.
    """
    size = None if image_size is None else _pair(image_size)
    return Source(
        "huggingface",
        path,
        size,
        channels,
        test_fraction,
        (("images", images),),
        groups=groups,
        labels=labels,
    )


CUSTOM: Table[Any] = Table(
    "dataset",
    {"folder": folder, "npz": npz, "huggingface": huggingface, "imagenet_folder": imagenet},
    supplied=("path",),
    described=DATASETS,
)
"""Datasets by name: makers of a `Source`, or of `Arrays`, beside those that are described."""


def source(name: str, options: Mapping[str, Any], *, path: str | None = None) -> Source:
    """Returns where a dataset of one's own comes from.

    Args:
        name: of `CUSTOM`, or `package.module:maker`, whose maker returns `Arrays`.
        options: the maker's own.
        path: where a folder or an .npz file is.

    Raises:
        ValueError: for an unknown name, or an option that is unknown, missing or out of range.
    """
    if ":" not in name and name in CUSTOM:
        return CUSTOM.create(name, options, path=path)
    CUSTOM.check(name, CUSTOM.options(name), options)
    return Source(name, path or name, options=tuple(sorted(options.items())))
