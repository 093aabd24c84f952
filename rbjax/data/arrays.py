"""Arrays in NumPy's format, whose header is believed only once the file is as long as it says."""

from __future__ import annotations

import math
import os
import zipfile
from typing import IO, Any

import numpy as np

_READ_HEADER: dict[tuple[int, int], Any] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_npy(stream: IO[bytes], num_bytes: int) -> np.ndarray:
    """Reads an array, of the machine's own byte order.

    Args:
        stream: at the beginning of the array; it need not go back.
        num_bytes: of all of it, with its header.

    Returns:
        The array, C-contiguous.

    Raises:
        ValueError: if it is no array of NumPy's, holds Python objects, is not as long as its header
            says, or would not fit into this machine's memory.
    """
    try:
        version = np.lib.format.read_magic(stream)
        if version not in _READ_HEADER:
            raise ValueError(f"format {version[0]}.{version[1]} of .npy")
        shape, is_fortran, dtype = _READ_HEADER[version](stream)
    except Exception as error:  # NumPy parses the header as Python: any error of a parser
        raise ValueError(f"no array of NumPy's: {_reason(error)}") from None
    if dtype.hasobject:
        raise ValueError(f"holds Python objects ({dtype}), which are not read; store numbers")
    needed, present = math.prod(shape) * dtype.itemsize, num_bytes - stream.tell()
    if min(shape, default=0) < 0 or needed != present:
        raise ValueError(f"{dtype} {shape} takes {needed:,} bytes, and {present:,} are there")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        raise ValueError(f"takes {needed:,} bytes, more than this machine's memory of {memory:,}")
    try:
        content = bytearray(needed)
        view, start = memoryview(content), 0
        while start < needed:
            part = stream.read(min(needed - start, 2**24))
            if not part:
                raise ValueError(f"ends after {start:,} of {needed:,} bytes")
            view[start : start + len(part)] = part
            start += len(part)
        stream.read(1)  # to the end: an archive's checksum is verified
    except Exception as error:  # the decompressors' own, zipfile's, and MemoryError
        raise ValueError(_reason(error)) from None
    array = np.frombuffer(content, dtype).reshape(shape, order="F" if is_fortran else "C")
    return np.ascontiguousarray(array).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def read_member(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """Reads an array of an .npz file.

    Args:
        archive: the file.
        name: of the array.

    Returns:
        As `read_npy`.

    Raises:
        ValueError: naming the array, if it cannot be read: damaged, cut, encrypted.
    """
    try:
        info = archive.getinfo(f"{name}.npy")
        with archive.open(info) as stream:
            return read_npy(stream, info.file_size)
    except Exception as error:  # zipfile's own, of several kinds
        raise ValueError(f"the array {name} cannot be read ({_reason(error)})") from None


def _reason(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
