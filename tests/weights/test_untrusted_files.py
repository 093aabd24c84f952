"""Files that call something are read without calling it; files that lie are refused by name."""

import contextlib
import json
import pickle
import random
import struct
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from rbjax import weights
from tests.weights import by_hand
from tests.weights.by_hand import Called, Named, Stored, tensor

FILES = Path(__file__).parent / "files"
SIX = np.arange(6.0, dtype=np.float32).tobytes()
MARKER = """
import pathlib

def write(path):
    pathlib.Path(path).write_text("called")

class Builds:
    def __init__(self, path):
        self.path = path
    def __setstate__(self, state):
        write(state["path"])

class New(tuple):
    def __new__(cls, path):
        write(path)
        return tuple.__new__(cls, (path,))
    def __getnewargs__(self):
        return (self[0],)

class Reduces:
    def __init__(self, path):
        self.path = path
    def __reduce__(self):
        return write, (self.path,)
"""


@pytest.fixture
def marks(tmp_path, monkeypatch):
    """A module whose functions write a file when they are called."""
    (tmp_path / "rbjax_marks.py").write_text(MARKER)
    monkeypatch.syspath_prepend(tmp_path)
    import rbjax_marks  # pyright: ignore[reportMissingImports]

    yield rbjax_marks
    del sys.modules["rbjax_marks"]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    ("kind", "name"), [("Reduces", "write"), ("Builds", "Builds"), ("New", "New")]
)
def test_nothing_is_called(marks, tmp_path, kind, name, protocol):
    marker = tmp_path / "marker"
    content = pickle.dumps({"a": getattr(marks, kind)(str(marker)), "b": 1}, protocol)
    marker.unlink(missing_ok=True)
    path = by_hand.write_zip(tmp_path / "a.pt", content, {})
    read = weights.read(path)
    assert not marker.exists()
    assert read.others.pop("b") == 1
    assert read.tensors == {}
    assert read.skipped == (f"a: rbjax_marks.{name}",)
    pickle.loads(content)
    is_called = kind != "New" or protocol > 1  # where Python's own tuple makes it
    assert marker.exists() == is_called


@pytest.mark.parametrize("opcodes", ["(irbjax_marks\nwrite\n", "(crbjax_marks\nwrite\nVPATH\no"])
def test_old_opcodes_call_nothing_either(marks, tmp_path, opcodes):
    marker = tmp_path / "marker"
    if opcodes.startswith("(i"):
        opcodes = f"(VPATH\n{opcodes[1:]}"
    content = opcodes.replace("PATH", str(marker)).encode() + b"."
    pickle.loads(content)
    assert marker.exists()
    marker.unlink()
    path = by_hand.write_zip(tmp_path / "a.pt", content, {})
    assert weights.read(path).skipped == ("rbjax_marks.write",)
    assert not marker.exists()


def test_nothing_is_imported(tmp_path, monkeypatch):
    (tmp_path / "rbjax_writes.py").write_text("open(__file__ + '.marker', 'w').close()")
    monkeypatch.syspath_prepend(tmp_path)
    saved = {"a": Named("rbjax_writes", "anything"), "b": Called(Named("rbjax_writes", "f"), ())}
    read = weights.read(by_hand.write_zip(tmp_path / "a.pt", saved, {}))
    assert read.skipped == ("a: rbjax_writes.anything", "b: rbjax_writes.f")
    assert "rbjax_writes" not in sys.modules
    assert not list(tmp_path.glob("*.marker"))


def test_calls_whose_result_is_thrown_away_are_named(tmp_path):
    call = by_hand.dumps(Called(Named("os", "system"), ("true",)))[:-1]
    path = by_hand.write_zip(tmp_path / "a.pt", call + b"0" + by_hand.dumps({"b": 2})[2:], {})
    assert weights.read(path) == ({}, {"b": 2}, ("os.system",))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"length": 7}, "takes 28 bytes, and data/0 has 24"),
        ({"length": 5}, "takes 20 bytes, and data/0 has 24"),
        ({"length": 10**30}, "and data/0 has 24"),
        ({"length": -1}, "-1 elements"),
        ({"storage": "DoubleStorage"}, "takes 48 bytes"),
        ({"offset": 1}, "ends at element 7 of a storage of 6"),
        ({"offset": -1}, "a negative one"),
        ({"strides": (-3, 1)}, "a negative one"),
        ({"size": (2, -3)}, "a negative one"),
        ({"strides": (3, 2)}, "ends at element 8"),
        ({"size": (10**12, 10**12)}, "of a storage of 6"),
        ({"size": (10**12, 10**12), "strides": (0, 0)}, "larger than any memory"),
        ({"size": (0, 2**62), "strides": (0, 0)}, "larger than any memory"),
        ({"size": (2**63,), "strides": (0,)}, "larger than any memory"),
        ({"size": (6,)}, "as many strides as axes"),
        ({"size": (1,) * 40, "strides": (1,) * 40}, "at most 32"),
        ({"size": "ab"}, "whole numbers"),
        ({"offset": True}, "whole numbers"),
        ({"key": "1"}, "the file has no data/1"),
    ],
)
def test_a_tensor_that_does_not_fit_its_storage(tmp_path, changes, message):
    saved = {"layer": {"good": tensor(), "weight": tensor(**changes)}}
    path = by_hand.write_zip(tmp_path / "a.pt", saved, {"0": SIX})
    with pytest.raises(ValueError, match=r"a\.pt: 'layer\.weight': ") as caught:
        weights.read(path)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "stored", "message"),
    [
        ({}, (7, SIX), "begins with 7 elements"),
        ({"length": 7}, (7, SIX), "24 bytes are left"),
        ({"length": 2**60}, (2**60, SIX), "24 bytes are left"),
        ({}, (-6, SIX), "begins with -6 elements"),
        ({"view": (("b", 3, 4),)}, (6, SIX), "to 7 of 6"),
        ({"view": (("b", -3, 4),)}, (6, SIX), "two whole numbers"),
        ({"key": "c"}, (6, SIX), "unknown type"),
    ],
)
def test_a_legacy_file_that_lies(tmp_path, changes, stored, message):
    path = by_hand.write_legacy(tmp_path / "a.pt", {"w": tensor(**changes)}, {"0": stored})
    with pytest.raises(ValueError, match=r"a\.pt: 'w': ") as caught:
        weights.read(path)
    assert message in str(caught.value)


def test_an_entry_of_another_size_than_the_archive_says(tmp_path):
    path = by_hand.write_zip(tmp_path / "a.pt", {"w": tensor()}, {"0": SIX}, compress=True)
    content = bytearray(path.read_bytes())
    start = content.rindex(b"PK\x01\x02")
    for size in (5, 25, 2**31):
        content[start + 24 : start + 28] = struct.pack("<I", size)
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.pt: 'w': data/0 "):
            weights.read(path)


def test_a_flipped_bit_is_seen(tmp_path):
    path = by_hand.write_zip(tmp_path / "a.pt", {"w": tensor()}, {"0": SIX})
    content = bytearray(path.read_bytes())
    content[content.index(SIX) + 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"'w': data/0 is damaged: its checksum differs"):
        weights.read(path)


def safetensors(path: Path, header: object, content: bytes = SIX) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content)
    return path


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"data_offsets": [0, 28]}, "are 28"),
        ({"shape": [7], "data_offsets": [0, 28]}, "the file at 24"),
        ({"data_offsets": [4, 28]}, "tensor before it ends at 0"),
        ({"data_offsets": [24, 0]}, "are -24"),
        ({"shape": [-6]}, "whole numbers"),
        ({"shape": [10**20]}, "whole numbers"),
        ({"shape": [5], "data_offsets": [0, 20]}, "4 bytes that belong to no tensor"),
        ({"dtype": "F12"}, "allowed: F64"),
        ({"shape": "6"}, "whole numbers"),
    ],
)
def test_a_safetensors_file_that_lies(tmp_path, entry, message):
    said = {"dtype": "F32", "shape": [6], "data_offsets": [0, 24]} | entry
    with pytest.raises(ValueError, match=r"a\.pt: ") as caught:
        weights.read(safetensors(tmp_path / "a.pt", {"w": said}))
    assert message in str(caught.value)
    assert "'w': " in str(caught.value) or "belong to no" in message


@pytest.mark.parametrize("second", [[0, 24], [12, 36], [28, 52]])
def test_safetensors_that_overlap_or_leave_a_gap(tmp_path, second):
    said = {"dtype": "F32", "shape": [6]}
    header = {"a": said | {"data_offsets": [0, 24]}, "b": said | {"data_offsets": second}}
    with pytest.raises(ValueError, match="the tensor before it ends at 24"):
        weights.read(safetensors(tmp_path / "a", header, bytes(second[1])))


def test_a_safetensors_header_that_lies(tmp_path):
    good = b'{"dtype":"F32","shape":[6],"data_offsets":[0,24]}'
    twice = b'{"w":' + good + b',"w":' + good + b"}"
    for header, message in [
        (twice, "a name stands twice"),
        (b"{", "damaged header"),
        (b'{"a":' + b"[" * 100_000, "damaged header"),
        ({"w": 3}, "'w': lacks one of dtype"),
        ({"__metadata__": {"a": 1}}, "no dict of text"),
    ]:
        with pytest.raises(ValueError, match=message):
            weights.read(safetensors(tmp_path / "a", header))
    long = struct.pack("<Q", 10**6) + b"{}"
    (tmp_path / "a").write_bytes(long)
    with pytest.raises(ValueError, match="a header of 1,000,000 bytes in a file of 10"):
        weights.read(tmp_path / "a")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        (b"\x1f\x8b\x08", "gzip"),
        (bytes(257) + b"ustar" + bytes(300), "tar file"),
        (b"weights", "is no file of weights"),
        (b"PK\x03\x04", "damaged or cut zip"),
        (b"\x80\x02X\xff\xff\xff\xff", "damaged pickle, before byte 7"),
        (b"\x80\x02R.", "it takes what was never given"),
        (b"\x80\x02]]R.", "arguments that are no tuple"),
    ],
)
def test_what_is_no_file_of_weights(tmp_path, content, message):
    path = tmp_path / "a.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.pt: ") as caught:
        weights.read(path)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_other_archives_and_missing_files(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("notes.txt", "nothing")
    with pytest.raises(ValueError, match=r"without the one data\.pkl"):
        weights.read(tmp_path / "a.zip")
    with pytest.raises(ValueError, match=r"none\.pt: cannot be read \(No such file"):
        weights.read(tmp_path / "none.pt")


def _nested(depth: int) -> bytes:
    return b"\x80\x02" + b"(" * depth + b"t" * depth + b"."


def _doubled(times: int) -> bytes:
    """Lists that hold the one before ten times."""
    opcodes = [b"]q\x00"]
    for number in range(times):
        opcodes += [b"](", bytes((ord("h"), number)) * 10, b"e", bytes((ord("q"), number + 1))]
    return b"\x80\x02" + b"".join(opcodes) + b"."


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_nested(20_000), "nested more than 100 deep"),
        (b"\x80\x02}" + _nested(20_000)[2:-1] + b"K\x01s.", None),  # as a key: its hash recurses
        (_doubled(30), "values, each counted as often"),
        (by_hand.dumps({"1": 1, 1: 2}), "two keys are spelled '1'"),
        (by_hand.dumps({"a": {"b": 1}, "a.b": 2}), "'a.b': two values of this name"),
        (b"\x80\x02Nr\xff\xff\xff\xff.", None),  # the memo's place 2^32 - 1
        (by_hand.dumps({"x": tensor(length=2**61, size=(2**61,), strides=(1,))}), "no bytes"),
    ],
)
def test_small_files_take_little_memory(tmp_path, content, message):
    path = tmp_path / "a.pt"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        if message is None:
            weights.read(path)
        else:
            with pytest.raises(ValueError, match=r"a\.pt: ") as caught:
                weights.read(path)
            assert message in str(caught.value)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


def test_what_holds_itself_is_taken_once(tmp_path):
    itself: dict[str, object] = {"a": 1}
    itself["itself"] = itself
    (tmp_path / "a").write_bytes(pickle.dumps(itself))
    assert weights.read(tmp_path / "a") == ({}, {"a": 1}, ())


def test_arrays_and_numbers_of_numpy(tmp_path):
    saved = {"a": np.arange(6.0).reshape(2, 3).T, "n": np.int64(3), "o": np.array([None])}
    saved |= {"b": np.arange(3, dtype=">i2"), "f": np.asfortranarray(np.ones((2, 3)))}
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        (tmp_path / "a").write_bytes(b"\x80\x02" * (protocol < 2) + pickle.dumps(saved, protocol))
        read = weights.read(tmp_path / "a")
        assert read.others["n"] == 3
        assert type(read.others["n"]) is int
        assert any(skipped.startswith("o: numpy") for skipped in read.skipped)
        for name in "abf":
            array = saved[name]
            assert isinstance(array, np.ndarray)
            assert read.tensors[name].dtype == array.dtype.newbyteorder("=")
            np.testing.assert_array_equal(read.tensors[name], array)


def test_a_numpy_array_that_lies(tmp_path):
    good = pickle.dumps({"a": np.arange(6.0)}, 2)
    assert good.count(b"K\x06\x85") == 1
    (tmp_path / "a").write_bytes(good.replace(b"K\x06\x85", b"K\x07\x85"))
    with pytest.raises(ValueError, match=r"'a': a NumPy array float64 \(7,\), whose bytes do not"):
        weights.read(tmp_path / "a")


def test_a_storage_of_another_kind_is_skipped(tmp_path):
    stored = Stored(("storage", Named("torch", "QInt8Storage"), "0", "cpu", 6))
    call = Called(Named("torch._utils", "_rebuild_qtensor"), (stored, 0, (6,), (1,)))
    saved = {"q": call, "w": tensor("1")}
    path = by_hand.write_legacy(tmp_path / "a", saved, {"0": (6, bytes(6)), "1": (6, SIX)})
    read = weights.read(path)
    assert read.skipped == ("q: torch._utils._rebuild_qtensor",)
    assert read.tensors["w"].tobytes() == SIX


@pytest.mark.parametrize("file", sorted(path.name for path in FILES.iterdir()))
def test_damaged_files_are_read_or_refused(tmp_path, file):
    whole, path = (FILES / file).read_bytes(), tmp_path / file
    draw = random.Random(0)
    for number in range(150):
        content = bytearray(whole)
        if number % 3 == 0:
            del content[draw.randrange(len(content)) :]
        for _ in range(draw.randrange(1, 4)):
            if content:
                content[draw.randrange(len(content))] = draw.randrange(256)
        path.write_bytes(content)
        with contextlib.suppress(ValueError):
            for tensor in weights.read(path).tensors.values():
                tensor[(slice(1),) * tensor.ndim].tobytes()


def test_bytes_are_read_once_however_often_they_are_used(tmp_path):
    saved = {str(number): tensor() for number in range(100)}
    path = by_hand.write_zip(tmp_path / "a.pt", saved, {"0": SIX}, compress=True)
    tensors = list(weights.read(path).tensors.values())
    assert all(np.shares_memory(tensors[0], other) for other in tensors)
