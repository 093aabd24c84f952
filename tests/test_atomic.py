"""A file is the old one or the new one, and JSON has no NaN."""

import json
import math

import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import atomic


def test_json_goes_there_and_back(tmp_path):
    value = {
        "b": (1, np.float32(0.5), jnp.arange(2)),
        "a": [math.nan, -math.inf, None, True],
        3: np.int64(4),
    }
    atomic.write_json(tmp_path / "x.json", value)
    text = (tmp_path / "x.json").read_text()
    assert json.loads(text) == {"b": [1, 0.5, [0, 1]], "a": [None, None, None, True], "3": 4}
    assert text.index('"3"') < text.index('"a"') < text.index('"b"')


def test_floats_keep_their_bits(tmp_path):
    values = [0.1, 1 / 3, 5e-324, float(np.float32(0.1))]
    atomic.write_json(tmp_path / "x.json", values)
    assert json.loads((tmp_path / "x.json").read_text()) == values


def test_what_json_cannot_hold_is_refused(tmp_path):
    with pytest.raises(TypeError, match="object"):
        atomic.write_json(tmp_path / "x.json", {"a": object()})
    assert list(tmp_path.iterdir()) == []


def test_npz_goes_there_and_back(tmp_path):
    arrays = {"file": np.array([True, False]), "path": np.int64(3), "recall": jnp.linspace(0, 1, 3)}
    atomic.write_npz(tmp_path / "x.npz", **arrays)
    with np.load(tmp_path / "x.npz", allow_pickle=False) as read:
        assert set(read) == set(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(read[name], array)


def test_a_failure_midway_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "x.txt"
    path.write_bytes(b"old")

    def write_half():
        with atomic.replace(path) as file:
            file.write(b"new, but not all of it")
            file.flush()
            assert path.read_bytes() == b"old"
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write_half()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_replaces_the_old_file(tmp_path):
    path = tmp_path / "x.txt"
    path.write_bytes(b"old and longer")
    with atomic.replace(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]
