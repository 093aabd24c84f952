"""How a dataset is described before it is on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class File(NamedTuple):
    """A published file."""

    name: str
    url: str
    num_bytes: int | None = None
    """None: not known exactly."""
    sha256: str | None = None
    """None: not published; the file is then not verified."""
    about: str = ""
    """Its approximate size in words, if `num_bytes` is None."""


class Superclasses(NamedTuple):
    """Groups of classes."""

    names: tuple[str, ...]
    of_class: tuple[int, ...]
    """The group of each class, into `names`."""


class DatasetInfo(NamedTuple):
    """The description of a dataset, without reading it."""

    name: str
    image_shape: tuple[int, int, int]
    """Height, width, channels."""
    class_names: tuple[str, ...]
    num_examples: Mapping[str, int]
    """The size of each split."""
    mean: tuple[float, ...]
    """Of each channel over train, pixels in [0, 1]; a model subtracts it."""
    std: tuple[float, ...]
    """What a model divides each channel by."""
    source: str
    licence: str
    embedded: bool = False
    """Whether it comes with scikit-learn; others come from TFDS, under the same name."""
    builder: str = ""
    """The module of `rbjax.data.builders` that reads it; empty: TFDS does."""
    storage: str = "memory"
    """How a split is held: "memory", as decoded arrays; "mapped", decoded once to a memory-mapped
    file; "records", as records that are decoded during use."""
    configs: tuple[str, ...] = ()
    """Its variants: `<name>/<config>` is what can be loaded."""
    stored_splits: Mapping[str, str] = {}
    """The names under which splits are stored, if they differ."""
    class_counts: Mapping[str, tuple[int, ...]] = {}
    """(K,) examples of each class of a split, if they are published."""
    superclasses: Superclasses | None = None
    channel_names: tuple[str, ...] = ()
    """Names of bands that can be chosen from; empty: grey, or red, green and blue."""
    files: tuple[File, ...] = ()
    """The files to download or to place by hand."""
    how_to_get: str = ""
    """What a user has to do first; empty: nothing."""
    epsilon: float = 8 / 255
    """The usual radius of an l-inf ball around its images."""
    notes: tuple[str, ...] = ()
    """Of one's own: how its images are read, and what is odd about them."""

    @property
    def num_classes(self) -> int:
        """The number of classes, K."""
        return len(self.class_names)
