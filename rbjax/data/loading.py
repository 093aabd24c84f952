"""Datasets: the images of a split, their labels, and two numbers that identify each example."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rbjax.data import builders, groups, order, storage
from rbjax.data import images as image_arrays
from rbjax.data.datasets import DatasetInfo, info, with_bands
from rbjax.data.digits import load_digits
from rbjax.data.imbalance import select
from rbjax.inputs import check_images, check_labels
from rbjax.tables import lookup

_MOST_HELD = 2**30
"""Bytes of images that are decoded once."""

Profile = Callable[[np.ndarray], np.ndarray]
"""(K,) available examples of each class -> (K,) examples to keep."""


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Examples of one split, in the order of their ids."""

    info: DatasetInfo
    split: str
    images: Any
    """(N, H, W, C) uint8, or float32 in [0, 1], an `images.ImageArray`: in memory, or read when
    indexed."""
    labels: np.ndarray
    """(N,) int32."""
    index: np.ndarray
    """(N,) int64, the row in the split as stored."""
    example_ids: np.ndarray
    """(N,) int32, ascending: the rank in the split by digest of label and pixels, or, if the images
    are not in memory, the number of the record."""
    groups: np.ndarray | None = None
    """(N,) int32, the group of each example, such as the track that a frame is of; a selection
    takes all of a group or nothing.  None: each example is its own."""
    files: np.ndarray | None = None
    """(N,) str, the file that each image is from; None: they are from no files of their own."""

    def __post_init__(self) -> None:
        num_examples, num_classes = len(self.labels), self.info.num_classes
        check_labels(self.labels, num_examples=num_examples, num_classes=num_classes)
        if self.groups is not None and np.shape(self.groups) != (num_examples,):
            raise ValueError(
                f"groups has shape {np.shape(self.groups)}; it must be ({num_examples},), one an "
                "example, or None"
            )

    @property
    def num_examples(self) -> int:
        """The number of examples, N."""
        return len(self.labels)

    @property
    def class_counts(self) -> np.ndarray:
        """(K,) int64, the examples of each class."""
        return np.bincount(self.labels, minlength=self.info.num_classes).astype(np.int64)

    def take(self, rows: np.ndarray) -> Dataset:
        """Returns the examples of some rows, with their numbers; no image is read.

        Args:
            rows: (M,) integers in [0, N).

        Returns:
            A Dataset of M examples, in the order of `rows`.
        """
        return dataclasses.replace(
            self,
            images=image_arrays.take(self.images, rows),
            labels=self.labels[rows],
            index=self.index[rows],
            example_ids=self.example_ids[rows],
            groups=None if self.groups is None else self.groups[rows],
            files=None if self.files is None else self.files[rows],
        )


def load(
    name: str,
    split: str,
    *,
    data_dir: str | Path | None = None,
    bands: Sequence[str] = (),
    source: str | Path | None = None,
) -> Dataset:
    """Loads a whole split, downloading and preparing it first if necessary.

    Args:
        name: one of `datasets.names()`.
        split: "train" or "test".
        data_dir: the folder of TFDS's datasets; $TFDS_DATA_DIR or ~/tensorflow_datasets.
        bands: of `info(name).channel_names`, the channels to keep, in this order; empty: all.
        source: where to take its published files from if they are not on this machine, the URL of
            a mirror or a path; see `prepare.take`.  None: $RBJAX_MIRROR, or their own addresses.

    Returns:
        A Dataset in the order of `example_ids`, which does not depend on how the split is stored
        unless it is too large for memory.  If it is not as large as published, or a class is not,
        that is printed: a part of a dataset can be used under its name, but not unnoticed.

    Raises:
        ValueError: if the name, the split or a band is unknown, or the name lacks a config.
        DatasetNotFoundError: (a ValueError) if it is not on this machine and cannot be prepared.
    """
    dataset_info = info(name)
    if dataset_info.configs:
        raise ValueError(
            f"dataset {name!r} has {len(dataset_info.configs)} configs; name one, such as "
            f"{name}/{dataset_info.configs[0]} (`python -m rbjax.data {name}` lists them)"
        )
    lookup(dataset_info.num_examples, split, what=f"{name} split")
    chosen = with_bands(dataset_info, bands)
    if dataset_info.embedded:
        images, labels = load_digits(split)
    elif dataset_info.builder:
        dataset_info, images, labels = builders.read(dataset_info, split, data_dir, source)
        chosen = with_bands(dataset_info, bands)
    else:
        stored = dataset_info.stored_splits.get(split, split)
        if dataset_info.storage == "records":
            shape = dataset_info.image_shape
            images, labels = storage.open_records(name, stored, shape, data_dir, source)
        else:
            images, labels = storage.read(name, stored, data_dir, source)
    _check(dataset_info, split, images, labels)
    _compare_with_published(info(name), split, labels)
    if bands:
        order_of = [dataset_info.channel_names.index(band) for band in bands]
        images = image_arrays.channels(images, order_of)
    return from_arrays(chosen, split, images, labels)


def from_arrays(
    dataset_info: DatasetInfo,
    split: str,
    images: Any,
    labels: np.ndarray,
    group_of: np.ndarray | None = None,
    files: Sequence[str] | None = None,
) -> Dataset:
    """Makes a Dataset of arrays: numbers the examples and orders them by id.

    Args:
        dataset_info: of the dataset.
        split: its name.
        images: (N, H, W, C) uint8, or float32 in [0, 1], as stored, an `images.ImageArray`.
        labels: (N,) integers in [0, K).
        group_of: (N,) integers, the group of each example; None: there are none.
        files: N names, of the file that each image is from; None: they are from none.

    Returns:
        A Dataset; `index` is the row in `images`.  Images that are not in memory are not read:
        their rows are the ids, too.

    Raises:
        ValueError: if the arrays do not match each other or the info, or pixels are outside [0, 1].

    Example:
        >>> images = np.zeros((3, 28, 28, 1), np.uint8)
        >>> mnist, labels = rbjax.data.info("mnist"), np.array([7, 7, 1])
        >>> test = rbjax.data.from_arrays(mnist, "test", images, labels)
        >>> test.num_examples, test.class_counts[[1, 7]].tolist()
        (3, [1, 2])
    """
    _check(dataset_info, split, images, labels)
    if resident := image_arrays.is_resident(images):
        check_images(images)
    ranks = (
        order.example_ids(images, labels) if resident else np.arange(len(labels), dtype=np.int32)
    )
    index = np.argsort(ranks)
    return Dataset(
        info=dataset_info,
        split=split,
        images=images[index] if resident else images,
        labels=labels[index].astype(np.int32),
        index=index.astype(np.int64),
        example_ids=ranks[index],
        groups=None if group_of is None else group_of[index],
        files=None if files is None else np.array(files, object)[index],
    )


def in_memory(dataset: Dataset) -> Dataset:
    """Returns a dataset with its images in memory, if they take at most 1 GiB there.

    Args:
        dataset: what is gone through many times; its numbers stay as they are.
    """
    small = np.prod(dataset.images.shape) * dataset.images.dtype.itemsize <= _MOST_HELD
    if image_arrays.is_resident(dataset.images) or not small:
        return dataset
    return dataclasses.replace(dataset, images=np.asarray(dataset.images[:]))


def load_train(
    name: str,
    *,
    data_dir: str | Path | None = None,
    validation_fraction: float = 0.0,
    imbalance: Profile | None = None,
    apply_to_validation: bool = False,
    seed: int = 0,
    bands: Sequence[str] = (),
) -> tuple[Dataset, Dataset | None]:
    """Loads train and divides it: see `load` and `divide_train`, whose arguments these are.

    Args:
        name: one of `datasets.names()`.
        data_dir: the folder of TFDS's datasets; $TFDS_DATA_DIR or ~/tensorflow_datasets.
        validation_fraction: share of each class held out, in [0, 1); rounded to whole examples.
        imbalance: from the available class counts to those to keep.
        apply_to_validation: whether the validation split follows the profile too.
        seed: which examples are held out and which stay, an integer >= 0.
        bands: as for `load`.

    Returns:
        train, and validation (None if `validation_fraction` is 0).

    Raises:
        ValueError: as `load`, `split_validation` and `subsample`.
    """
    return divide_train(
        load(name, "train", data_dir=data_dir, bands=bands),
        validation_fraction=validation_fraction,
        imbalance=imbalance,
        apply_to_validation=apply_to_validation,
        seed=seed,
    )


def divide_train(
    train: Dataset,
    *,
    validation_fraction: float = 0.0,
    imbalance: Profile | None = None,
    apply_to_validation: bool = False,
    seed: int = 0,
) -> tuple[Dataset, Dataset | None]:
    """Holds out the validation split, then applies the imbalance to the rest.

    Args:
        train: a whole training split.
        validation_fraction: share of each class held out, in [0, 1); rounded to whole examples.
        imbalance: from the available class counts to those to keep, for example
            `lambda counts: imbalance.create("step", class_counts=counts, imbalance_ratio=10)`.
        apply_to_validation: whether the validation split follows the profile too.
        seed: which examples are held out and which stay, an integer >= 0.

    Returns:
        train, and validation (None if `validation_fraction` is 0).

    Raises:
        ValueError: as `split_validation` and `subsample`.
    """
    train, validation = split_validation(train, validation_fraction, seed=seed)
    if imbalance is not None:
        train = subsample(train, imbalance, seed=seed)
        if apply_to_validation and validation is not None:
            validation = subsample(validation, imbalance, seed=seed)
    return train, validation


def split_validation(
    dataset: Dataset, fraction: float, *, seed: int = 0
) -> tuple[Dataset, Dataset | None]:
    """Holds out the same share of every class, and of groups none in part.

    Args:
        dataset: a whole training split.
        fraction: in [0, 1); floor(fraction * n_c + 1/2) examples of class c, or with groups as
            near to that as they allow.  Each class keeps a group to be trained on.
        seed: which ones, an integer >= 0.

    Returns:
        The rest, and the held-out examples (None if the fraction is 0).

    Raises:
        ValueError: if the fraction is out of range, or nothing would be held out or remain.
    """
    if not 0.0 <= fraction < 1.0:
        raise ValueError(f"validation_fraction = {fraction!r}: must be at least 0 and below 1")
    if fraction == 0.0:
        return dataset, None
    counts = np.floor(dataset.class_counts * fraction + 0.5).astype(np.int64)
    every = np.arange(dataset.num_examples)
    if dataset.groups is None:
        rows = select(dataset.labels, dataset.example_ids, counts, seed=seed, name="validation")
    else:  # what stays is selected: of every class there is something then
        stays = dataset.class_counts - counts
        kept = groups.select(dataset.labels, dataset.groups, stays, seed=seed, name="validation")
        rows = np.setdiff1d(every, kept)
    if not 0 < len(rows) < dataset.num_examples:
        raise ValueError(
            f"validation_fraction = {fraction!r}: would hold out {len(rows)} of the "
            f"{dataset.num_examples} examples of {dataset.info.name}"
        )
    remaining = np.setdiff1d(every, rows)
    held_out = dataclasses.replace(dataset.take(rows), split="validation")
    return dataset.take(remaining), held_out


def hold_out_last(dataset: Dataset, fraction: float) -> tuple[Dataset, Dataset]:
    """Holds out the last examples as stored, whatever their classes.

    Args:
        dataset: of N examples; what is not used for training is gone already.
        fraction: in (0, 1); the first floor(N (1 - fraction)) stay.

    Returns:
        The rest, and the held-out examples.

    Raises:
        ValueError: if nothing would be held out or remain, or examples are in groups.

    Source:
        Keras' `validation_split`, which P5's code trains with.
    """
    if dataset.groups is not None:
        raise ValueError("validation_from = 'last': would divide groups; allowed: 'classes'")
    stays = int(dataset.num_examples * (1 - fraction))
    if not 0 < stays < dataset.num_examples:
        raise ValueError(
            f"validation_fraction = {fraction!r}: would hold out {dataset.num_examples - stays} of "
            f"the {dataset.num_examples} examples of {dataset.info.name}"
        )
    order_of = np.argsort(dataset.index, kind="stable")
    held_out = dataset.take(np.sort(order_of[stays:]))
    rest = dataset.take(np.sort(order_of[:stays]))
    return rest, dataclasses.replace(held_out, split="validation")


def subsample(dataset: Dataset, imbalance: Profile, *, seed: int = 0) -> Dataset:
    """Keeps as many examples of each class as a profile says.

    Args:
        dataset: of N examples.
        imbalance: from the available class counts to those to keep.
        seed: which examples stay, an integer >= 0.

    Returns:
        A Dataset with those class counts, or with groups as near to them as they allow.

    Raises:
        ValueError: if a class has fewer examples than asked for.
    """
    counts = imbalance(dataset.class_counts)
    rows = select(dataset.labels, dataset.example_ids, counts, seed=seed)  # if there are so many
    if dataset.groups is not None:
        rows = groups.select(dataset.labels, dataset.groups, counts, seed=seed)
    return dataset.take(rows)


def _compare_with_published(published: DatasetInfo, split: str, labels: np.ndarray) -> None:
    """Prints one line if the examples are not as many as published, in all or of a class."""
    total, of_class = published.num_examples[split], published.class_counts.get(split)
    counts, what = np.bincount(labels, minlength=published.num_classes), ""
    if len(labels) != total:
        what = f"{len(labels):,} examples; published are {total:,}"
    elif of_class is not None and tuple(counts) != tuple(of_class):
        label = int(np.flatnonzero(counts != of_class)[0])
        what = f"{counts[label]:,} examples of class {label}; published are {of_class[label]:,}"
    if what:
        print(
            f"{published.name} {split} has {what}: not the published data, whose numbers these "
            "do not compare with",
            file=sys.stderr,
        )


def _check(dataset_info: DatasetInfo, split: str, images: Any, labels: np.ndarray) -> None:
    where = f"{dataset_info.name} {split}"
    if images.dtype not in (np.uint8, np.float32) or images.shape[1:] != dataset_info.image_shape:
        raise ValueError(
            f"{where}: images are {images.dtype} {images.shape}; must be uint8, or float32 in "
            f"[0, 1], (N, {', '.join(map(str, dataset_info.image_shape))})"
        )
    if labels.shape != images.shape[:1]:
        raise ValueError(f"{where}: labels are {labels.shape} for {len(images)} images")
    if labels.dtype.kind not in "iu":
        raise ValueError(f"{where}: labels are {labels.dtype}; must be whole numbers, as int32")
    if len(labels) and not 0 <= labels.min() <= labels.max() < dataset_info.num_classes:
        raise ValueError(
            f"{where}: labels are in {labels.min()}..{labels.max()}; "
            f"must be in 0..{dataset_info.num_classes - 1}"
        )
