"""One's own encoded images: a split of them as pixels, and those that another's model is tested on.

What is decided for all of them (size, channels, 8 or 16 bits) is said once, when train is read.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rbjax.data import collection, folders, huggingface, looks, metadata, scale
from rbjax.data.collection import Collection, Part
from rbjax.data.datasets import DatasetInfo
from rbjax.data.encoded import EncodedImages
from rbjax.data.loading import Dataset, from_arrays
from rbjax.data.sources import Source
from rbjax.data.survey import few
from rbjax.paths import expanded

ENCODED: dict[str, Callable[..., Collection]] = {
    "folder": folders.find,
    "huggingface": huggingface.find,
}
"""What finds encoded images, by the kind of their source."""
_MOST_IN_MEMORY = 2**30
"""Bytes; more images are decoded while they are used."""
_BOTH = ("train", "test")


class Split(NamedTuple):
    """What is read of a split."""

    images: Any
    """(N, H, W, C)."""
    labels: np.ndarray
    """(N,)."""
    class_names: tuple[str, ...]
    groups: np.ndarray | None = None
    """(N,) int32."""
    files: tuple[str, ...] | None = None
    """N names."""
    notes: tuple[str, ...] = ()
    """How the images are read; they are printed."""


@looks.seen
def find(source: Source, *, field: str = "dataset.path") -> Collection:
    """Looks for all images of a source; none is read.

    Raises:
        ValueError: if there is none, beginning with the field that names it.
    """
    found = ENCODED[source.kind](source, field=field)
    return found._replace(survey=functools.cache(found.survey))


def read(source: Source, split: str) -> Split:
    """Reads a split.

    Args:
        source: where the images are.
        split: "train" or "test".

    Raises:
        ValueError: naming the file, if one cannot be read or does not fit the others.
    """
    found = find(source)
    parts = {
        each: collection.part(found, each, test_fraction=source.test_fraction)
        for each in {"train", split}
    }
    survey, part = found.survey(), parts[split]
    if source.image_size is None:
        survey.require_one_size(found.where)
    size = source.image_size or (survey.sizes[0].height, survey.sizes[0].width)
    shape = (*size, source.channels or survey.channels)
    return Split(
        _decoded(found, part, shape),
        part.labels,
        found.class_names,
        part.groups,
        tuple(found.names[row] for row in part.rows),
        _notes(source, found, shape) if split == "train" else (),
    )


def _notes(source: Source, found: Collection, shape: tuple[int, int, int]) -> tuple[str, ...]:
    """Returns what is said of images when their training split is read."""
    survey, share = found.survey(), source.test_fraction
    said = [*survey.said, survey.resized(*shape[:2]), *found.notes]
    said.append(survey.mixed if source.channels is None else "")
    if found.splits is None or "test" in found.splits:
        rows = (collection.part(found, each, test_fraction=share).rows for each in _BOTH)
        said += collection.twice(found, *rows)
    return tuple(filter(None, said))


def _decoded(found: Collection, part: Part, shape: tuple[int, int, int]) -> Any:
    """Returns the images of a part: decoded, or decoded when indexed where there are many."""
    dtype = np.float32 if found.survey().is_deep else np.uint8
    images = EncodedImages(part.rows.tolist(), shape, found.reader(dtype), dtype)
    num_bytes = np.prod(images.shape) * images.dtype.itemsize
    return images[:] if num_bytes <= _MOST_IN_MEMORY else images


def fingerprint(source: Source) -> str:
    """Returns 16 characters: a digest of names and contents, and of what a table says of them.

    Raises:
        ValueError: as `read`.
    """
    found = find(source)
    # What is wrong with the folder is said first.
    collection.part(found, "train", test_fraction=source.test_fraction)
    return found.fingerprint()


def elsewhere(
    kind: str, path: str, ours: DatasetInfo | None, *, labels: str | None = None
) -> Source:
    """Returns images of one's own that a model for other data is tested on.

    Args:
        kind: of ENCODED.
        path: of the images, or of a table in their folder.
        ours: what the model was trained on, whose shape they are made to have; None: not needed.
        labels: what the column of the classes may be called; where there is none of that name it
            is called as usual.

    Raises:
        ValueError: if a table, or what has columns, cannot be read.
    """
    field, place, table = "dataset.test_on", Path(path), None
    file = expanded(path, field=field)
    if kind == "folder" and file.is_file():
        place, table = place.parent, place.name
    there = []
    if labels is not None and (table or kind == "huggingface"):
        there = metadata.columns(file) if table else huggingface.columns(path, field=field)
    if labels is None or labels.casefold() not in map(str.casefold, there):
        labels = None
    size, channels = (None, None) if ours is None else (ours.image_shape[:2], ours.image_shape[2])
    return Source(kind, str(place), size, channels, metadata=table, labels=labels)


def fingerprint_of_other(source: Source) -> str:
    """Returns a fingerprint of what `load_other` reads.

    Raises:
        ValueError: as `load_other`.
    """
    return find(source, field="dataset.test_on").fingerprint()


@looks.once()
def load_other(source: Source, ours: DatasetInfo, *, trained_on: Source | None = None) -> Dataset:
    """Loads images of one's own to test a model on that was trained on others.

    Args:
        source: as `elsewhere` returns.
        ours: the description of what the model was trained on: classes are found by their names,
            and some may be missing.
        trained_on: where those are, if they are one's own: images that are among them are counted.

    Returns:
        A Dataset described as `ours`: all images, or the split test where there are splits.

    Raises:
        ValueError: naming the file, or the class that `ours` does not have.
    """
    stamp = fingerprint_of_other(source)
    read = _load_other(source, stamp, ours.class_names, ours.mean, trained_on)
    known = ours._replace(notes=(*ours.notes, *(f"{source.path}: {note}" for note in read.notes)))
    split = f"{source.kind} {source.path}"
    return from_arrays(known, split, read.images, read.labels, files=read.files)


@functools.lru_cache(maxsize=2)
def _load_other(
    source: Source,
    stamp: str,
    class_names: tuple[str, ...],
    mean: tuple[float, ...],
    trained_on: Source | None,
) -> Split:
    """`load_other`, once for each content."""
    assert source.image_size is not None
    assert source.channels is not None
    found = find(source, field="dataset.test_on")
    part, survey = collection.test_part(found), found.survey()
    labels = collection.labels_in(found, part.rows, class_names)
    counts = np.bincount(labels, minlength=len(class_names))
    lacking = [name for name, count in zip(class_names, counts, strict=True) if not count]
    notes = [*survey.said, survey.resized(*source.image_size), *found.notes]
    notes.append(survey.converted(source.channels))
    notes.append(f"no image of class {few(lacking, ', ')}" if lacking else "")
    if trained_on is not None and trained_on.kind in ENCODED:
        seen = set(find(trained_on).survey().contents.values())
        same = [n for n in map(found.names.__getitem__, part.rows) if survey.contents[n] in seen]
        notes.append(
            f"{len(same)} of {len(labels)} images are among those of {trained_on.path}, byte for "
            f"byte: {few(same, ', ')}"
            if same
            else ""
        )
    images = _decoded(found, part, (*source.image_size, source.channels))
    said = (*filter(None, notes), *scale.beside(images, mean))
    tell(source.path, said)
    files = tuple(found.names[row] for row in part.rows)
    return Split(images, labels, class_names, files=files, notes=said)


def tell(place: str, notes: Sequence[str]) -> None:
    """Prints what is said of images, a line each."""
    for note in notes:
        print(f"{place}: {note}", file=sys.stderr)
