"""TFDS datasets on disk: where they are, in which format, and a copy that is quick to read.

`tfds.data_source` reads ArrayRecord without TensorFlow.  What `tfds.load` wrote as TFRecord is
copied to ArrayRecord once, and decoded splits are kept as arrays.  Both are in a folder of our own,
`<data_dir>/rbjax`, or under ~/.cache/rbjax if data_dir is not writable.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from rbjax.data import tfrecord
from rbjax.data.download import DatasetNotFoundError
from rbjax.data.images import RecordImages, Records
from rbjax.data.prepare import prepare
from rbjax.paths import expanded

_INFO = "dataset_info.json"
_CACHE_FORMAT = 1
_BLOCK = 1000


def default_data_dir() -> Path:
    """Returns the folder of TFDS's datasets: $TFDS_DATA_DIR or ~/tensorflow_datasets."""
    return expanded(
        os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets", field="TFDS_DATA_DIR"
    )


def folder_of(data_dir: str | Path | None) -> Path:
    """Returns the folder of datasets.

    Args:
        data_dir: a folder; None: `default_data_dir()`.

    Returns:
        Its path.

    Raises:
        ValueError: if it is the address of a bucket.
    """
    if data_dir is None:
        return default_data_dir()
    if "://" in str(data_dir):
        raise ValueError(f"data_dir = {str(data_dir)!r}: must be a folder on this machine")
    return expanded(data_dir, field="data_dir")


def manual_folder(data_dir: Path) -> Path:
    """Returns the folder of files that were downloaded or placed by hand, for TFDS or for rbjax."""
    return data_dir / "downloads" / "manual"


def find(name: str, data_dir: str | Path | None = None) -> Path | None:
    """Returns the folder of a prepared dataset's newest version.

    Args:
        name: its name in TFDS, with a config's where it has configs: cifar10_corrupted/fog_3.
        data_dir: where to look; `default_data_dir()`.

    Returns:
        For example ~/tensorflow_datasets/mnist/3.0.1; None if it is not prepared.
    """
    versions = {
        tuple(map(int, path.parent.name.split("."))): path.parent
        for path in (folder_of(data_dir) / name).glob(f"*/{_INFO}")
        if re.fullmatch(r"\d+\.\d+\.\d+", path.parent.name)
    }
    return versions[max(versions)] if versions else None


def read(
    name: str,
    split: str,
    data_dir: str | Path | None = None,
    source: str | Path | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Reads a whole split, preparing it first if necessary.

    Args:
        name: its name in TFDS.
        split: "train" or "test".
        data_dir: where to look and prepare; `default_data_dir()`.
        source: where to take its files from, as for `prepare.prepare`.

    Returns:
        images (N, H, W, C) uint8 and labels (N,) int32, in the stored order.

    Raises:
        DatasetNotFoundError: if it is missing and cannot be prepared, or files are missing.
    """
    folder, data_dir = ready(name, data_dir, source)
    path = own_folder(data_dir) / "decoded" / f"{name.replace('/', '-')}-{folder.name}-{split}.npz"
    key = fingerprint(folder, split)
    arrays = _read_cache(path, key)
    if arrays is None:
        arrays = decode(as_array_record(folder, data_dir), split)
        _write_cache(path, key, *arrays)
    return arrays


def open_records(
    name: str,
    split: str,
    image_shape: tuple[int, int, int],
    data_dir: str | Path | None = None,
    source: str | Path | None = None,
) -> tuple[RecordImages, np.ndarray]:
    """Opens a whole split whose images stay in their records, preparing it first if necessary.

    Args:
        name: as for `find`.
        split: its name in TFDS.
        image_shape: height, width and channels that images are made to fit.
        data_dir: where to look and prepare; `default_data_dir()`.
        source: where to take its files from, as for `prepare.prepare`.

    Returns:
        images (N, H, W, C) uint8, decoded where they are indexed, and labels (N,) int32, in the
        stored order.  The labels are read once, record by record, and kept.

    Raises:
        DatasetNotFoundError: if it is missing and cannot be prepared, or files are missing.
        ValueError: naming the files, if one is damaged.
    """
    folder, data_dir = ready(name, data_dir, source)
    path = own_folder(data_dir) / "labels" / f"{name.replace('/', '-')}-{folder.name}-{split}.npz"
    key = fingerprint(folder, split)
    records = Records(as_array_record(folder, data_dir), split)
    kept = _read_cache(path, key)
    if kept is None:
        labels = np.empty(len(records), np.int32)
        for start in range(0, len(records), _BLOCK):
            rows = list(range(start, min(start + _BLOCK, len(records))))
            labels[rows] = [example["label"] for example in records.read(rows)]
        kept = np.empty((0, *image_shape), np.uint8), labels
        _write_cache(path, key, *kept)
    return RecordImages(records, image_shape), kept[1]


def ready(
    name: str, data_dir: str | Path | None = None, source: str | Path | None = None
) -> tuple[Path, Path]:
    """Returns the folder of a dataset, preparing it first if necessary.

    Args:
        name: as for `find`.
        data_dir: where to look and prepare; `default_data_dir()`.
        source: where to take its files from, as for `prepare.prepare`.

    Returns:
        The folder of its newest version, and the folder of datasets.

    Raises:
        DatasetNotFoundError: if it is missing and cannot be prepared.
    """
    data_dir = folder_of(data_dir)
    folder = find(name, data_dir)
    if folder is None:
        prepare(name, data_dir, source)
        folder = find(name, data_dir)
    if folder is None:
        raise DatasetNotFoundError(f"TFDS prepared {name}, but it is not in {data_dir}")
    return folder, data_dir


def decode(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Decodes a split of a dataset that TFDS wrote as ArrayRecord.

    Args:
        folder: with dataset_info.json and the ArrayRecord files.
        split: its name.

    Returns:
        images (N, H, W, C) uint8 and labels (N,) int32, in the stored order.

    Raises:
        ValueError: naming the folder and the example, if one is damaged.
    """
    records = Records(folder, split)
    shape = records.image_shape
    images = np.empty((len(records), *shape), np.uint8)
    labels = np.empty(len(records), np.int32)
    for start in range(0, len(records), _BLOCK):
        rows = range(start, min(start + _BLOCK, len(records)))
        for row, example in zip(rows, records.read(list(rows)), strict=True):
            images[row] = records.image(row, example["image"], shape)
            labels[row] = example["label"]
    return images, labels


def as_array_record(folder: Path, data_dir: Path) -> Path:
    """Returns a dataset's folder in ArrayRecord format: itself, or a copy that is made once.

    TFDS's own converter needs Apache Beam, and TensorFlow to read; the records are only copied.

    Args:
        folder: of one version of a dataset, with dataset_info.json.
        data_dir: the TFDS folder it belongs to.

    Returns:
        The folder to read.

    Raises:
        DatasetNotFoundError: if it is in another format, or incomplete.
    """
    info = _info(folder)
    stored = stored_format(info)
    if stored == "array_record":
        return folder
    if stored != "tfrecord":
        raise DatasetNotFoundError(
            f"{folder} holds {info['name']} as {stored}; rbjax reads array_record and tfrecord: "
            "give another data_dir, and it is prepared there"
        )
    converted = own_folder(data_dir) / "array_record" / info["name"]
    converted = converted / info.get("configName", "") / folder.name
    if not (converted / _INFO).exists():
        converted.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=converted.parent) as temporary:
            _convert(folder, Path(temporary) / "new", info)
            try:
                (Path(temporary) / "new").rename(converted)
            except OSError:  # another process was faster
                if not (converted / _INFO).exists():
                    raise
    return converted


def own_folder(data_dir: Path) -> Path:
    """Returns the folder for what rbjax derives from a TFDS folder; it may not exist yet.

    Args:
        data_dir: a TFDS folder, which need not exist yet.

    Returns:
        `<data_dir>/rbjax`, or one under the user's cache folder if that is not writable.
    """
    # For a folder that does not exist yet its parent counts: the answer stays the same later.
    if os.access(next(path for path in (data_dir, *data_dir.parents) if path.exists()), os.W_OK):
        return data_dir / "rbjax"
    cache = expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache", field="XDG_CACHE_HOME")
    return cache / "rbjax" / hashlib.sha256(str(data_dir.resolve()).encode()).hexdigest()[:16]


def stored_format(info: dict) -> str:
    """Returns the format of a dataset's files, "array_record" if that is one of several.

    Args:
        info: the contents of dataset_info.json; early ones do not say it, and mean TFRecord.

    Returns:
        For example "tfrecord".
    """
    first = info.get("fileFormat", "tfrecord")
    return "array_record" if "array_record" in info.get("alternativeFileFormats", ()) else first


def _info(folder: Path) -> dict:
    """Returns the contents of dataset_info.json, of which the fields that are used are checked."""
    path = folder / _INFO
    try:
        info = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from None
    info = info if isinstance(info, dict) else {}
    for field in ("name", "version"):
        if not isinstance(info.get(field), str) or not info[field]:
            raise _damaged(path, f"{field} is {info.get(field)!r}")
    if not isinstance(info.get("fileFormat", ""), str):
        raise _damaged(path, f"fileFormat is {info['fileFormat']!r}")
    if not isinstance(info.get("alternativeFileFormats", []), list):
        raise _damaged(path, f"alternativeFileFormats is {info['alternativeFileFormats']!r}")
    splits = info.get("splits")
    if not isinstance(splits, list) or not splits:
        raise _damaged(path, f"splits is {splits!r}")
    for split in splits:
        lengths = split.get("shardLengths", ()) if isinstance(split, dict) else None
        if lengths is None or not isinstance(split.get("name"), str):
            raise _damaged(path, f"splits holds {split!r}")
        if not isinstance(lengths, list | tuple) or not all(
            str(length).isdecimal() for length in lengths
        ):
            raise _damaged(path, f"shardLengths of {split['name']} is {lengths!r}")
    return info


def _damaged(path: Path, fault: str) -> DatasetNotFoundError:
    reason = fault.partition("\n")[0]
    return DatasetNotFoundError(
        f"{path}: is damaged ({reason}); delete {path.parent}, and it is prepared again, or copy "
        "it again"
    )


def _convert(folder: Path, new: Path, info: dict) -> None:
    """Copies every record of every shard, and the files that describe them."""
    from array_record.python.array_record_module import ArrayRecordWriter

    new.mkdir()
    for split, shards in _shards(folder, info, "tfrecord").items():
        for path, num_records in shards:
            # TFDS's own setting: each record on its own, for random access.
            target = new / path.name.replace(".tfrecord-", ".array_record-")
            writer = ArrayRecordWriter(str(target), "group_size:1")
            count = 0
            with path.open("rb") as file:
                for record in tfrecord.records(file, str(path)):
                    writer.write(record)
                    count += 1
            writer.close()
            if count != num_records:
                raise DatasetNotFoundError(
                    f"{path} holds {count} of the {num_records} records of {info['name']} {split}: "
                    f"delete {folder} or copy it again"
                )
    for path in folder.iterdir():
        if path.suffix in (".json", ".txt") and path.name != _INFO:
            shutil.copyfile(path, new / path.name)
    (new / _INFO).write_text(json.dumps({**info, "fileFormat": "array_record"}, indent=2))


def _shards(folder: Path, info: dict, file_format: str) -> dict[str, list[tuple[Path, int]]]:
    """Returns each split's files and their numbers of records; refuses if one is missing."""
    shards: dict[str, list[tuple[Path, int]]] = {}
    for split in info["splits"]:
        lengths = [int(length) for length in split.get("shardLengths", ())]
        stem = f"{info['name']}-{split['name']}.{file_format}"
        paths = [folder / f"{stem}-{i:05d}-of-{len(lengths):05d}" for i in range(len(lengths))]
        for path in paths:
            if not path.exists():
                raise DatasetNotFoundError(
                    f"{folder} is incomplete: {path.name} is missing; delete the folder, and it "
                    "is prepared again, or copy it again"
                )
        shards[split["name"]] = list(zip(paths, lengths, strict=True))
    return shards


def fingerprint(folder: Path, split: str) -> str:
    """Returns what a decoded split depends on: its files and the format of the cache.

    Args:
        folder: of one version of a dataset.
        split: its name.

    Returns:
        Text that changes when a file does.

    Raises:
        DatasetNotFoundError: if a file is missing, or there is no such split.
    """
    info = _info(folder)
    shards = _shards(folder, info, stored_format(info))
    if split not in shards:
        raise DatasetNotFoundError(f"{folder} has no split {split!r}; it has {', '.join(shards)}")
    files = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path, _ in shards[split]]
    return json.dumps([_CACHE_FORMAT, info["version"], files])


def _read_cache(path: Path, key: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns the arrays cached under this key; None if there are none, or they are damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            if kept["key"].item() == key:
                return kept["images"], kept["labels"]  # the archive's checksums are verified
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass
    return None


def _write_cache(path: Path, key: str, images: np.ndarray, labels: np.ndarray) -> None:
    """Caches decoded arrays; if that fails, they are decoded again next time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as temporary:
            new = Path(temporary) / path.name
            np.savez(new, key=np.array(key), images=images, labels=labels)
            new.replace(path)
    except OSError:
        pass
