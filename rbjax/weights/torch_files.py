"""torch's own files: a zip archive since torch 1.6, pickles and storages in a row before."""

from __future__ import annotations

import io
import mmap
import zipfile
import zlib
from pathlib import Path

import numpy as np

from rbjax.weights import pickles
from rbjax.weights.storages import Storage
from rbjax.weights.tree import Weights, collect
from rbjax.weights.values import storage_of

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_LOCAL_HEADER = 30
_IS_ENCRYPTED = 0x1


def read_zip(path: Path, memory: mmap.mmap) -> Weights:
    """Reads the zip format: `data.pkl`, `byteorder`, and a storage in each `data/<key>`.

    Args:
        path: of the file.
        memory: the same, mapped.

    Returns:
        What it holds.

    Raises:
        ValueError: if it is damaged, or says what is not so.
    """
    archive = _Archive(path, memory)
    says = pickles.read(io.BytesIO(archive.read("data.pkl").tobytes()))
    order = archive.read("byteorder").tobytes() if archive.has("byteorder") else b"little"
    if order not in (b"little", b"big"):
        raise ValueError(f"byteorder is {order[:20]!r}; allowed: little, big")

    def contents(storage: Storage) -> tuple[np.ndarray, bool]:
        content = archive.read(f"data/{storage.key}")
        # A storage of bytes that is used as one of floats may end in the middle of one.
        if not 0 <= len(content) - storage.num_bytes < storage.dtype.itemsize:
            raise ValueError(
                f"a storage of {storage.length:,} {storage.dtype} takes {storage.num_bytes:,} "
                f"bytes, and data/{storage.key:.50} has {len(content):,}"
            )
        return content, order == b"big"

    return collect(says, contents)


class _Archive:
    """The entries of a zip file, as they lie in memory."""

    def __init__(self, path: Path, memory: mmap.mmap) -> None:
        try:
            with zipfile.ZipFile(path) as archive:
                entries = archive.infolist()
        except Exception as error:  # zipfile's own, of several kinds
            raise ValueError(f"damaged or cut zip file ({error})") from None
        roots = [entry.filename for entry in entries if entry.filename.endswith("data.pkl")]
        roots = [name for name in roots if name.count("/") <= 1 and Path(name).name == "data.pkl"]
        if len(roots) != 1:
            raise ValueError("a zip file without the one data.pkl that torch writes")
        self._folder = roots[0].removesuffix("data.pkl")
        self._memory = memory
        self._entries: dict[str, zipfile.ZipInfo] = {}
        self._read: dict[str, np.ndarray] = {}
        for entry in entries:
            if entry.filename in self._entries:
                raise ValueError(f"a zip file with two entries {entry.filename!r:.80}")
            self._entries[entry.filename] = entry
        # torch writes zeros where it was asked not to compute checksums.
        self._is_checked = any(entry.CRC for entry in entries)

    def has(self, name: str) -> bool:
        return self._folder + name in self._entries

    def read(self, name: str) -> np.ndarray:
        """Returns the bytes of an entry, uint8 (N,), checked when it is first read."""
        if name not in self._read:
            if not self.has(name):
                raise ValueError(f"the file has no {name:.50}")
            self._read[name] = self._checked(self._entries[self._folder + name], name)
        return self._read[name]

    def _checked(self, entry: zipfile.ZipInfo, name: str) -> np.ndarray:
        content = self._stored(entry, name)
        if entry.compress_type == zipfile.ZIP_DEFLATED:
            content = _inflated(content, entry.file_size, name)
        if len(content) != entry.file_size:
            raise ValueError(f"{name:.50} has {len(content):,} bytes, not {entry.file_size:,}")
        if self._is_checked and zlib.crc32(content) != entry.CRC:
            raise ValueError(f"{name:.50} is damaged: its checksum differs")
        return content

    def _stored(self, entry: zipfile.ZipInfo, name: str) -> np.ndarray:
        """Returns the bytes of an entry as they are in the file."""
        if entry.flag_bits & _IS_ENCRYPTED or entry.compress_type not in (
            zipfile.ZIP_STORED,
            zipfile.ZIP_DEFLATED,
        ):
            raise ValueError(f"{name:.50} is encrypted, or compressed other than by deflate")
        start = entry.header_offset
        header = self._memory[start : start + _LOCAL_HEADER] if start >= 0 else b""
        if len(header) < _LOCAL_HEADER or header[:4] != b"PK\x03\x04":
            raise ValueError(f"{name:.50} is not where the archive's directory says")
        start += _LOCAL_HEADER + sum(
            int.from_bytes(header[at : at + 2], "little") for at in (26, 28)
        )
        if start + entry.compress_size > len(self._memory):
            raise ValueError(f"{name:.50} ends behind the end of the file")
        return np.frombuffer(self._memory, np.uint8, entry.compress_size, start)


def _inflated(content: np.ndarray, size: int, name: str) -> np.ndarray:
    """Returns deflated bytes as they were, and no more than `size` and one."""
    try:
        inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, size + 1)
    except zlib.error as error:
        raise ValueError(f"{name:.50} is damaged ({error})") from None
    return np.frombuffer(inflated, np.uint8)


def read_legacy(memory: mmap.mmap) -> Weights:
    """Reads the format before torch 1.6: five pickles, and the storages.

    Three pickles are the magic number, the protocol, and the machine; then come what was saved and
    the storages' keys, and for each key the number of elements, int64, and the elements, all
    little-endian.

    Args:
        memory: the file.

    Returns:
        What it holds.

    Raises:
        ValueError: if it is damaged, or says what is not so.
    """
    memory.seek(0)
    magic, protocol, _ = (pickles.read(memory).root for _ in range(3))
    if magic != MAGIC_NUMBER or protocol != _PROTOCOL:
        raise ValueError(f"protocol {protocol!r:.50} of torch; known is {_PROTOCOL}")
    says = pickles.read(memory)
    keys = pickles.read(memory).root
    places, damage = _places(memory, keys, _lengths(says))

    def contents(storage: Storage) -> tuple[np.ndarray, bool]:
        if storage.key not in places:
            raise ValueError(damage or f"the file has no storage {storage.key!r:.50}")
        start, num_bytes = places[storage.key]
        content = np.frombuffer(memory, np.uint8, num_bytes, start)
        return content[storage.start * storage.dtype.itemsize :], False

    return collect(says, contents)


def _lengths(says: pickles.Pickle) -> dict[str, tuple[int, int]]:
    """Returns the length and the bytes of an element of each storage, by key."""
    lengths: dict[str, tuple[int, int]] = {}
    for node in says.persistents:
        if (said := storage_of(node)) is None:
            continue
        key, *numbers = said
        if lengths.setdefault(key, (numbers[0], numbers[1])) != tuple(numbers):
            raise ValueError(f"two different storages of key {key!r:.50}")
    return lengths


def _places(
    memory: mmap.mmap, keys: object, lengths: dict[str, tuple[int, int]]
) -> tuple[dict[str, tuple[int, int]], str]:
    """Returns where the storages are, start and bytes by key, and why the next is not there."""
    places: dict[str, tuple[int, int]] = {}
    position = memory.tell()
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        return places, "the file has no list of its storages"
    for key in keys:
        if key not in lengths:
            return places, f"the file has a storage {key!r:.50} of unknown type"
        length, width = lengths[key]
        stated = int.from_bytes(memory[position : position + 8], "little", signed=True)
        position += 8
        left = len(memory) - position
        if stated != length or left < length * width:
            return places, (
                f"storage {key!r:.50} of {length:,} elements, {length * width:,} bytes, begins "
                f"with {stated:,} elements, and {max(left, 0):,} bytes are left"
            )
        places[key] = position, length * width
        position += length * width
    return places, ""
