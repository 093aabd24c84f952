"""Splits that are decoded once to a file of pixels, which is then mapped into memory.

Such a file is kept in rbjax's own folder, with its labels and a description.  All three are written
to a temporary folder, which is renamed when it is complete.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from rbjax.data import builders, storage
from rbjax.data.builders.members import Members
from rbjax.data.description import DatasetInfo
from rbjax.data.download import fetch
from rbjax.data.prepare import take, taken
from rbjax.paths import expanded

_FORMAT = 1
_PIXELS, _LABELS, _ABOUT = "images.u8", "labels.npy", "about.json"

Examples = Callable[[Members, DatasetInfo, str], Iterator[tuple[np.ndarray, int]]]
"""(files, description, split) -> images (H, W, C) uint8 and their labels."""


def read(
    info: DatasetInfo,
    split: str,
    data_dir: str | Path | None,
    source: str | Path | None,
    examples: Examples,
    *,
    class_names: Callable[[Members, DatasetInfo], tuple[str, ...]] | None = None,
) -> tuple[DatasetInfo, np.ndarray, np.ndarray]:
    """Returns a split that is mapped into memory, decoding it first if necessary.

    Args:
        info: of the dataset.
        split: one of its splits.
        data_dir: the folder of datasets; `storage.default_data_dir()`.
        source: as for `published`.
        examples: yields a split's examples.
        class_names: reads the names of the classes if the description has only numbers.

    Returns:
        The description with the names and the true number of examples, images (N, H, W, C) uint8,
        an np.memmap, and labels (N,) int32.

    Raises:
        DatasetNotFoundError: if it is not on this machine and cannot be downloaded.
        ValueError: naming the file, if one is damaged; what was written is removed.
    """
    data_dir = storage.folder_of(data_dir)
    folder = builders.place(info, split, data_dir)
    arrays = _open(folder, info)
    if arrays is None:
        with taken(info.files, storage.manual_folder(data_dir), source):
            files = published(info, data_dir, source)
            _prepare(info, split, files, folder, examples, class_names)
        arrays = _open(folder, info)
    if arrays is None:
        raise ValueError(f"{folder}: cannot be read; delete it, and it is prepared again")
    about = json.loads((folder / _ABOUT).read_text())
    info = info._replace(
        class_names=tuple(about["class_names"]),
        num_examples={**info.num_examples, split: len(arrays[1])},
    )
    return info, *arrays


def published(info: DatasetInfo, data_dir: Path, source: str | Path | None = None) -> Path:
    """Returns where a dataset's published files are, downloading them if necessary.

    Args:
        info: of the dataset, of one published file.
        data_dir: the folder of datasets.
        source: a mirror's URL or the path of the archive, or of the folder it was unpacked to.

    Returns:
        The archive in <data_dir>/downloads/manual, or a folder: the source, or one that was placed
        there by hand and has the name of the dataset, or of the archive without its suffix.

    Raises:
        DatasetNotFoundError: if they cannot be obtained.
        ValueError: if the archive is not the published one.
    """
    (file,) = info.files
    by_hand = storage.manual_folder(data_dir)
    folders = [by_hand / info.name, by_hand / Path(file.name).stem]
    if source is not None and "://" not in str(source):
        path = expanded(source, field="from")
        if path.is_dir() and not (path / file.name).exists():
            return path
    for folder in folders:
        if folder.is_dir():
            return folder
    if (by_hand / file.name).exists():
        return by_hand / file.name
    take(info.name, info.files, by_hand, source)
    return fetch(file, by_hand)


def _prepare(
    info: DatasetInfo,
    split: str,
    files: Path,
    folder: Path,
    examples: Examples,
    class_names: Callable[[Members, DatasetInfo], tuple[str, ...]] | None,
) -> None:
    """Decodes a split of the published files into a folder that appears once it is complete."""
    with Members(files) as members:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            new = Path(temporary) / "new"
            new.mkdir()
            labels = _write(new / _PIXELS, info, examples(members, info, split), members)
            names = class_names(members, info) if class_names else info.class_names
            if len(labels) != info.num_examples[split]:
                print(
                    f"{members.path}: {info.name} {split} has {len(labels):,} examples; "
                    f"published are {info.num_examples[split]:,}",
                    file=sys.stderr,
                )
            np.save(new / _LABELS, labels)
            about = {"format": _FORMAT, "image_shape": info.image_shape, "class_names": names}
            (new / _ABOUT).write_text(json.dumps(about))
            if _open(folder, info) is None:
                shutil.rmtree(folder, ignore_errors=True)  # a damaged one
            try:
                new.rename(folder)
            except OSError:  # another process was faster
                if _open(folder, info) is None:
                    raise


def _write(
    path: Path,
    info: DatasetInfo,
    examples: Iterator[tuple[np.ndarray, int]],
    members: Members,
) -> np.ndarray:
    """Writes the pixels image by image and returns the labels."""
    import tqdm

    labels = []
    with path.open("wb") as file:
        for image, label in tqdm.tqdm(examples, desc=info.name, unit=" images", leave=False):
            file.write(np.ascontiguousarray(image).tobytes())
            labels.append(label)
    if not labels:
        raise ValueError(f"{members.path}: holds no images of {info.name}")
    return np.array(labels, np.int32)


def _open(folder: Path, info: DatasetInfo) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns the mapped images and the labels; None if they are missing or damaged."""
    try:
        about = json.loads((folder / _ABOUT).read_text())
        labels = np.load(folder / _LABELS, allow_pickle=False)
        shape = (len(labels), *info.image_shape)
        size = (folder / _PIXELS).stat().st_size
        if about["format"] != _FORMAT or size != np.prod(shape, dtype=np.int64):
            return None
        return np.memmap(folder / _PIXELS, np.uint8, mode="r", shape=shape), labels
    except (OSError, ValueError, KeyError, EOFError):
        return None
