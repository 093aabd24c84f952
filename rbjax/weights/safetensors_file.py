"""Hugging Face's safetensors: a header of JSON, and the tensors in a row."""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Mapping
from typing import IO, Any

import numpy as np

from rbjax.errors import spelled
from rbjax.weights.storages import DTYPES
from rbjax.weights.tree import Weights

_LONGEST_HEADER = 100_000_000
METADATA = "__metadata__"
_NAMES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2": "float8_e5m2",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
}


def is_safetensors(memory: mmap.mmap) -> bool:
    """Returns whether a file begins as a safetensors file does."""
    return memory[8:9] == b"{" and int.from_bytes(memory[:8], "little") <= _LONGEST_HEADER


def read_safetensors(memory: mmap.mmap) -> Weights:
    """Reads a safetensors file.

    Args:
        memory: the file.

    Returns:
        The tensors in the file's order, and its metadata as `__metadata__.<key>`.

    Raises:
        ValueError: if it is damaged, or says what is not so; as the format demands, the tensors
            fill the file without gaps and overlaps.

    Source: https://huggingface.co/docs/safetensors, "Format".
    """
    start = 8 + int.from_bytes(memory[:8], "little")
    if start > len(memory):
        raise ValueError(f"a header of {start - 8:,} bytes in a file of {len(memory):,}")
    try:
        header = json.loads(memory[8:start], object_pairs_hook=_once_each)
    except RecursionError:
        raise ValueError("damaged header: nested too deep") from None
    except ValueError as error:
        raise ValueError(f"damaged header: {error}"[:200]) from None
    metadata = header.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError(f"{METADATA} is no dict of text")
    tensors: dict[str, np.ndarray] = {}
    end = 0
    for name, begin, stop, dtype, shape in sorted(
        (_entry(name, said) for name, said in header.items()), key=lambda entry: entry[1:3]
    ):
        if begin != end or start + stop > len(memory):
            raise ValueError(
                f"{spelled(name)}: lies at {begin:,} to {stop:,}; the tensor before it ends at "
                f"{end:,}, the file at {len(memory) - start:,}"
            )
        tensors[name] = np.ndarray(shape, dtype, memory, start + begin)  # type: ignore[arg-type]
        end = stop
    if start + end != len(memory):
        raise ValueError(f"has {len(memory) - start - end:,} bytes that belong to no tensor")
    return Weights(tensors, {f"{METADATA}.{key}": text for key, text in metadata.items()}, ())


def write_safetensors(
    file: IO[bytes], tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Writes a safetensors file.

    Args:
        file: opened for writing.
        tensors: name -> array of a dtype that the format has, of any byte order.
        metadata: key -> text.

    Raises:
        ValueError: naming the tensor, for another dtype, or a tensor called `__metadata__`.

    Source: https://huggingface.co/docs/safetensors, "Format". As Hugging Face's own writer has it,
    tensors of wide elements come first, and the header is padded to a multiple of 8 bytes.
    """
    words = {DTYPES[name]: word for word, name in _NAMES.items()}
    header: dict[str, Any] = {METADATA: dict(metadata)}
    names = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    end = 0
    for name in names:
        dtype, shape = tensors[name].dtype.newbyteorder("="), tensors[name].shape
        if name == METADATA or dtype not in words:
            raise ValueError(f"{spelled(name)}: safetensors has no tensor of this name, or {dtype}")
        begin, end = end, end + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": words[dtype], "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > _LONGEST_HEADER:
        raise ValueError(f"a header of {len(text):,} bytes; at most {_LONGEST_HEADER:,}")
    file.write(len(text).to_bytes(8, "little") + text)
    for name in names:
        array = np.ascontiguousarray(tensors[name])
        file.write(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a name stands twice")
    return made


def _entry(name: str, said: Any) -> tuple[str, int, int, np.dtype, tuple[int, ...]]:
    """Returns name, first byte, end, dtype and shape of a tensor."""
    fields = ("dtype", "shape", "data_offsets")
    if not isinstance(said, dict) or any(field not in said for field in fields):
        raise ValueError(f"{spelled(name)}: lacks one of {', '.join(fields)}")
    word, shape, offsets = (said[field] for field in fields)
    if not isinstance(word, str) or word not in _NAMES:
        raise ValueError(f"{spelled(name)}: dtype is {word!r:.50}; allowed: {', '.join(_NAMES)}")
    if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2 or len(shape) > 32:
        raise ValueError(
            f"{spelled(name)}: shape {shape!r:.50}, data_offsets {offsets!r:.50}; allowed: whole "
            "numbers from 0, at most 32 and two"
        )
    dtype = DTYPES[_NAMES[word]]
    needed = math.prod(shape) * dtype.itemsize
    if offsets[1] - offsets[0] != needed:
        raise ValueError(
            f"{spelled(name)}: {word} {tuple(shape)} takes {needed:,} bytes, and data_offsets "
            f"{offsets[0]:,} to {offsets[1]:,} are {offsets[1] - offsets[0]:,}"
        )
    return name, offsets[0], offsets[1], dtype, tuple(shape)


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 2**62 for n in value)
