"""Your own data as a Dataset: images in a folder or a file, arrays, or what a maker makes."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from rbjax.data import imagenet_folder, looks, own_images, scale
from rbjax.data import npz as arrays_of_file
from rbjax.data.datasets import DATASETS, DatasetInfo
from rbjax.data.encoded import EncodedImages
from rbjax.data.loading import Dataset, from_arrays
from rbjax.data.own_images import Split, tell
from rbjax.data.sources import CUSTOM, Arrays, Source, source
from rbjax.tables import lookup

__all__ = [
    "CUSTOM",
    "Arrays",
    "Source",
    "fingerprint",
    "info",
    "load",
    "source",
]


@looks.once()
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


@looks.seen
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
    read: Callable[[Source, str], Split]
    """(source, split)."""
    fingerprint: Callable[[Source], str]
    splits: tuple[str, ...] = ("train", "test")
    """The first is the one that the description is of."""
    describe: Callable[[Source], DatasetInfo] | None = None
    """What is known without measuring it."""


@functools.lru_cache(maxsize=4)
def _load(source: Source, stamp: str, split: str) -> Dataset:
    """`load`, once for each content: `stamp` is its fingerprint."""
    kind = _READERS.get(source.kind, _MADE)
    part = kind.read(source, split)
    images, count = part.images, len(part.labels)
    if kind.describe is not None:
        known = kind.describe(source)._replace(num_examples={split: count})
    elif split == "test":
        known = _load(source, stamp, "train").info
        known = known._replace(num_examples={**known.num_examples, "test": count})
        if known.image_shape != images.shape[1:]:
            raise ValueError(
                f"dataset.path = {source.path!r}: test images are {images.shape[1:]}, those of "
                f"train {known.image_shape}"
            )
    else:
        mean, std, largest = scale.measure(images)
        notes = (*part.notes, *scale.dark(largest, images.dtype))
        tell(source.path, notes)
        known = DatasetInfo(
            name=source.kind,
            image_shape=tuple(images.shape[1:]),
            class_names=part.class_names,
            num_examples={"train": count},
            mean=tuple(mean.tolist()),
            std=tuple(np.where(std > 0, std, 1.0).tolist()),  # a constant band is only centred
            source=source.path,
            licence="its owner's",
            notes=notes,
        )
    return from_arrays(known, split, images, part.labels, part.groups, part.files)


@looks.seen
def _scan_imagenet(source: Source) -> imagenet_folder.Validation:
    return imagenet_folder.scan(source.path, dict(source.options)["devkit"])


def _read_imagenet(source: Source, split: str) -> Split:
    del split  # there is one
    found = _scan_imagenet(source)
    imagenet_folder.tell(found)
    assert source.image_size is not None
    shape = (*source.image_size, 3)
    files = [file.relative_to(found.root).as_posix() for file in found.files]
    images = EncodedImages(found.files, shape, imagenet_folder.read)
    return Split(images, found.labels, imagenet_folder.NAMES, files=tuple(files))


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


def _read_made(source: Source, split: str) -> Split:
    arrays = _make(source)
    images, labels = getattr(arrays, f"{split}_images"), getattr(arrays, f"{split}_labels")
    names = tuple(map(str, arrays.class_names)) if arrays.class_names is not None else None
    where = f"dataset {source.kind!r}"
    return Split(
        *arrays_of_file.check_split(images, labels, arrays.train_labels, names, split, where)
    )


def _read_npz(source: Source, split: str) -> Split:
    part, groups = Split(*arrays_of_file.read(source.path, split)), None
    if source.groups is not None and split == "train":
        groups = arrays_of_file.read_groups(source.path, source.groups, len(part.labels))
    return part._replace(groups=groups)


def _fingerprint_made(source: Source) -> str:
    """Returns a digest of the arrays themselves."""
    digest = hashlib.sha256(repr(_make(source).class_names).encode())
    for array in _make(source)[:4]:
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


_READERS = {
    **dict.fromkeys(own_images.ENCODED, _Kind(own_images.read, own_images.fingerprint)),
    "npz": _Kind(_read_npz, lambda source: arrays_of_file.fingerprint(source.path)),
    "imagenet_folder": _Kind(
        _read_imagenet,
        lambda source: _scan_imagenet(source).fingerprint(),
        splits=("test",),
        describe=_describe_imagenet,
    ),
}
_MADE = _Kind(_read_made, _fingerprint_made)
