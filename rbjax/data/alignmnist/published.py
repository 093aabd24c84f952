"""Reading the published alignmnist.npz, 4.56 million images, without holding it all in memory.

The file holds x, pixels 0 to 255 in 76 blocks of 60,000 images of 28 x 28, and y, the labels as
floats. Block 0 is MNIST's training split undeformed, in its original order; blocks 1 to 75 are
deformed, image for image. This layout is taken from papers that used the file, which could not be
obtained here: neither the type of its pixels nor whether it is compressed is known, so any number
type is read, compressed or not.

An uncompressed member is mapped in place, after its checksum was verified once; a compressed one is
unpacked once, as bytes, into an .npy file in rbjax's own folder.  Digests of the blocks are made
then, and a block is checked whenever it is read.

Source: Hauberg et al. 2016, http://www2.compute.dtu.dk/~sohau/augmentations/.
"""

from __future__ import annotations

import json
import math
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rbjax import atomic
from rbjax.data import digests
from rbjax.data.prepare import DatasetNotFoundError

_CHUNK = 1000
_SIDE = 28


class Layout(NamedTuple):
    """How many images the file holds."""

    num_blocks: int = 76
    rows: int = 60_000
    """Of each block."""


PUBLISHED = Layout()


class _Member(NamedTuple):
    """An array inside the archive, as its header describes it."""

    info: zipfile.ZipInfo
    shape: tuple[int, ...]
    dtype: np.dtype
    header: int
    """Bytes before the numbers."""


def read_block(
    path: Path, block: int, *, kept: Path, layout: Layout = PUBLISHED
) -> tuple[np.ndarray, np.ndarray]:
    """Reads one block.

    Args:
        path: alignmnist.npz.
        block: from 0.
        kept: the folder for unpacked pixels; created if it does not exist.
        layout: what the file must hold.

    Returns:
        images (rows, 28, 28, 1) uint8, a view of a mapped file if possible, and
        labels (rows,) int32.

    Raises:
        DatasetNotFoundError: (a ValueError) if the file is missing.
        ValueError: naming the file, if it is truncated or damaged, or does not hold
            images and labels of this layout.
    """
    if not path.exists():
        raise DatasetNotFoundError(
            f"{path} is missing: place the published alignmnist.npz there, or name its path; "
            "without it, alignmnist_generated is deformed here"
        )
    wanted = slice(block * layout.rows, (block + 1) * layout.rows)
    try:
        with zipfile.ZipFile(path) as archive:
            member = _member(archive, path, "y.npy")
            total = layout.num_blocks * layout.rows
            if member.shape != (total,):
                raise _wrong(path, f"has y of shape {member.shape}", f"must be ({total},)")
            with archive.open(member.info) as stream:
                stream.read(member.header)
                labels = np.frombuffer(stream.read(), member.dtype)  # to the end: checksum verified
            wrong = labels[~np.isin(labels, np.arange(10))]
            if len(wrong):
                fault = f"has the label {wrong[0]:g} in y"
                raise _wrong(path, fault, "must be a whole number in 0..9")
            pixels = _pixels(archive, path, layout, kept, block)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise _wrong(path, f"is truncated or damaged ({error})", "copy it again") from error
    images = _as_bytes(pixels, path).reshape(layout.rows, _SIDE, _SIDE, 1)
    return images, labels[wanted].astype(np.int32)


def _pixels(
    archive: zipfile.ZipFile, path: Path, layout: Layout, kept: Path, block: int
) -> np.ndarray:
    """Returns a block of x as a mapped array (rows, 784), of the file's own type or as bytes."""
    member = _member(archive, path, "x.npy")
    total = layout.num_blocks * layout.rows
    allowed = [(total, _SIDE, _SIDE), (total, _SIDE * _SIDE)]
    if member.shape not in allowed:
        raise _wrong(path, f"has x of shape {member.shape}", f"must be {allowed[0]}")
    size = (total, _SIDE * _SIDE)
    wanted = slice(block * layout.rows, (block + 1) * layout.rows)
    kept.mkdir(parents=True, exist_ok=True)
    note = kept / f"x-{member.info.CRC:08x}.verified"
    if member.info.compress_type == zipfile.ZIP_STORED:
        with path.open("rb") as file:  # its bytes follow a header, two lengths of which vary
            file.seek(member.info.header_offset + 26)
            name, extra = np.frombuffer(file.read(4), "<u2").tolist()
        offset = member.info.header_offset + 30 + name + extra + member.header
        # Reading it once to the end verifies its checksum; the digests are those of that time.
        stat = path.stat()
        state = f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}"
        known = _noted(note, state)
        if known is None:
            with archive.open(member.info) as stream:
                while stream.read(1 << 24):
                    pass
        pixels = np.memmap(path, member.dtype, "r", offset, size)
        known = _note(note, state, pixels, layout) if known is None else known
        if digests.of_blocks(pixels[wanted], layout.rows) != known[block : block + 1]:
            raise _wrong(path, f"is damaged in block {block} of x", "copy it again")
        return pixels[wanted]
    unpacked = kept / f"x-{member.info.CRC:08x}.npy"
    try:
        pixels = _open_unpacked(unpacked, size)
        known = _noted(note, unpacked.name)
        known = _note(note, unpacked.name, pixels, layout) if known is None else known
        if digests.of_blocks(pixels[wanted], layout.rows) == known[block : block + 1]:
            return pixels[wanted]
        print(f"{unpacked} is damaged in block {block}", file=sys.stderr)
    except atomic.DAMAGED:
        pass
    print(f"{path} is compressed: unpacked once, to {unpacked}", file=sys.stderr)
    _unpack(archive, path, member, unpacked)
    pixels = _open_unpacked(unpacked, size)
    _note(note, unpacked.name, pixels, layout)
    return pixels[wanted]


def _noted(note: Path, state: str) -> list[int] | None:
    """Returns the digests of all blocks of a file in this state, None if none are kept."""
    try:
        kept = json.loads(note.read_bytes())
        return kept["digests"] if kept["state"] == state else None
    except (*atomic.DAMAGED, TypeError):
        return None


def _note(note: Path, state: str, pixels: np.ndarray, layout: Layout) -> list[int]:
    known = digests.of_blocks(pixels, layout.rows)
    atomic.write_json(note, {"state": state, "digests": known})
    return known


def _member(archive: zipfile.ZipFile, path: Path, name: str) -> _Member:
    if name not in archive.namelist():
        contents = ", ".join(archive.namelist()) or "nothing"
        raise _wrong(path, f"holds {contents}", "must hold x.npy and y.npy")
    with archive.open(name) as stream:
        try:
            version = np.lib.format.read_magic(stream)
            read: Any = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            shape, fortran, dtype = read(stream)
        except (ValueError, KeyError) as error:
            raise _wrong(path, f"has a {name} that is no array", "copy it again") from error
        if (fortran and len(shape) > 1) or dtype.kind not in "buif":
            order = "Fortran" if fortran else "C"
            raise _wrong(
                path, f"has {name} of {dtype} in {order} order", "must be numbers in C order"
            )
        info, header = archive.getinfo(name), stream.tell()
    if info.file_size != header + math.prod(shape) * dtype.itemsize:
        raise _wrong(path, f"has a {name} that is not as long as it says", "copy it again")
    return _Member(info, shape, dtype, header)


def _unpack(archive: zipfile.ZipFile, path: Path, member: _Member, unpacked: Path) -> None:
    """Writes x as bytes, a thousand images at a time; if that fails, nothing is left."""
    pixels = _SIDE * _SIDE
    header = {"descr": "|u1", "fortran_order": False, "shape": (member.shape[0], pixels)}
    with archive.open(member.info) as stream, atomic.replace(unpacked) as file:
        stream.read(member.header)
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, member.shape[0], _CHUNK):
            count = min(_CHUNK, member.shape[0] - start)
            data = stream.read(count * pixels * member.dtype.itemsize)
            if len(data) < count * pixels * member.dtype.itemsize:
                raise EOFError("x ends early")
            numbers = np.frombuffer(data, member.dtype).reshape(count, pixels)
            file.write(_as_bytes(numbers, path).tobytes())
        stream.read(1)  # to the end: the checksum is verified


def _open_unpacked(unpacked: Path, size: tuple[int, int]) -> np.ndarray:
    pixels = np.load(unpacked, mmap_mode="r", allow_pickle=False)
    if pixels.shape != size or pixels.dtype != np.uint8:
        raise ValueError(f"{unpacked} holds {pixels.dtype} {pixels.shape}")
    return pixels


def _as_bytes(pixels: np.ndarray, path: Path) -> np.ndarray:
    """Returns (n, 784) pixels as uint8, to the nearest; they must be in 0..255."""
    if pixels.dtype == np.uint8:
        return pixels
    result = np.empty(pixels.shape, np.uint8)
    for start in range(0, len(pixels), _CHUNK):
        part = np.asarray(pixels[start : start + _CHUNK])
        if not (part.min() >= 0 and part.max() <= 255):  # a NaN is in no range
            low, high = part.min(), part.max()
            raise _wrong(path, f"has pixels in {low:g}..{high:g} in x", "must be in 0..255")
        result[start : start + _CHUNK] = np.rint(part)
    if len(result) and result.max() <= 1:
        raise _wrong(path, "has no pixel above 1 in x", "must be in 0..255, not in 0..1")
    return result


def _wrong(path: Path, fault: str, remedy: str) -> ValueError:
    return ValueError(f"{path} {fault}; {remedy}")
