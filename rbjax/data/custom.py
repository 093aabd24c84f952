"""Your own data, by config: a folder of images by class, or arrays in an .npz file.

--config.dataset.name=folder --config.dataset.path=photographs --config.dataset.image_size=64,64
--config.dataset.name=npz    --config.dataset.path=arrays.npz
--config.dataset.name=imagenet_folder --config.dataset.path=ILSVRC2012_img_val
"""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple

import numpy as np

from rbjax.data import folders, imagenet_folder
from rbjax.data import npz as arrays_of_file
from rbjax.data.datasets import DATASETS, IMAGENET_MEAN, IMAGENET_STD, DatasetInfo
from rbjax.data.loading import Dataset, from_arrays
from rbjax.options import Count, Range, checked
from rbjax.tables import Table, lookup

_MOST_IN_MEMORY = 2**30
"""Bytes; a larger folder of images is decoded while it is used."""
_MOST_MEASURED = 5000
"""Images of train from which mean and deviation are computed."""
_MEASURED_AT_ONCE = 50


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
    """Of an .npz file: the array that says which group each training image is of."""


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


@checked
def folder(
    *,
    path: str,
    image_size: Annotated[tuple[int, int], Range(low=1, high=16384, unit="pixels")] | None = None,
    channels: Count | None = None,
    test_fraction: Annotated[float, Range(above=0.0, high=0.9)] = 0.2,
) -> Source:
    """Returns one's own images, in a folder for each class.

    Args:
        path: of train/<class>/<image> and test/<class>/<image>, or <class>/<image>.
        image_size: height and width that images are scaled and cut to; None: all have one size.
        channels: 1 or 3 to turn images into; None: 3 if any image has colours, else 1.
        test_fraction: share of each class that is test where the folder has no splits.

    Returns:
        Where they are, and how they are read.

    Raises:
        ValueError: for an option out of range.
    """
    size = None if image_size is None else _pair(image_size)
    return Source("folder", path, size, channels, test_fraction)


def _pair(image_size: Any) -> tuple[int, int]:
    if len(image_size) != 2 or not all(side == int(side) for side in image_size):
        raise ValueError(
            f"dataset.image_size = {image_size}: must be height and width, such as (64, 64)"
        )
    return int(image_size[0]), int(image_size[1])


_Size = Annotated[tuple[int, int], Range(low=1, high=16384, unit="pixels")]
_Channels = Annotated[tuple[float, float, float], Range(low=0.0, high=1.0, unit="pixels in [0, 1]")]


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


CUSTOM: Table[Any] = Table(
    "dataset",
    {"folder": folder, "npz": npz, "imagenet_folder": imagenet},
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
    if name in _READERS:
        return CUSTOM.create(name, options, path=path)
    CUSTOM.check(name, CUSTOM.options(name), options)
    return Source(name, path or name, options=tuple(sorted(options.items())))


def load(source: Source, split: str) -> Dataset:
    """Loads a split of your own data.

    Args:
        source: where it is.
        split: "train" or "test"; ImageNet's folder has "test" alone.

    Returns:
        A Dataset, its info measured on train: class names, mean and deviation of each channel.

    Raises:
        ValueError: naming the file, if something is missing, unreadable or inconsistent.
    """
    lookup(dict.fromkeys(_splits(source)), split, what=f"{source.kind} split")
    return _load(source, fingerprint(source), split)


def info(source: Source) -> DatasetInfo:
    """Returns the description of your own data, which are read for it.

    Args:
        source: where it is.

    Returns:
        Its DatasetInfo.

    Raises:
        ValueError: as `load`.
    """
    return load(source, _splits(source)[0]).info


def _splits(source: Source) -> tuple[str, ...]:
    return _READERS.get(source.kind, _MADE).splits


def fingerprint(source: Source) -> str:
    """Returns a fingerprint of these data, without decoding them; a folder is read for it once.

    Args:
        source: where they are.

    Returns:
        16 characters: of names and contents of a folder's files, of the checksums in an .npz file.

    Raises:
        ValueError: if there is nothing at the path, or nothing readable.
    """
    return _READERS.get(source.kind, _MADE).fingerprint(source)


class _Kind(NamedTuple):
    read: Callable[[Source, str], tuple[Any, np.ndarray, tuple[str, ...]]]
    """(source, split) -> images (N, H, W, C), labels (N,), class names."""
    fingerprint: Callable[[Source], str]
    splits: tuple[str, ...] = ("train", "test")
    """The first is the one that the description is of."""
    describe: Callable[[Source], DatasetInfo] | None = None
    """What is known without measuring it."""


@functools.lru_cache(maxsize=4)
def _load(source: Source, stamp: str, split: str) -> Dataset:
    """`load`, once for each content: `stamp` is its fingerprint."""
    kind = _READERS.get(source.kind, _MADE)
    images, labels, class_names = kind.read(source, split)
    if kind.describe is not None:
        known = kind.describe(source)._replace(num_examples={split: len(labels)})
    elif split == "test":
        known = _load(source, stamp, "train").info
        known = known._replace(num_examples={**known.num_examples, "test": len(labels)})
        if known.image_shape != images.shape[1:]:
            raise ValueError(
                f"dataset.path = {source.path!r}: test images are {images.shape[1:]}, those of "
                f"train {known.image_shape}"
            )
    else:
        mean, std = _statistics(images)
        known = DatasetInfo(
            name=source.kind,
            image_shape=tuple(images.shape[1:]),
            class_names=class_names,
            num_examples={"train": len(images)},
            mean=tuple(mean.tolist()),
            std=tuple(np.where(std > 0, std, 1.0).tolist()),  # a constant band is only centred
            source=source.path,
            licence="its owner's",
        )
    groups = None
    if source.groups is not None and split == "train":
        groups = arrays_of_file.read_groups(source.path, source.groups, len(labels))
    return from_arrays(known, split, images, labels, groups)


def _statistics(images: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and deviation of each channel in [0, 1], of at most _MOST_MEASURED images."""
    rows = np.unique(np.linspace(0, len(images) - 1, _MOST_MEASURED).astype(np.int64))
    # Counted value by value, a few images at a time: exact, in little memory.
    counts = np.zeros((images.shape[-1], 256), np.int64)
    for some in np.array_split(rows, -(-len(rows) // _MEASURED_AT_ONCE)):
        pixels = images[some]
        for channel, count in enumerate(counts):
            count += np.bincount(pixels[..., channel].ravel(), minlength=256)
    values, shares = np.arange(256) / 255, counts / counts.sum(axis=1, keepdims=True)
    mean = shares @ values
    return mean, np.sqrt(np.sum(shares * (values - mean[:, None]) ** 2, axis=1))


def _read_folder(source: Source, split: str) -> tuple[Any, np.ndarray, tuple[str, ...]]:
    listing, train = (
        folders.scan(source.path, each, test_fraction=source.test_fraction)
        for each in (split, "train")
    )
    survey = folders.survey(source.path)
    if split == "train":
        mixed = (survey.mixed,) if survey.mixed and source.channels is None else ()
        for line in (*survey.said, *mixed):
            print(f"{source.path}: {line}", file=sys.stderr)
    channels = source.channels or survey.channels
    shape = folders.image_shape(train.files, image_size=source.image_size, channels=channels)
    read = folders.read_equal if source.image_size is None else folders.read_covering
    images = folders.FolderImages(listing.files, shape, read)
    small = len(images) * np.prod(shape) <= _MOST_IN_MEMORY
    return images[:] if small else images, listing.labels, listing.class_names


def _fingerprint_folder(source: Source) -> str:
    # What is wrong with the folder is said first.
    folders.scan(source.path, "train", test_fraction=source.test_fraction)
    return folders.survey(source.path).fingerprint


def _scan_imagenet(source: Source) -> imagenet_folder.Validation:
    return imagenet_folder.scan(source.path, dict(source.options)["devkit"])


def _read_imagenet(source: Source, split: str) -> tuple[Any, np.ndarray, tuple[str, ...]]:
    del split  # there is one
    found = _scan_imagenet(source)
    imagenet_folder.tell(found)
    assert source.image_size is not None
    shape = (*source.image_size, 3)
    images = folders.FolderImages(found.listing.files, shape, imagenet_folder.read)
    return images, found.listing.labels, found.listing.class_names


def _describe_imagenet(source: Source) -> DatasetInfo:
    assert source.image_size is not None
    options = dict(source.options)
    return DATASETS["imagenet2012"]._replace(
        name="imagenet_folder",
        image_shape=(*source.image_size, 3),
        class_names=imagenet_folder.NAMES,
        mean=options["mean"],
        std=options["std"],
        storage="memory",
        class_counts={},
        files=(),
        how_to_get="",
    )


@functools.lru_cache(maxsize=2)
def _make(source: Source) -> Arrays:
    """Returns the arrays of a maker, made once."""
    made = CUSTOM.create(source.kind, dict(source.options), path=source.path)
    if isinstance(made, Mapping):
        made = tuple(made.get(field) for field in Arrays._fields)
    where = f"dataset {source.kind!r}"
    if not isinstance(made, tuple) or not 4 <= len(made) <= 5 or any(x is None for x in made[:4]):
        fields = ", ".join(Arrays._fields)
        raise ValueError(f"{where}: must return {fields}; see data.custom.Arrays")
    try:
        images, labels, test_images, test_labels = (np.asarray(array) for array in made[:4])
    except Exception as error:  # of whatever the maker made
        raise ValueError(f"{where}: returned what is no array ({error})") from None
    return Arrays(images, labels, test_images, test_labels, *made[4:])


def _read_made(source: Source, split: str) -> tuple[Any, np.ndarray, tuple[str, ...]]:
    arrays = _make(source)
    images, labels = getattr(arrays, f"{split}_images"), getattr(arrays, f"{split}_labels")
    names = tuple(map(str, arrays.class_names)) if arrays.class_names is not None else None
    where = f"dataset {source.kind!r}"
    return arrays_of_file.check_split(images, labels, arrays.train_labels, names, split, where)


def _fingerprint_made(source: Source) -> str:
    """Returns a digest of the arrays themselves."""
    digest = hashlib.sha256(repr(_make(source).class_names).encode())
    for array in _make(source)[:4]:
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


_READERS = {
    "folder": _Kind(_read_folder, _fingerprint_folder),
    "npz": _Kind(
        lambda source, split: arrays_of_file.read(source.path, split),
        lambda source: arrays_of_file.fingerprint(source.path),
    ),
    "imagenet_folder": _Kind(
        _read_imagenet,
        lambda source: _scan_imagenet(source).fingerprint(),
        splits=("test",),
        describe=_describe_imagenet,
    ),
}
_MADE = _Kind(_read_made, _fingerprint_made)
