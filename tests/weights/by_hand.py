"""Pickles and files that no library would write, put together by hand."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import Any, NamedTuple


class Named(NamedTuple):
    """A function or a class, by name."""

    module: str
    name: str


class Called(NamedTuple):
    """A call of it."""

    function: Named
    args: tuple[Any, ...]


class Stored(NamedTuple):
    """What stands in a file of torch's for a storage."""

    said: tuple[Any, ...]


def _opcodes(value: Any) -> bytes:
    if isinstance(value, Named):
        return f"c{value.module}\n{value.name}\n".encode()
    if isinstance(value, Called):
        return _opcodes(value.function) + _opcodes(value.args) + b"R"
    if isinstance(value, Stored):
        return _opcodes(value.said) + b"Q"
    if isinstance(value, bool) or value is None:
        return {True: b"\x88", False: b"\x89", None: b"N"}[value]
    if isinstance(value, int):
        content = value.to_bytes(16, "little", signed=True)
        return b"\x8a" + bytes([len(content)]) + content
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if isinstance(value, str):
        return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
    if isinstance(value, tuple):
        return b"(" + b"".join(map(_opcodes, value)) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(map(_opcodes, value)) + b"e"
    assert isinstance(value, dict)
    return b"}(" + b"".join(_opcodes(part) for pair in value.items() for part in pair) + b"u"


def dumps(value: Any) -> bytes:
    """Returns a pickle of plain values and the classes above."""
    return b"\x80\x02" + _opcodes(value) + b"."


def tensor(
    key: str = "0",
    *,
    storage: str = "FloatStorage",
    length: Any = 6,
    offset: Any = 0,
    size: Any = (2, 3),
    strides: Any = (3, 1),
    view: Any = (),
) -> Called:
    """Returns a tensor as torch writes it."""
    stored = Stored(("storage", Named("torch", storage), key, "cpu", length, *view))
    hooks = Called(Named("collections", "OrderedDict"), ())
    rebuild = Named("torch._utils", "_rebuild_tensor_v2")
    return Called(rebuild, (stored, offset, size, strides, False, hooks))


def write_zip(
    path: Path, saved: Any, storages: dict[str, bytes], *, order: str = "", compress: bool = False
) -> Path:
    """Writes a file as torch does since 1.6; `saved` may be a pickle already."""
    how = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", how) as archive:
        archive.writestr("archive/data.pkl", saved if isinstance(saved, bytes) else dumps(saved))
        if order:
            archive.writestr("archive/byteorder", order)
        for key, content in storages.items():
            archive.writestr(f"archive/data/{key}", content)
    return path


def write_legacy(path: Path, saved: Any, storages: dict[str, tuple[int, bytes]]) -> Path:
    """Writes a file as torch did before; a storage is a number of elements and their bytes."""
    machine = {"protocol_version": 1001, "little_endian": True}
    parts = [dumps(said) for said in (0x1950A86A20F9469CFC6C, 1001, machine, saved)]
    parts.append(dumps(list(storages)))
    parts += [struct.pack("<q", length) + content for length, content in storages.values()]
    path.write_bytes(b"".join(parts))
    return path
