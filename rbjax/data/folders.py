"""A folder of images: its files, and which class, group and split each is of.

    path/train/<class>/<file>   and   path/test/<class>/<file>   (or val in place of test)
    path/<class>/<file>         a share of each class is held out as test

Folders inside a class belong to it; they may be its patients (groups).  Classes and files are in
alphabetical order.  Images are whatever Pillow reads, whatever they are called (see `pictures`), or
.npy files (H, W, C) with any number of bands.  A table (`metadata`) may say all this in place of
the folders.  What is left out is counted and named.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rbjax.data import looks, metadata, pictures
from rbjax.data.collection import Collection
from rbjax.data.sources import SUBFOLDERS, Source
from rbjax.data.survey import few, relative, survey_files
from rbjax.paths import expanded

_SPLITS = {"train": ("train",), "test": ("test", "val")}
_CLUTTER = {"__MACOSX", "Thumbs.db", "desktop.ini"}
"""What systems leave beside files, besides names that begin with a dot, such as ._photo.png."""


class _Image(NamedTuple):
    """One of a folder."""

    file: Path
    label: str
    split: str | None = None
    group: str | None = None


def find(source: Source, *, field: str = "dataset.path") -> Collection:
    """Looks for all images of a folder; none is read.

    Args:
        source: the folder, perhaps with a table of its images.
        field: what the path is called in errors.

    Returns:
        What was found, class by class.

    Raises:
        ValueError: if there is no such folder, or its table does not fit it.
    """
    root, where = expanded(source.path, field=field), f"{field} = {source.path!r}"
    try:
        if not root.is_dir():
            raise ValueError(f"{where}: {'not a folder' if root.exists() else 'no such folder'}")
        read = _of_folders if source.metadata is None else _of_table
        images, class_names, left_out, notes = read(source, root, where)
    except OSError as error:
        raise ValueError(f"{where}: cannot be read ({error})") from None
    order = {name: number for number, name in enumerate(class_names)}
    images.sort(key=lambda image: (order[image.label], in_order(image.file)))
    files, content_of = tuple(image.file for image in images), looks.then()
    has_splits = bool(images) and all(image.split is not None for image in images)
    has_groups = bool(images) and all(image.group is not None for image in images)
    return Collection(
        where,
        source.path,
        names=tuple(relative(root, files)),
        content=lambda row: content_of(files[row]),
        survey=functools.partial(survey_files, root, sorted(files, key=in_order), left_out),
        class_names=class_names,
        classes=tuple(image.label for image in images),
        splits=tuple(str(image.split) for image in images) if has_splits else None,
        groups=tuple(str(image.group) for image in images) if has_groups else None,
        is_table=source.metadata is not None,
        notes=notes,
    )


_Read = tuple[list[_Image], tuple[str, ...], list[tuple[str, Path]], tuple[str, ...]]
"""Images, class names, why what is left out, and what is said."""


def _of_folders(source: Source, root: Path, where: str) -> _Read:
    left_out: list[tuple[str, Path]] = []
    folders = {split: folder for split in _SPLITS if (folder := _split_folder(root, split))}
    inside = (entry for entry in root.iterdir() if entry.is_dir())
    visible = {entry.name for entry in inside if not why_left_out(entry)}
    if "train" in folders or ("test" in folders and visible <= set(_SPLITS["test"])):
        others = (entry for entry in sorted(root.iterdir()) if entry not in folders.values())
        left_out += [(why_left_out(entry) or "beside train and test", entry) for entry in others]
    else:
        folders = {"train": root}
    has_splits = folders != {"train": root}
    classes = {split: _classes(folder, left_out) for split, folder in folders.items()}
    class_names = tuple(classes.get("train", classes.get("test", ())))
    # As classes they would mix all others.
    if class_names and all(name.casefold() in metadata.SPLITS for name in class_names):
        raise ValueError(
            f"{where}: holds {', '.join(class_names)}, which are names of splits, not of classes; "
            "rename them to train and test"
        )
    for name in classes.get("test", ()):
        if name not in class_names:
            entry = folders["test"] / name
            raise ValueError(f"{where}: {entry} is a class that train does not have")
    images, inside = [], set()
    for split, own in classes.items():
        for name, folder in own.items():
            files = images_below(folder, left_out)
            for file, below in zip(files, relative(folder, files), strict=True):
                first, _, rest = below.partition("/")
                inside |= {first} if rest else set()
                group = (first if rest else str(file)) if source.groups == SUBFOLDERS else None
                images.append(_Image(file, name, split if has_splits else None, group))
    return images, class_names, left_out, _of_groups(source, images, inside)


def _of_groups(source: Source, images: Sequence[_Image], inside: set[str]) -> tuple[str, ...]:
    """Returns what is said of folders inside those of the classes."""
    if source.groups == SUBFOLDERS:
        return (f"{len({image.group for image in images})} groups, each kept whole",)
    if not inside:
        return ()
    return (
        f"{len(inside)} folders inside those of the classes ({few(sorted(inside), ', ')}): where "
        f"these are patients or scenes, dataset.groups={SUBFOLDERS} keeps each on one side of "
        "every split",
    )


def _of_table(source: Source, root: Path, where: str) -> _Read:
    """Returns the images that a table names; labels are its, or else the folders of classes."""
    assert source.metadata is not None
    table = metadata.find(source.metadata, root)
    column = None if source.groups == SUBFOLDERS else source.groups
    rows = metadata.read(table, labels=source.labels, groups=column)
    files = {row.file: root / row.file for row in rows}
    missing = [f"line {row.line} ({row.file})" for row in rows if not files[row.file].is_file()]
    if missing:
        raise ValueError(
            f"{table} column file: {len(missing)} of {len(rows)} files are not in {root}: "
            f"{few(missing, ', ')}"
        )
    if source.groups == SUBFOLDERS and any(row.label is not None for row in rows):
        raise ValueError(
            f"dataset.groups = {SUBFOLDERS!r}: the classes are a column of {table}, so no folder "
            "is known to be a patient's; name a column of groups, such as dataset.groups=patient"
        )
    images, has_splits = [], _split_folder(root, "train") is not None
    for row in rows:
        *folders, _ = Path(row.file).parts
        split = row.split
        if has_splits and folders and folders[0] in ("train", "test", "val"):
            split = split or metadata.SPLITS[folders[0]]
            folders = folders[1:]
        if row.label is None and not folders:
            raise ValueError(
                f"{table} line {row.line}: {row.file} lies in no class's folder, and there is no "
                "column label"
            )
        label = folders[0] if row.label is None else row.label
        group = row.group
        if source.groups == SUBFOLDERS:
            group = folders[1] if folders[1:] else row.file
        images.append(_Image(files[row.file], label, split, group))
    return _divided(images, root, table)


def _divided(images: list[_Image], root: Path, table: Path) -> _Read:
    """Returns the images of train and test; validation is test where there is no other."""
    known = {table, *(image.file for image in images)}
    left_out = [("not in the table", file) for file in images_below(root, []) if file not in known]
    splits, notes = {image.split for image in images}, []
    stray = relative(root, [image.file for image in images if image.split is None])
    if stray and len(stray) < len(images):
        raise ValueError(
            f"{table}: {len(stray)} of {len(images)} images are in no folder of a split, and there "
            f"is no column split: {few(stray, ', ')}"
        )
    if "validation" in splits and "test" not in splits:
        images = [
            image._replace(split="test") if image.split == "validation" else image
            for image in images
        ]
        notes.append("no image of the table is of split test: those of validation are")
    elif "validation" in splits:
        apart = [image for image in images if image.split == "validation"]
        images = [image for image in images if image.split != "validation"]
        notes.append(
            f"{len(apart)} images of split validation are left out: what is held out of train is "
            "dataset.validation_fraction"
        )
    if any(image.group is not None for image in images):
        notes.append(f"{len({image.group for image in images})} groups, each kept whole")
    return images, _ordered({image.label for image in images}), left_out, tuple(notes)


def _ordered(labels: set[str]) -> tuple[str, ...]:
    """Returns class names in order: of numbers by their size, else alphabetical."""
    if all(label.isdecimal() for label in labels):
        return tuple(sorted(labels, key=lambda label: (int(label), label)))
    return tuple(sorted(labels))


def _classes(folder: Path, left_out: list[tuple[str, Path]]) -> dict[str, Path]:
    """Returns the folders of the classes by name."""
    classes = {}
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        reason = why_left_out(entry)
        if not reason and not entry.is_dir():
            reason = "in no class's folder"
        elif not reason and folder.resolve().is_relative_to(entry.resolve()):
            reason = "links to a folder above"
        if reason:
            left_out.append((reason, entry))
        else:
            classes[entry.name] = entry
    return classes


def images_below(folder: Path, left_out: list[tuple[str, Path]]) -> list[Path]:
    """Returns the images of a class, in its folder and those below, in alphabetical order.

    Args:
        folder: of the class.
        left_out: to which is added why another entry is not among them, and which.
    """
    images, pending, seen = [], [str(folder)], {folder.resolve()}
    while pending:
        with os.scandir(pending.pop()) as inside:
            entries = sorted(inside, key=lambda entry: (entry.is_symlink(), entry.name))
        for entry in entries:
            file = Path(entry.path)
            known = file if entry.is_symlink() else entry  # whose kind is known without asking
            reason = why_left_out(known)
            if not reason and known.is_dir():
                real = file.resolve()
                if real in seen or folder.resolve().is_relative_to(real):
                    reason = "links to a folder above, or read already"
                else:
                    seen.add(real)
                    pending.append(entry.path)
            elif not reason and pictures.is_image(file):
                images.append(file)
            elif not reason:
                reason = "not an image that Pillow reads"
            if reason:
                left_out.append((reason, file))
    return sorted(images, key=in_order)


def in_order(file: Path) -> list[str]:
    """Returns what files are sorted by, as paths are: folder by folder."""
    return str(file).split(os.sep)


def why_left_out(entry: Path | os.DirEntry[str]) -> str:
    """Returns why an entry of a folder is left out whatever it holds, "" for most."""
    if entry.name.startswith(".") or entry.name in _CLUTTER:
        return "hidden, or a system's own"
    if entry.is_dir() or entry.is_file():
        return ""
    return "a broken link" if entry.is_symlink() else "neither a file nor a folder"


def _split_folder(root: Path, split: str) -> Path | None:
    return next((root / name for name in _SPLITS[split] if (root / name).is_dir()), None)
