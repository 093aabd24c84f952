"""Digests of prepared data that are mapped into memory, which no format checks as it is read.

A digest is a CRC-32 of a block of rows.  It differs for every single flipped bit, and for every
burst of up to 32 bits; zlib computes it at 0.25 s a GB on one core (SHA-256 takes 0.56, BLAKE2b
1.1).  A block is checked when it is first read in a process.
"""

from __future__ import annotations

import contextlib
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rbjax import atomic

BLOCK_BYTES = 2**18
"""Small, as a batch of a few shuffled images reads whole blocks the first time."""
_AT_ONCE = 2**26
"""Bytes; what is not larger is checked whole when it is opened, in about 0.02 s."""


def rows_per_block(image_shape: Sequence[int]) -> int:
    """Returns how many images a block has, at least 1."""
    return max(BLOCK_BYTES // int(np.prod(image_shape)), 1)


def of_blocks(images: np.ndarray, rows: int) -> list[int]:
    """Returns the digests of images, block by block.

    Args:
        images: (N, ...), C-contiguous, in memory or mapped.
        rows: of a block, at least 1; the last may have fewer.

    Returns:
        ceil(N / rows) integers in [0, 2^32).
    """
    starts = range(0, len(images), rows)
    return [zlib.crc32(np.ascontiguousarray(images[start : start + rows])) for start in starts]


class CheckedImages:
    """Images of a mapped file, each block of which is checked when it is first read."""

    dtype = np.dtype(np.uint8)

    def __init__(
        self, images: np.memmap, digests: Sequence[int], *, rows: int, path: Path, remedy: str
    ) -> None:
        """Keeps the digests; a file of at most 64 MiB is checked at once.

        Args:
            images: (N, H, W, C) uint8.
            digests: of its blocks, as from `of_blocks`.
            rows: of a block.
            path: of the file, for errors.
            remedy: what to do if it is damaged, for errors.

        Raises:
            ValueError: naming file and block, if one that is checked at once is damaged.
        """
        self.base = images
        self.shape = images.shape
        self._digests, self._rows = np.asarray(digests, np.uint32), rows
        self._unchecked = np.ones(len(self._digests), bool)
        self._path, self._remedy = path, remedy
        if images.nbytes <= _AT_ONCE:
            self.check(np.arange(len(self._digests)))

    def __len__(self) -> int:
        return len(self.base)

    def __getitem__(self, rows: Any) -> np.ndarray:
        numbers = np.arange(len(self))[rows]
        if self._unchecked.any():
            self.check(np.unique(numbers // self._rows))
        return np.asarray(self.base[rows])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)

    def check(self, blocks: np.ndarray) -> None:
        """Checks some blocks that were not checked yet; several threads may.

        Args:
            blocks: (M,) integers.

        Raises:
            ValueError: naming file and block, if one is damaged.
        """
        for block in blocks[self._unchecked[blocks]].tolist():
            start = block * self._rows
            content = self.base[start : start + self._rows]
            if zlib.crc32(np.ascontiguousarray(content)) != self._digests[block]:
                raise ValueError(
                    f"{self._path}: block {block} (images {start} to {start + len(content) - 1}) "
                    f"is damaged; {self._remedy}"
                )
            self._unchecked[block] = False


def seal(path: Path) -> None:
    """Keeps the digest of a whole file beside it, in <name>.crc32."""
    with atomic.replace(_seal(path)) as file:
        file.write(f"{_of_file(path):08x}\n".encode())


def is_intact(path: Path) -> bool:
    """Returns whether a file has the digest that is kept beside it; one without any gets it."""
    if not _seal(path).exists():
        print(f"{path}: made without a digest, which is made now, once", file=sys.stderr)
        with contextlib.suppress(OSError):
            seal(path)
        return True
    return _seal(path).read_bytes() == f"{_of_file(path):08x}\n".encode()


def _seal(path: Path) -> Path:
    return path.with_name(f"{path.name}.crc32")


def _of_file(path: Path) -> int:
    return zlib.crc32(np.memmap(path, np.uint8, mode="r"))
