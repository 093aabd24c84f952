"""A Hugging Face dataset of images on this machine: Parquet files, or what `save_to_disk` wrote.

Its own library reads it (`rbjax[huggingface]`): splits, columns, names of classes.  Images stay
encoded and are read as those of a folder.  Nothing is asked of the network.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rbjax.data.collection import Collection
from rbjax.data.metadata import SPLITS
from rbjax.data.pictures import content_of
from rbjax.data.sources import Source
from rbjax.data.survey import few, survey
from rbjax.errors import nearest
from rbjax.paths import expanded


class _Columns(NamedTuple):
    """The names of those that are read."""

    images: str
    labels: str
    groups: str | None


def find(source: Source, *, field: str = "dataset.path") -> Collection:
    """Looks for all images of a dataset; they stay encoded.

    Args:
        source: a folder of Parquet files or one such file, or a folder that `save_to_disk` wrote.
        field: what the path is called in errors.

    Returns:
        What was found, in the order in which it is stored.

    Raises:
        ValueError: if there is none, its library is not installed, or it lacks a column.
    """
    path, where = expanded(source.path, field=field), f"{field} = {source.path!r}"
    if not path.exists():
        raise ValueError(f"{where}: no such file or folder")
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    stats = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return _find(source, path, where, hashlib.sha256(repr(stats).encode()).hexdigest())


def columns(path: str, *, field: str) -> list[str]:
    """Returns the names of a dataset's columns.

    Raises:
        ValueError: as `find`.
    """
    place, where = expanded(path, field=field), f"{field} = {path!r}"
    if not place.exists():
        raise ValueError(f"{where}: no such file or folder")
    stored, _ = _splits(_opened(place, where), where)
    return list(next(iter(stored.values())).features)


@functools.lru_cache(maxsize=4)
def _find(source: Source, path: Path, where: str, stamp: str) -> Collection:
    """`find`, once for each state of the files, `stamp`."""
    stored, notes = _splits(_opened(path, where), where)
    columns = _columns(next(iter(stored.values())), source, where)
    names, classes, splits, groups, places = [], [], [], [], []
    for split, part in stored.items():
        part = _encoded(part, columns.images, where)
        names += _names(part.select_columns([columns.images]), columns.images, split, where)
        classes += _classes(part, columns.labels, where)
        splits += [split] * len(part)
        groups += [] if columns.groups is None else _groups(part, columns.groups, where)
        places += [(part.select_columns([columns.images]), row) for row in range(len(part))]

    def content(row: int) -> bytes:
        part, place = places[row]
        image = part[place][columns.images]
        return image["bytes"] if image["bytes"] is not None else content_of(Path(image["path"]))

    return Collection(
        where,
        source.path,
        names=tuple(names),
        content=content,
        survey=functools.cache(lambda: survey(names, content, source.path)),
        class_names=_order(next(iter(stored.values())).features[columns.labels], classes),
        classes=tuple(classes),
        splits=tuple(splits) if set(splits) != {"all"} else None,
        groups=tuple(groups) or None,
        is_table=True,
        notes=(*notes, *([f"{len(set(groups))} groups, each kept whole"] if groups else [])),
    )


def _library(where: str) -> Any:
    try:
        datasets: Any = importlib.import_module("datasets")
    except ImportError:
        raise ValueError(
            f"{where}: is read by the library datasets: pip install rbjax[huggingface]"
        ) from None
    datasets.disable_progress_bars()
    return datasets


def _opened(path: Path, where: str) -> Any:
    """Returns the dataset, or its splits by name."""
    library = _library(where)
    saved = path / "dataset_dict.json", path / "state.json"
    try:
        if any(file.exists() for file in saved):
            return library.load_from_disk(str(path))
        if path.is_dir():
            return library.load_dataset(str(path))
        return library.load_dataset("parquet", data_files={"train": [str(path)]})
    except Exception as error:  # of that library, and of pyarrow
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(
            f"{where}: not a dataset that the library datasets reads ({reason})"
        ) from None


def _splits(opened: Any, where: str) -> tuple[dict[str, Any], list[str]]:
    """Returns train and test, or all together as "all", and what is said of other splits."""
    if not isinstance(opened, Mapping):
        return {"all": opened}, []
    if len(opened) == 1:
        return {"all": next(iter(opened.values()))}, []
    known = {name: SPLITS.get(name.casefold()) for name in opened}
    found = {split: name for name, split in known.items() if split is not None}
    notes = []
    if "test" not in found and "validation" in found:
        found["test"] = found["validation"]
        notes.append(f"there is no split test: {found['test']} is test")
    chosen = {split: found[split] for split in ("train", "test") if split in found}
    others = [f"{name} ({len(opened[name])})" for name in opened if name not in chosen.values()]
    if others:
        notes.append(f"left out, splits other than train and test: {few(others, ', ')}")
    if not chosen:
        raise ValueError(
            f"{where}: no split is called train or test; there are {', '.join(opened)}: store one "
            "alone, of which a share is held out, or rename them"
        )
    return {split: opened[name] for split, name in chosen.items()}, notes


def _columns(part: Any, source: Source, where: str) -> _Columns:
    kinds = {name: type(feature).__name__ for name, feature in part.features.items()}
    options = dict(source.options)
    images = _column("images", options.get("images"), kinds, "Image", where)
    labels = _column("labels", source.labels, kinds, "ClassLabel", where)
    if source.groups is not None and source.groups not in kinds:
        raise ValueError(
            f"{where}: dataset.groups = {source.groups!r}: no such column; there are "
            f"{', '.join(kinds)}{nearest(source.groups, kinds)}"
        )
    return _Columns(images, labels, source.groups)


def _column(option: str, given: str | None, kinds: Mapping[str, str], kind: str, where: str) -> str:
    """Returns the column that is named, or the only one of its kind, or the one usually named."""
    if given is not None and given in kinds:
        return given
    alike = [name for name, own in kinds.items() if own == kind]
    usual = [name for name in ("image", "img", "label", "labels") if name in kinds]
    usual = [name for name in usual if (name[0] == "i") == (option == "images")]
    if given is None and (len(alike) == 1 or usual):
        return alike[0] if len(alike) == 1 else usual[0]
    there = ", ".join(f"{name} ({own})" for name, own in kinds.items())
    said = "which column is not clear" if given is None else f"{given!r}: no such column"
    raise ValueError(
        f"{where}: dataset.{option}: {said}; there are {there}"
        f"{nearest(given, kinds) if given else ''}"
    )


def _names(part: Any, column: str, split: str, where: str) -> list[str]:
    """Returns a name for each image: that of the file it came from, else its row."""
    there, paths = [], []
    for image in part[column]:
        image = image or {"bytes": None, "path": None}
        there.append(image["bytes"] is not None or image["path"] is not None)
        paths.append(image["path"])
    _require(there, column, "image", where)
    whole = None not in paths and len(set(paths)) == len(paths)
    names = paths if whole else [f"{row:08d}" for row in range(len(paths))]
    return list(names) if split == "all" else [f"{split}/{name}" for name in names]


def _encoded(part: Any, column: str, where: str) -> Any:
    """Returns a split whose images are not decoded."""
    kind = type(part.features[column]).__name__
    try:
        return part.cast_column(column, _library(where).Image(decode=False))
    except Exception:  # of that library, and of pyarrow
        raise ValueError(
            f"{where}: dataset.images = {column!r}: not a column of images, but {kind}"
        ) from None


def _groups(part: Any, column: str, where: str) -> list[str]:
    """Returns the group of each image by name."""
    values = list(part[column])
    _require([value not in (None, "") for value in values], column, "group", where)
    return list(map(str, values))


def _require(there: Sequence[bool], column: str, what: str, where: str) -> None:
    missing = [row for row, is_there in enumerate(there) if not is_there]
    if missing:
        raise ValueError(
            f"{where}: column {column} says no {what} of {len(missing)} of {len(there)} images, "
            f"such as row {missing[0]}; leave them out"
        )


def _classes(part: Any, column: str, where: str) -> list[str]:
    """Returns the class of each image by name."""
    values, feature = list(part[column]), part.features[column]
    _require([value not in (None, -1) for value in values], column, "class", where)
    named = getattr(feature, "names", None)
    return [str(named[value] if named else value) for value in values]


def _order(feature: Any, classes: Sequence[str]) -> tuple[str, ...]:
    """Returns the names of the classes that there are, in the order of their numbers."""
    there = set(classes)
    if named := getattr(feature, "names", None):
        return tuple(name for name in named if name in there)
    if all(name.isdecimal() for name in there):
        return tuple(sorted(there, key=int))
    return tuple(sorted(there))
