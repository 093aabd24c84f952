"""Weights that others trained: torch's files and safetensors, without torch.

Nothing that a file names is imported or called: tensors and plain values are read, and what would
have to be called is skipped and named.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np

from rbjax.paths import expanded
from rbjax.weights import pickles
from rbjax.weights.safetensors_file import (
    METADATA,
    is_safetensors,
    read_safetensors,
    write_safetensors,
)
from rbjax.weights.storages import Storage
from rbjax.weights.torch_files import MAGIC_NUMBER, read_legacy, read_zip
from rbjax.weights.tree import Weights, collect

__all__ = ["METADATA", "Weights", "read", "write_safetensors"]

_ARE_NOT = {
    b"<": "a web page: the download failed; download it again",
    b"version https://git-lfs": "a pointer of Git LFS: fetch the file itself with `git lfs pull`",
    b"\x1f\x8b": "compressed with gzip: unpack it first",
    b"\x93NUMPY": "an array of NumPy's",
}
_TAR = (257, b"ustar")


def read(path: str | os.PathLike[str]) -> Weights:
    """Reads tensors, and what stands beside them, from a file that is not trusted.

    Args:
        path: of a `.pt` or `.pth` file in either of torch's formats, of a `.safetensors` file, or
            of a pickle of NumPy arrays; what it is stands in its first bytes, not in its name.

    Returns:
        Tensors, other values, and what was skipped. The tensors are mapped from the file: they are
        read-only, and gone if it is overwritten while they are in use.

    Raises:
        ValueError: naming the file, if it is none of those, is damaged, or says what is not so: a
            tensor that reaches out of its storage, a storage longer than the file.
    """
    file = expanded(path)
    try:
        with file.open("rb") as opened:
            if not os.fstat(opened.fileno()).st_size:
                raise ValueError("is empty")
            memory = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    try:
        return _read(file, memory)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _read(file: Path, memory: mmap.mmap) -> Weights:
    if memory[:4] == b"PK\x03\x04":
        return read_zip(file, memory)
    if is_safetensors(memory):
        return read_safetensors(memory)
    if memory[:1] == b"\x80":
        says = pickles.read(memory)
        return read_legacy(memory) if says.root == MAGIC_NUMBER else collect(says, _no_contents)
    for begins, what in _ARE_NOT.items():
        if memory[:100].lstrip().startswith(begins):
            raise ValueError(f"is no file of weights but {what}")
    if memory[_TAR[0] : _TAR[0] + 5] == _TAR[1]:
        raise ValueError("is a tar file, as torch wrote before 0.1.10: load and save it with torch")
    raise ValueError("is no file of weights: neither torch's, nor safetensors, nor a pickle")


def _no_contents(storage: Storage) -> tuple[np.ndarray, bool]:
    raise ValueError(f"a storage {storage.key!r:.50}, of which a plain pickle has no bytes")
