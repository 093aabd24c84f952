"""TFRecord files and the tf.train.Example messages in them, read without TensorFlow.

A record is its length (8 bytes), the length's checksum (4), its data, and their checksum (4).  The
checksums are CRC-32C, rotated and shifted.  An Example is a protocol buffer: a map from names to
lists of bytes, floats or integers.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from typing import IO

import numpy as np

_POLYNOMIAL = 0x82F63B78
_CHUNK = 1 << 14
_SHORT = 64


def records(file: IO[bytes], where: str) -> Iterator[bytes]:
    """Yields a TFRecord file's records, each checked against its checksum.

    Args:
        file: open for reading.
        where: its name, for errors.

    Yields:
        The data of each record.

    Raises:
        ValueError: if a record is cut short or does not have its checksum.
    """
    number = 0
    while header := file.read(12):
        if len(header) < 12:
            raise ValueError(f"{where}: ends inside record {number}: the file is truncated")
        length, checksum = struct.unpack("<QI", header)
        if masked(crc32c(header[:8])) != checksum:
            raise ValueError(f"{where}: the length of record {number} is damaged")
        data, tail = file.read(length), file.read(4)
        if len(data) < length or len(tail) < 4:
            raise ValueError(f"{where}: ends inside record {number}: the file is truncated")
        if masked(crc32c(data)) != struct.unpack("<I", tail)[0]:
            raise ValueError(f"{where}: record {number} is damaged: its checksum does not fit")
        yield data
        number += 1


def parse_example(data: bytes) -> dict[str, list[bytes] | list[int]]:
    """Returns the features of a tf.train.Example that are bytes or integers.

    Args:
        data: the serialised message.

    Returns:
        Lists of bytes or of int, by name; features of floats are left out.

    Raises:
        ValueError: if it is no such message.
    """
    features: dict[str, list[bytes] | list[int]] = {}
    for message in _fields(data, 1):
        for entry in _fields(message, 1):
            name = b"".join(_fields(entry, 1)).decode()
            for feature in _fields(entry, 2):
                for values in _fields(feature, 1):
                    features[name] = _fields(values, 1)
                for values in _fields(feature, 3):
                    features[name] = _integers(values)
    return features


def crc32c(data: bytes) -> int:
    """Returns the CRC-32C (Castagnoli) of bytes.

    Args:
        data: of any length.

    Returns:
        In [0, 2**32).
    """
    state = 0xFFFFFFFF
    for start in range(0, len(data), _CHUNK):
        chunk = data[start : start + _CHUNK]
        if len(chunk) < _SHORT:
            for byte in chunk:
                state = state >> 8 ^ _byte_table()[(state ^ byte) & 0xFF]
            continue
        # The CRC is linear: a byte's share depends on its value and its distance from the end, and
        # the state before counts as if it were added to the first four bytes.
        values = np.frombuffer(chunk, np.uint8).copy()
        values[:4] ^= np.frombuffer(struct.pack("<I", state), np.uint8)
        shares = _tables()[-len(values) :].reshape(-1)
        places = np.arange(0, 256 * len(values), 256) + values
        state = int(np.bitwise_xor.reduce(shares[places]))
    return state ^ 0xFFFFFFFF


def masked(checksum: int) -> int:
    """Returns a checksum as TFRecord stores it."""
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


@functools.cache
def _byte_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return table


@functools.cache
def _tables() -> np.ndarray:
    """(_CHUNK, 256) uint32: what a byte adds to the CRC, by its distance from the last row."""
    first = np.array(_byte_table(), np.uint32)
    tables = np.empty((_CHUNK, 256), np.uint32)
    tables[-1] = first
    for row in range(_CHUNK - 2, -1, -1):
        after = tables[row + 1]
        tables[row] = after >> 8 ^ first[after & 0xFF]
    return tables


def _fields(data: bytes, number: int) -> list[bytes]:
    """Returns the fields of a message with a number that are messages, text or bytes."""
    fields, position = [], 0
    while position < len(data):
        tag, position = _varint(data, position)
        kind = tag & 7
        if kind == 0:
            _, position = _varint(data, position)
        elif kind in (1, 5):
            position += 8 if kind == 1 else 4
        elif kind == 2:
            length, position = _varint(data, position)
            if tag >> 3 == number:
                fields.append(data[position : position + length])
            position += length
        else:
            raise ValueError(f"not a tf.train.Example: a field of kind {kind}")
        if position > len(data):
            raise ValueError("not a tf.train.Example: it ends inside a field")
    return fields


def _integers(data: bytes) -> list[int]:
    """Returns an Int64List's values, packed or one field each."""
    packed, values, position = _fields(data, 1), [], 0
    if packed:
        for block in packed:
            position = 0
            while position < len(block):
                value, position = _varint(block, position)
                values.append(value)
    else:
        while position < len(data):
            _, position = _varint(data, position)
            value, position = _varint(data, position)
            values.append(value)
    return [value - (1 << 64) if value >> 63 else value for value in values]


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise ValueError("not a tf.train.Example: it ends inside a number")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
