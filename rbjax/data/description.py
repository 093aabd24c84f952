"""The form in which a dataset is described before it is on the machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class File(NamedTuple):
    """A published file."""

    name: str
    url: str
    num_bytes: int | None = None
    """None: not known to the byte."""
    sha256: str | None = None
    """None: not published, and not computed here; it is then taken as it comes."""
    about: str = ""
    """Its size in words, where it is not known to the byte."""


class Superclasses(NamedTuple):
    """Groups of classes."""

    names: tuple[str, ...]
    of_class: tuple[int, ...]
    """The group of each class, into `names`."""


class DatasetInfo(NamedTuple):
    """What is known of a dataset before it is on the machine."""

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
    """Whether it comes with scikit-learn; the others come from TFDS, under the same name."""
    builder: str = ""
    """The module of `rbjax.data.builders` that reads it; empty: TFDS does."""
    storage: str = "memory"
    """How a split is held: "memory", decoded arrays; "mapped", decoded once to a file that is
    memory-mapped; "records", decoded from their records wherever they are used."""
    configs: tuple[str, ...] = ()
    """Its variants: `<name>/<config>` is what can be loaded."""
    stored_splits: Mapping[str, str] = {}
    """Under which name a split is stored, where it is another one."""
    class_counts: Mapping[str, tuple[int, ...]] = {}
    """(K,) examples of each class of a split, where they are published."""
    superclasses: Superclasses | None = None
    channel_names: tuple[str, ...] = ()
    """Of bands, from which some can be chosen; empty: grey, or red, green and blue."""
    files: tuple[File, ...] = ()
    """What is downloaded, or placed by hand."""
    how_to_get: str = ""
    """What a person has to do first; empty: nothing."""

    @property
    def num_classes(self) -> int:
        """The number of classes, K."""
        return len(self.class_names)
