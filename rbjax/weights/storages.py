"""Tensors as torch writes them: a part of a storage, with an offset and strides."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

_MOST_BYTES = 2**62

DTYPES: dict[str, np.dtype] = {
    "float64": np.dtype(np.float64),
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "int64": np.dtype(np.int64),
    "int32": np.dtype(np.int32),
    "int16": np.dtype(np.int16),
    "int8": np.dtype(np.int8),
    "uint64": np.dtype(np.uint64),
    "uint32": np.dtype(np.uint32),
    "uint16": np.dtype(np.uint16),
    "uint8": np.dtype(np.uint8),
    "bool": np.dtype(np.bool_),
    "complex128": np.dtype(np.complex128),
    "complex64": np.dtype(np.complex64),
    "float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8_e4m3fnuz": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
    "float8_e5m2fnuz": np.dtype(ml_dtypes.float8_e5m2fnuz),
    "float8_e8m0fnu": np.dtype(ml_dtypes.float8_e8m0fnu),
}
"""torch's name of a dtype -> NumPy's."""

STORAGES: dict[str, np.dtype] = {
    name: DTYPES[dtype]
    for name, dtype in {
        "DoubleStorage": "float64",
        "FloatStorage": "float32",
        "HalfStorage": "float16",
        "BFloat16Storage": "bfloat16",
        "LongStorage": "int64",
        "IntStorage": "int32",
        "ShortStorage": "int16",
        "CharStorage": "int8",
        "ByteStorage": "uint8",
        "BoolStorage": "bool",
        "ComplexDoubleStorage": "complex128",
        "ComplexFloatStorage": "complex64",
        "UntypedStorage": "uint8",
    }.items()
}
"""Name of a class of storages -> dtype of its elements."""

WIDTHS_OF_OTHERS = {
    "QInt8Storage": 1,
    "QUInt8Storage": 1,
    "QInt32Storage": 4,
    "QUInt4x2Storage": 1,
    "QUInt2x4Storage": 1,
    "ComplexHalfStorage": 4,
}
"""Likewise -> bytes of an element, of those that NumPy has no dtype for."""


class Storage(NamedTuple):
    """What a pickle says of a storage."""

    key: str
    dtype: np.dtype
    length: int
    """In elements."""
    start: int = 0
    """The first element, in the storage of that key: a view, before torch 1.6."""

    @property
    def num_bytes(self) -> int:
        """Returns how many bytes its elements take."""
        return self.length * self.dtype.itemsize


Contents = Callable[[Storage], tuple[np.ndarray, bool]]
"""Storage -> the bytes from its first element on, uint8 (N,), and whether they are big-endian."""


class View(NamedTuple):
    """A tensor: elements of a storage."""

    storage: Storage
    dtype: np.dtype
    offset: int
    """In elements, as the strides."""
    size: tuple[int, ...]
    strides: tuple[int, ...]
    is_conjugate: bool = False
    is_negative: bool = False

    def array(self, contents: Contents) -> np.ndarray:
        """Returns the tensor, in the file's own memory where it is stored as the machine wants it.

        Raises:
            ValueError: if it does not lie within its storage, or the storage not within the file.
        """
        stored, is_big_endian = contents(self.storage)
        num_bytes = self.storage.num_bytes
        if num_bytes > len(stored):
            raise ValueError(
                f"a storage of {num_bytes:,} bytes, of which the file has {len(stored):,}"
            )
        self._check(num_bytes // self.dtype.itemsize)
        stored = stored[:num_bytes]
        if is_big_endian:
            stored = _swapped(stored, self.dtype)
        width = self.dtype.itemsize
        array: np.ndarray = np.ndarray(
            self.size,
            self.dtype,
            stored,  # type: ignore[arg-type]  # an array is a buffer, too
            self.offset * width,
            tuple(stride * width for stride in self.strides),
        )
        if (self.is_conjugate or self.is_negative) and self.dtype.kind not in "fc":
            raise ValueError(f"{self.dtype} of which the conjugate or the negative is meant")
        array = np.conj(array) if self.is_conjugate else array
        return np.negative(array) if self.is_negative else array

    def _check(self, length: int) -> None:
        """Refuses what reaches outside of `length` elements."""
        what = f"size {self.size}, strides {self.strides}, offset {self.offset}"
        if len(self.size) != len(self.strides):
            raise ValueError(f"{what}: as many strides as axes are allowed")
        if min((*self.size, *self.strides, self.offset)) < 0:
            raise ValueError(f"{what}: a negative one")
        if len(self.size) > 32:
            raise ValueError(f"{len(self.size)} axes; at most 32 are read")
        furthest = sum((n - 1) * stride for n, stride in zip(self.size, self.strides, strict=True))
        end = self.offset + (furthest + 1 if all(self.size) else 0)
        if end > length:
            raise ValueError(f"{what}: ends at element {end:,} of a storage of {length:,}")
        if math.prod(n for n in self.size if n) * self.dtype.itemsize > _MOST_BYTES:
            raise ValueError(f"{what}: larger than any memory")


def _swapped(stored: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Returns bytes in the other byte order; a complex number is two numbers."""
    width = dtype.itemsize // (2 if dtype.kind == "c" else 1)
    whole = stored[: len(stored) // width * width]
    return whole.view(f"u{width}").byteswap().view(np.uint8)


def make_view(
    storage: Any, offset: Any, size: Any, strides: Any, *, dtype: Any = None, metadata: Any = None
) -> View:
    """Returns a tensor from the arguments of torch's `_rebuild_tensor`.

    Args:
        storage: a `Storage`.
        offset: the first element.
        size: of each axis, a tuple.
        strides: in elements, a tuple.
        dtype: None for the storage's own.
        metadata: a dict with "conj" and "neg" where those are still to be done, or None.

    Raises:
        ValueError: if one of them is of another type.
    """
    numbers = (offset, *size, *strides) if _is_tuple(size) and _is_tuple(strides) else (None,)
    if not isinstance(storage, Storage) or not all(type(number) is int for number in numbers):
        raise ValueError("a tensor that is not made of a storage and whole numbers")
    flags = metadata if isinstance(metadata, dict) else {}
    return View(
        storage,
        storage.dtype if dtype is None else dtype,
        offset,
        size,
        strides,
        is_conjugate=bool(flags.get("conj")),
        is_negative=bool(flags.get("neg")),
    )


def _is_tuple(value: Any) -> bool:
    return isinstance(value, tuple)
