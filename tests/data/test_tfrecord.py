import io
import struct

import numpy as np
import pytest

from rbjax.data.tfrecord import _CHUNK, crc32c, masked, parse_example, records
from tests.data.examples import example, tfrecord


def test_the_checksum_is_castagnolis():
    assert crc32c(b"123456789") == 0xE3069283  # the check value of its definition
    assert crc32c(b"") == 0
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4
    assert crc32c(bytes(range(32))) == 0x46DD794E


def test_long_data_have_the_checksum_of_their_parts_in_turn():
    data = np.random.default_rng(0).integers(0, 256, 2 * _CHUNK + 70, np.uint8).tobytes()
    state = 0xFFFFFFFF
    for byte in data:  # the definition, bit by bit
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    assert crc32c(data) == state ^ 0xFFFFFFFF


def test_records_are_read_in_turn():
    content = [b"one", b"", b"three" * 40]
    assert list(records(io.BytesIO(tfrecord(content)), "file")) == content


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: c[:-1], "file: ends inside record 1: the file is truncated"),
        (lambda c: c[:30], "file: ends inside record 1"),
        (lambda c: c[:19] + b"x" + c[20:], "file: the length of record 1 is damaged"),
        (lambda c: c[:13] + b"x" + c[14:], "file: record 0 is damaged"),
    ],
)
def test_damage_is_named(damage, message):
    content = damage(tfrecord([b"one", b"two" * 30]))
    with pytest.raises(ValueError, match=message):
        list(records(io.BytesIO(content), "file"))


def test_an_example_as_tensorflow_writes_it():
    data = example({"B1": [b"\x00\xff" * 200], "label": [3], "minus": [-1, 300]})
    assert parse_example(data) == {"B1": [b"\x00\xff" * 200], "label": [3], "minus": [-1, 300]}


@pytest.mark.parametrize("data", [b"\x0a\x05ab", b"\x0b", b"\x0a"])
def test_what_is_no_example(data):
    with pytest.raises(ValueError, match=r"not a tf\.train\.Example"):
        parse_example(data)


def test_the_mask_is_undone_by_its_inverse():
    stored = masked(0x12345678)
    turned = (stored - 0xA282EAD8) & 0xFFFFFFFF
    assert (turned >> 17 | turned << 15) & 0xFFFFFFFF == 0x12345678
    assert struct.pack("<I", stored)
