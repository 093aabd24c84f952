"""Splits that are decoded once to a file of pixels, which is then mapped into memory.

Such a file is kept in rbjax's own folder, with its labels and a description that holds digests of
both and of itself.  All three are written to a temporary folder, which is renamed when it is
complete.
"""

from __future__ import annotations

import io
import json
import shutil
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rbjax import atomic
from rbjax.data import builders, digests, storage
from rbjax.data.builders.members import Members
from rbjax.data.description import DatasetInfo
from rbjax.data.digests import CheckedImages
from rbjax.data.download import DatasetNotFoundError, fetch
from rbjax.data.prepare import take, taken
from rbjax.paths import expanded
from rbjax.progress import Progress, progress_bar

_FORMAT = 1
_PIXELS, _LABELS, _ABOUT = "images.u8", "labels.npy", "about.json"
_FIELDS = {"format", "image_shape", "class_names"}
_DIGESTS = {"pixels", "labels", "rows", "checksum"}
"""Of each block of the pixels, of the labels, the images of a block, and of the other fields."""

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
) -> tuple[DatasetInfo, CheckedImages, np.ndarray]:
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
        mapped and checked block by block, and labels (N,) int32.

    Raises:
        DatasetNotFoundError: if it is not on this machine and cannot be downloaded.
        ValueError: naming the file, if one is damaged; what was written is removed.  What lies
            there incomplete is prepared again where the published files are at hand.
    """
    data_dir = storage.folder_of(data_dir)
    folder = builders.place(info, split, data_dir)
    incomplete = _incomplete(folder, info)
    if incomplete:
        if folder.exists():
            print(f"{incomplete}: prepared again", file=sys.stderr)
        try:
            with taken(info.files, storage.manual_folder(data_dir), source):
                files = published(info, data_dir, source)
                _prepare(info, split, files, folder, examples, class_names)
        except DatasetNotFoundError as error:
            raise DatasetNotFoundError(
                f"{incomplete}, and {error}" if folder.exists() else str(error)
            ) from None
    images, labels, names = _read(folder, info)
    num_examples = {**info.num_examples, split: len(labels)}
    return info._replace(class_names=names, num_examples=num_examples), images, labels


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
            if members.num_left_out:
                print(
                    f"{members.path}: {members.num_left_out} files of macOS's (._*) are left out",
                    file=sys.stderr,
                )
            np.save(new / _LABELS, labels)
            about = {"format": _FORMAT, "image_shape": info.image_shape, "class_names": names}
            _describe(new, about, len(labels))
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
    labels = []
    with path.open("wb") as file, progress_bar(info.name) as tell:
        for image, label in examples:
            file.write(np.ascontiguousarray(image).tobytes())
            labels.append(label)
            tell(Progress("", len(labels), 0))
    if not labels:
        raise ValueError(f"{members.path}: holds no images of {info.name}")
    return np.array(labels, np.int32)


def _incomplete(folder: Path, info: DatasetInfo) -> str:
    """Returns what of a split is missing or cut, "" if nothing is."""
    for name in (_ABOUT, _LABELS, _PIXELS):
        if not (folder / name).is_file():
            return f"{folder / name} is missing"
    size = (folder / _PIXELS).stat().st_size
    needed = len(_labels(folder, {})) * np.prod(info.image_shape, dtype=np.int64)
    return f"{folder / _PIXELS} is cut, {size:,} bytes of {needed:,}" if size < needed else ""


def _open(folder: Path, info: DatasetInfo) -> tuple[CheckedImages, np.ndarray] | None:
    """Returns the mapped images and the labels; None if they are missing or damaged."""
    try:
        return _read(folder, info)[:2]
    except (OSError, ValueError):
        return None


def _read(folder: Path, info: DatasetInfo) -> tuple[CheckedImages, np.ndarray, tuple[str, ...]]:
    """Returns images, labels and class names, checked but for the pixels of a large file.

    Raises:
        ValueError: naming the file, if one is damaged or does not fit the others.
    """
    about, where = _json(folder), folder / _ABOUT
    fields = set(about) if isinstance(about, dict) else set()
    if fields not in (_FIELDS, _FIELDS | _DIGESTS):
        raise _damaged(where, f"has the fields {', '.join(sorted(fields)) or 'none'}")
    if fields != _FIELDS and about["checksum"] != _checksum(about):
        raise _damaged(where, "does not have the checksum it says")
    if about["format"] != _FORMAT:
        raise _damaged(where, f"format is {about['format']!r}, of another version; read is 1")
    if about["image_shape"] != list(info.image_shape):
        raise _damaged(where, f"image_shape is {about['image_shape']}, not {info.image_shape}")
    names = about["class_names"] if isinstance(about["class_names"], list) else []
    if len({name for name in names if isinstance(name, str)}) != info.num_classes:
        raise _damaged(where, f"class_names are not {info.num_classes} different names")
    labels = _labels(folder, about)
    size = (folder / _PIXELS).stat().st_size
    if size != len(labels) * np.prod(info.image_shape, dtype=np.int64) or not size:
        raise _damaged(folder / _PIXELS, f"{size:,} bytes for {len(labels):,} labels")
    if fields == _FIELDS:
        print(f"{folder}: prepared without digests, which are made now, once", file=sys.stderr)
        about = _describe(folder, about, len(labels))
    shape = (len(labels), *info.image_shape)
    images = CheckedImages(
        np.memmap(folder / _PIXELS, np.uint8, mode="r", shape=shape),
        about["pixels"],
        rows=about["rows"],
        path=folder / _PIXELS,
        remedy=_remedy(folder),
    )
    return images, labels, tuple(names)


def _describe(folder: Path, about: dict[str, Any], num_examples: int) -> dict[str, Any]:
    """Writes the description with digests of what lies beside it, and returns it."""
    shape = (num_examples, *about["image_shape"])
    rows = digests.rows_per_block(about["image_shape"])
    pixels = np.memmap(folder / _PIXELS, np.uint8, mode="r", shape=shape)
    about = {
        **about,
        "rows": rows,
        "pixels": digests.of_blocks(pixels, rows),
        "labels": zlib.crc32((folder / _LABELS).read_bytes()),
    }
    about = atomic.plain(about)
    about["checksum"] = _checksum(about)
    try:
        atomic.write_json(folder / _ABOUT, about)
    except OSError as error:
        print(f"{folder}: digests cannot be kept ({error})", file=sys.stderr)
    return about


def _checksum(about: dict[str, Any]) -> int:
    fields = {name: value for name, value in about.items() if name != "checksum"}
    return zlib.crc32(json.dumps(fields, sort_keys=True).encode())


def _json(folder: Path) -> Any:
    try:
        return json.loads((folder / _ABOUT).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(folder / _ABOUT, f"{error}") from None


def _labels(folder: Path, about: dict[str, Any]) -> np.ndarray:
    path = folder / _LABELS
    try:
        content = path.read_bytes()
        if "labels" in about and zlib.crc32(content) != about["labels"]:
            raise ValueError("its checksum differs")
        labels = np.load(io.BytesIO(content), allow_pickle=False)
    except atomic.DAMAGED as error:
        raise _damaged(path, f"{error}") from None
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise _damaged(path, f"{labels.dtype} {labels.shape}, not whole numbers (N,)")
    return labels.astype(np.int32)


def _damaged(path: Path, fault: str) -> ValueError:
    reason = fault.partition("\n")[0]
    return ValueError(f"{path}: is damaged ({reason}); {_remedy(path.parent)}")


def _remedy(folder: Path) -> str:
    return f"delete {folder}, and it is prepared again"
