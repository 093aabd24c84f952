"""Encoded images with their names, classes, groups and splits, from wherever they are read."""

from __future__ import annotations

import collections
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from rbjax.data import groups as whole_groups
from rbjax.data import pictures
from rbjax.data.encoded import Read, covering
from rbjax.data.imbalance import select
from rbjax.data.survey import Survey, few


class Collection(NamedTuple):
    """All images of a folder or a file, of all splits."""

    where: str
    """What errors begin with."""
    place: str
    """The folder or file."""
    names: tuple[str, ...]
    """Of each image, such as its file relative to the folder; class by class."""
    content: Callable[[int], bytes]
    """Row -> all bytes of an image; called in several threads."""
    survey: Callable[[], Survey]
    """Reads all of them, and again only after a change."""
    class_names: tuple[str, ...]
    classes: tuple[str, ...]
    """Of each image."""
    splits: tuple[str, ...] | None = None
    """Of each image; None: there are none, and a share of each class is held out as test."""
    groups: tuple[str, ...] | None = None
    """Of each image; None: each is its own."""
    is_table: bool = False
    """Whether classes, splits and groups stand in a table, so that names do not tell them."""
    notes: tuple[str, ...] = ()
    """What is said of it."""

    def fingerprint(self) -> str:
        """Returns a digest of names and contents, and of what a table says of them.

        Raises:
            ValueError: naming the images that cannot be read.
        """
        known = self.survey().fingerprint
        if not self.is_table:
            return known
        rows = sorted(zip(self.names, *self._columns(), strict=True))
        digest = hashlib.sha256((known + repr(rows)).encode("utf-8", "surrogateescape"))
        return digest.hexdigest()[:16]

    def _columns(self) -> list[Sequence[str]]:
        nothing = ("",) * len(self.names)
        return [self.classes, self.splits or nothing, self.groups or nothing]

    def reader(self, dtype: Any) -> Read:
        """Returns what decodes the image of a row and makes it fit a shape, of a dtype."""

        def read(row: int, shape: tuple[int, ...]) -> np.ndarray:
            name = f"{self.place}/{self.names[row]}"
            image = pictures.decode(name, self.content(row), shape[2], dtype)
            return covering(image, shape)

        return read


class Part(NamedTuple):
    """The images of one split of a collection."""

    rows: np.ndarray
    """(N,) int64, of the collection."""
    labels: np.ndarray
    """(N,) int32, into its class names."""
    groups: np.ndarray | None
    """(N,) int32, numbered alike in all splits."""


def part(found: Collection, split: str, *, test_fraction: float) -> Part:
    """Returns the images of a split.

    Args:
        found: all images.
        split: "train" or "test".
        test_fraction: share of each class that is test if there are no splits, in (0, 1); which
            images, or groups, depends on their names alone.

    Raises:
        ValueError: if there are fewer than two classes, one of them has no image to train on, or
            the split none at all.
    """
    if len(found.class_names) < 2:
        raise ValueError(
            f"{found.where}: holds {len(found.class_names)} classes; must be at least 2, as "
            "train/<class>/<image> and test/<class>/<image>, or <class>/<image>"
        )
    everything = _taken(found, np.arange(len(found.names)))
    counts = np.bincount(everything.labels, minlength=len(found.class_names))
    if found.splits is None:
        _require(found, counts, "")
        return _taken(found, _share(found, everything, split, test_fraction))
    splits = np.array(found.splits)
    for wanted in ("train", split):
        if wanted not in found.splits:
            raise ValueError(
                f"{found.where}: split {wanted} holds no image that can be read; there are those "
                f"of {', '.join(sorted(set(found.splits)))}"
            )
    train = np.flatnonzero(splits == "train")
    counts = np.bincount(everything.labels[train], minlength=len(found.class_names))
    _require(found, counts, " of split train")
    return _taken(found, np.flatnonzero(splits == split))


def test_part(found: Collection) -> Part:
    """Returns the images of what is another's test set: the split test, or all there are.

    Raises:
        ValueError: if there is none.
    """
    rows = np.arange(len(found.names))
    if found.splits is not None:
        rows = np.flatnonzero(np.array(found.splits) == "test")
    if not len(rows):
        raise ValueError(f"{found.where}: holds no test image that can be read")
    return _taken(found, rows)


def twice(found: Collection, train: np.ndarray, test: np.ndarray) -> tuple[str, ...]:
    """Returns what is said of images and groups that are in train and in test.

    Args:
        found: all images.
        train: rows of train.
        test: rows of test.
    """
    contents, said = found.survey().contents, []
    first = {contents[found.names[row]]: found.names[row] for row in train[::-1]}
    same = [found.names[row] for row in test if contents[found.names[row]] in first]
    if same:
        pairs = [f"{name} is {first[contents[name]]}" for name in same]
        said.append(
            f"{len(same)} of {len(test)} test images are in train too, byte for byte: {few(pairs)}"
        )
    if found.groups is not None:
        group_of = np.array(found.groups, object)
        both = sorted(set(group_of[train]) & set(group_of[test]))
        if both:
            said.append(f"{len(both)} groups are in train and in test: {few(both)}")
    return tuple(said)


def labels_in(found: Collection, rows: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    """Returns the labels of images by another's class names.

    Args:
        found: all images.
        rows: those wanted, (N,).
        class_names: K names, of which some may be missing here.

    Returns:
        (N,) int32 in [0, K).

    Raises:
        ValueError: naming a class that is none of them.
    """
    from rbjax.errors import nearest

    number = {name: label for label, name in enumerate(class_names)}
    counts = collections.Counter(found.classes[row] for row in rows)
    unknown = [f"{name} ({count})" for name, count in counts.items() if name not in number]
    if unknown:
        first = next(name for name in counts if name not in number)
        raise ValueError(
            f"{found.where}: has images of classes that the training data do not have: "
            f"{few(unknown)}; theirs are {', '.join(class_names)}{nearest(first, class_names)}"
        )
    return np.array([number[found.classes[row]] for row in rows], np.int32)


def _taken(found: Collection, rows: np.ndarray) -> Part:
    number = {name: label for label, name in enumerate(found.class_names)}
    labels = np.array([number[found.classes[row]] for row in rows], np.int32)
    groups = None
    if found.groups is not None:
        groups = np.unique(found.groups, return_inverse=True)[1].astype(np.int32)[rows]
    return Part(rows.astype(np.int64), labels, groups)


def _require(found: Collection, counts: np.ndarray, split: str) -> None:
    if np.any(counts == 0):
        lacking = [found.class_names[label] for label in np.flatnonzero(counts == 0)]
        raise ValueError(
            f"{found.where}: class {few(lacking)} holds no image{split} that can be read"
        )


def _share(found: Collection, all_: Part, split: str, test_fraction: float) -> np.ndarray:
    """Returns the rows of one split where there are none, chosen by the names of the images."""
    digests = [hashlib.sha256(n.encode("utf-8", "surrogateescape")).digest() for n in found.names]
    ranks = np.empty(len(digests), np.int64)
    ranks[sorted(range(len(digests)), key=digests.__getitem__)] = np.arange(len(digests))
    counts = np.bincount(all_.labels, minlength=len(found.class_names))
    held_out, what = np.floor(test_fraction * counts + 0.5).astype(np.int64), "images"
    if all_.groups is None:
        wrong = (held_out < 1) | (held_out >= counts)
        test = None if wrong.any() else select(all_.labels, ranks, held_out, name="test")
    else:
        test = whole_groups.select(all_.labels, all_.groups, held_out, name="test")
        held_out = np.bincount(all_.labels[test], minlength=len(counts))
        wrong, what = (held_out < 1) | (held_out >= counts), "images in whole groups"
    for label in np.flatnonzero(wrong):
        raise ValueError(
            f"{found.where}: class {found.class_names[label]} has {counts[label]} {what}, of which "
            f"dataset.test_fraction = {test_fraction:g} makes {held_out[label]} test; both splits "
            "need at least one"
        )
    assert test is not None
    return test if split == "test" else np.setdiff1d(np.arange(len(digests)), test)
