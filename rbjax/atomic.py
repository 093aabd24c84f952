"""Files that are either old or new, never half-written, whenever the process dies."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import math
import os
import shutil
import uuid
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any

import numpy as np

from rbjax.errors import FullDiskError, is_full
from rbjax.paths import expanded

TEMPORARY = ".partial"
"""Suffix of an unfinished file."""


@contextlib.contextmanager
def room(path: str | os.PathLike[str]) -> Iterator[None]:
    """Names the file or folder that there is no room for, where its body finds that out.

    Raises:
        FullDiskError: in one line, for whatever a library raises of a full disk.
    """
    try:
        yield
    except FullDiskError:
        raise
    except Exception as error:
        if not is_full(error):
            raise
        where = getattr(error, "filename", None) or path
        raise FullDiskError(
            f"{where}: no room is left there (full disk or quota); what was finished is kept: make "
            "room, then give the same command again"
        ) from None


def check_room(folder: str | os.PathLike[str], num_bytes: int) -> None:
    """Refuses to begin what there is no room for.

    Raises:
        OSError: as the system has it, if the disk has fewer bytes left.
    """
    if shutil.disk_usage(folder).free < num_bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(folder))


@contextlib.contextmanager
def replace(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Writes a file under a temporary name, and renames it once it is complete on the disk.

    Args:
        path: the file; its folder must exist.

    Yields:
        A binary file; if the body raises, `path` stays as it was.

    Raises:
        FullDiskError: naming the file.
    """
    path = expanded(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{TEMPORARY}")
    try:
        with room(path), temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def sync(path: str | os.PathLike[str]) -> None:
    """Forces a file, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes JSON, keys sorted; a list of numbers is one line.

    Args:
        path: the file.
        value: as for `plain`.
    """
    with replace(path) as file:
        file.write(f"{_json(plain(value))}\n".encode())


def _json(value: Any, indent: str = "\n") -> str:
    inside, is_nested = f"{indent}  ", isinstance(value, dict | list) and len(value) > 0
    if is_nested and isinstance(value, dict):
        items = [f"{json.dumps(k)}: {_json(value[k], inside)}" for k in sorted(value)]
        return f"{{{inside}{f',{inside}'.join(items)}{indent}}}"
    if is_nested and any(isinstance(item, dict | list) for item in value):
        return f"[{inside}{f',{inside}'.join(_json(item, inside) for item in value)}{indent}]"
    return json.dumps(value, allow_nan=False)


def write_csv(path: str | os.PathLike[str], columns: Iterable[tuple[str, Any]]) -> None:
    """Writes columns as CSV.

    Args:
        path: the file.
        columns: headings with what stands below, all of one length; None and NaN become empty
            fields.
    """
    headings, values = zip(*columns, strict=True)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(headings)
    listed = [x.tolist() if isinstance(x, np.ndarray) else x for x in values]
    for row in zip(*listed, strict=True):
        writer.writerow("" if cell is None or cell != cell else cell for cell in row)
    with replace(path) as file:
        file.write(text.getvalue().encode(errors="backslashreplace"))


def read_json(path: str | os.PathLike[str]) -> Any:
    """Returns what a file of JSON holds.

    Raises:
        ValueError: if it is damaged, naming the file.
    """
    try:
        return json.loads(expanded(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        reason = " ".join(f"{error}".split())[:100]
        raise ValueError(f"{path}: is damaged, not JSON ({reason})") from None


def write_npz(path: str | os.PathLike[str], /, **arrays: Any) -> None:
    """Writes named arrays, compressed, for `numpy.load`.

    Args:
        path: the file, ending in .npz.
        **arrays: arrays of any shape and of numpy's own dtypes.
    """
    # Not by `numpy.savez_compressed`, where no array can be called "file".
    with replace(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asarray(array), allow_pickle=False)


DAMAGED = (
    *(OSError, ValueError, EOFError, KeyError, RuntimeError, MemoryError),
    *(zipfile.BadZipFile, zlib.error),
)
"""What NumPy and zipfile raise for a file that is no archive of arrays, or a damaged one."""


def read_npz(path: str | os.PathLike[str]) -> dict[str, np.ndarray] | None:
    """Returns the arrays of a file written by `write_npz`.

    Args:
        path: the file.

    Returns:
        The arrays by name, or None if the file is missing or damaged.
    """
    try:
        with expanded(path).open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            return dict(archive) if isinstance(archive, np.lib.npyio.NpzFile) else None
    except DAMAGED:
        return None


def plain(value: Any) -> Any:
    """Returns a value in the types of JSON.

    Args:
        value: numbers, text, None, arrays, and mappings and sequences of them.

    Returns:
        dict, list, str, bool, int, float and None; a float that is not finite becomes None.

    Raises:
        TypeError: for anything else.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "__array__"):
        return plain(np.asarray(value).tolist())
    raise TypeError(f"{value!r} of type {type(value).__name__} has no form in JSON")
