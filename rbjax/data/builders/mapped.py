"""Splits that are decoded once to a file of pixels, which is then mapped into memory.

Such a file lies in rbjax's own folder, beside its labels and a description.  All three are written
to a temporary folder that is renamed when it is complete.
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

_FORMAT = 1
_PIXELS, _LABELS, _ABOUT = "images.u8", "labels.npy", "about.json"

Examples = Callable[[Members, DatasetInfo, str], Iterator[tuple[np.ndarray, int]]]
"""(files, description, split) -> images (H, W, C) uint8 and their labels."""


def read(
    known: DatasetInfo,
    split: str,
    data_dir: str | Path | None,
    source: str | Path | None,
    examples: Examples,
    *,
    class_names: Callable[[Members, DatasetInfo], tuple[str, ...]] | None = None,
) -> tuple[DatasetInfo, np.ndarray, np.ndarray]:
    """Returns a split that is mapped into memory; decodes it first where that was not done yet.

    Args:
        known: of the dataset.
        split: one of its splits.
        data_dir: the folder of datasets; `storage.default_data_dir()`.
        source: as for `published`.
        examples: yields a split's examples.
        class_names: reads the names of the classes, where the description has only numbers.

    Returns:
        The description with the names and the true number of examples, images (N, H, W, C) uint8,
        an np.memmap, and labels (N,) int32.

    Raises:
        DatasetNotFoundError: if it is neither here nor can be downloaded.
        ValueError: naming the file, if one is damaged; nothing is left of what was written.
    """
    data_dir = storage.folder_of(data_dir)
    folder = builders.place(known, split, data_dir)
    arrays = _open(folder, known)
    if arrays is None:
        with taken(known.files, storage.manual_folder(data_dir), source):
            files = published(known, data_dir, source)
            _prepare(known, split, files, folder, examples, class_names)
        arrays = _open(folder, known)
    if arrays is None:
        raise ValueError(f"{folder}: cannot be read; delete it, and it is prepared again")
    about = json.loads((folder / _ABOUT).read_text())
    known = known._replace(
        class_names=tuple(about["class_names"]),
        num_examples={**known.num_examples, split: len(arrays[1])},
    )
    return known, *arrays


def published(known: DatasetInfo, data_dir: Path, source: str | Path | None = None) -> Path:
    """Returns where a dataset's published files are; downloads them where they are not here.

    Args:
        known: of the dataset, of one published file.
        data_dir: the folder of datasets.
        source: a mirror's URL or the path of the archive, or of the folder it was unpacked to.

    Returns:
        The archive in <data_dir>/downloads/manual, or a folder: the source, or one that was placed
        there by hand, called as the dataset or as the archive without its ending.

    Raises:
        DatasetNotFoundError: if they cannot be had.
        ValueError: if the archive is another one.
    """
    (file,) = known.files
    by_hand = storage.manual_folder(data_dir)
    folders = [by_hand / known.name, by_hand / Path(file.name).stem]
    if source is not None and "://" not in str(source):
        path = Path(source).expanduser()
        if path.is_dir() and not (path / file.name).exists():
            return path
    for folder in folders:
        if folder.is_dir():
            return folder
    if (by_hand / file.name).exists():
        return by_hand / file.name
    take(known.name, known.files, by_hand, source)
    return fetch(file, by_hand)


def _prepare(
    known: DatasetInfo,
    split: str,
    files: Path,
    folder: Path,
    examples: Examples,
    class_names: Callable[[Members, DatasetInfo], tuple[str, ...]] | None,
) -> None:
    """Decodes a split of the published files into a folder, which appears when it is complete."""
    with Members(files) as members:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            new = Path(temporary) / "new"
            new.mkdir()
            labels = _write(new / _PIXELS, known, examples(members, known, split), members)
            names = class_names(members, known) if class_names else known.class_names
            if len(labels) != known.num_examples[split]:
                print(
                    f"{members.path}: {known.name} {split} has {len(labels):,} examples; "
                    f"published are {known.num_examples[split]:,}",
                    file=sys.stderr,
                )
            np.save(new / _LABELS, labels)
            about = {"format": _FORMAT, "image_shape": known.image_shape, "class_names": names}
            (new / _ABOUT).write_text(json.dumps(about))
            if _open(folder, known) is None:
                shutil.rmtree(folder, ignore_errors=True)  # a damaged one
            try:
                new.rename(folder)
            except OSError:  # another process was quicker
                if _open(folder, known) is None:
                    raise


def _write(
    path: Path,
    known: DatasetInfo,
    examples: Iterator[tuple[np.ndarray, int]],
    members: Members,
) -> np.ndarray:
    """Writes the pixels one image after the other; returns the labels."""
    import tqdm

    labels = []
    with path.open("wb") as file:
        for image, label in tqdm.tqdm(examples, desc=known.name, unit=" images", leave=False):
            file.write(np.ascontiguousarray(image).tobytes())
            labels.append(label)
    if not labels:
        raise ValueError(f"{members.path}: holds nothing of {known.name}")
    return np.array(labels, np.int32)


def _open(folder: Path, known: DatasetInfo) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns the mapped images and the labels; None where they are missing or damaged."""
    try:
        about = json.loads((folder / _ABOUT).read_text())
        labels = np.load(folder / _LABELS, allow_pickle=False)
        shape = (len(labels), *known.image_shape)
        size = (folder / _PIXELS).stat().st_size
        if about["format"] != _FORMAT or size != np.prod(shape, dtype=np.int64):
            return None
        return np.memmap(folder / _PIXELS, np.uint8, mode="r", shape=shape), labels
    except (OSError, ValueError, KeyError, EOFError):
        return None
