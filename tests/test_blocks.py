"""What every loop over a dataset has in common: each row once, whatever the blocks are."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from rbjax import blocks
from rbjax.attacks import passes
from rbjax.blocks import Block, Blocks, Examples, Placement, cut, map_blocks
from rbjax.journal import HEADER, Journal
from tests import shared_blocks
from tests.rpr import known

N = 60
IMAGES = np.random.default_rng(0).integers(0, 256, (N, 4, 4, 1), np.uint8)
EXAMPLES = Examples(IMAGES, np.arange(N, dtype=np.int32) % 3, np.arange(N, dtype=np.int32), 3)


def squares(block: Block, _: object) -> dict[str, Any]:
    filled = block.padded
    np.testing.assert_array_equal(filled, block.fill(block.rows))
    return {
        "square": filled**2,
        "pair": np.stack([filled, -filled], 1),
        "rows": np.int64(len(filled)),
    }


@pytest.mark.parametrize("size", [1, 7, 60, 100])
def test_each_row_once(size):
    rows = np.random.default_rng(1).permutation(N)
    results = map_blocks(squares, cut(rows, size))
    np.testing.assert_array_equal(results["square"], rows**2)
    np.testing.assert_array_equal(results["pair"], np.stack([rows, -rows], 1))
    np.testing.assert_array_equal(results["rows"], np.full(-(-N // size), size))


def test_small_blocks_at_the_end():
    """Every row once, in few sizes, none of them filled less than three quarters if avoidable."""
    size = blocks.block_size(1000, 64, Placement(jax.local_devices()[:2]))
    assert passes.halves(size) == [32, 16, 8]
    assert passes.halves(1000) == [504, 256, 128]
    assert passes.halves(5) == []
    for count in (0, 1, 5, 47, 63, 64, 65, 200, 1000):
        parts = cut(np.arange(count), size, smaller=[32, 16, 8])
        np.testing.assert_array_equal(
            np.concatenate([[], *(part.rows for part in parts)]), np.arange(count)
        )
        assert {part.size for part in parts} <= {64, 32, 16, 8}
        assert sum(part.size for part in parts) <= count * 4 / 3 + 8
        assert all(np.array_equal(np.arange(count)[part.places], part.rows) for part in parts)


def test_any_number_of_devices_has_the_same_blocks():
    """So that what a journal keeps of them can be gone on with on another machine."""
    cuts = []
    for num_devices in (1, 3, 8):
        placement = Placement(jax.local_devices()[:num_devices])
        size = blocks.block_size(N, 10, placement)
        work = blocks.Blocks(EXAMPLES, placement, size)
        cuts.append(work.cut(np.arange(N), name="a", smaller=passes.halves(size)))
        assert all(block.size % num_devices == 0 for block in cuts[-1])
    for other in cuts[1:]:
        assert [(b.name, b.places) for b in other] == [(b.name, b.places) for b in cuts[0]]


def test_a_size_that_nobody_asked_for_is_the_journals(tmp_path):
    placement = Placement(jax.local_devices()[:2])
    assert blocks.block_size(1000, None, placement, tmp_path) == 128
    Journal(tmp_path, {"batch_size": 24})
    assert blocks.block_size(1000, None, placement, tmp_path) == 24
    assert blocks.block_size(1000, 64, placement, tmp_path) == 64
    (tmp_path / HEADER).write_text("{")
    assert blocks.block_size(1000, None, placement, tmp_path) == 128


@pytest.mark.parametrize("num_devices", [1, 8])
@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float64])
def test_images_of_a_block(num_devices, dtype):
    """Float32 in [0, 1], over the devices, the last image repeated; what is not asked for stays."""
    scale = 1 if dtype == np.uint8 else 255
    examples = EXAMPLES._replace(images=(IMAGES / scale).astype(dtype))
    placement = Placement(jax.local_devices()[:num_devices])
    seen = []

    def ask(block, images):
        seen.append((block.padded, images))
        return {"images": images, "predictions": EXAMPLES.labels[block.padded] * 0}

    told = []
    whole = Blocks(examples, placement, 24, tell=told.append).map(ask, task="ask")
    expected = IMAGES / np.float32(255) if dtype == np.uint8 else examples.images.astype(np.float32)
    np.testing.assert_array_equal(whole["images"], expected)
    assert all(images.sharding.device_set == {*placement.devices} for _, images in seen)
    assert seen[2][0].tolist() == [*range(48, 60), *[59] * 12]
    assert [state[:3] for state in told] == [("ask", done, N) for done in (0, 24, 48, 60)]
    assert told[-1].figures == {"robust": 20}


def test_what_is_read():
    """One block ahead, neighbours as a slice, and values outside [0, 1] are refused."""
    asked = []

    class Source:
        shape, dtype = IMAGES.shape, IMAGES.dtype

        def __len__(self):
            return N

        def __getitem__(self, rows):
            asked.append(rows)
            return IMAGES[rows]

    examples = EXAMPLES._replace(images=Source())
    np.testing.assert_array_equal(examples.read(np.arange(5, 9)), IMAGES[5:9])
    np.testing.assert_array_equal(examples.read(np.array([3, 5, 4])), IMAGES[[3, 5, 4]])
    np.testing.assert_array_equal(examples.read(np.array([3, 5, 5])), IMAGES[[3, 5, 5]])
    assert [type(rows) for rows in asked] == [slice, np.ndarray, np.ndarray]
    bright = IMAGES.astype(np.float32) / 254
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        Blocks(EXAMPLES._replace(images=bright), Placement(), 16).map(lambda *_: {})


def test_a_journal(tmp_path):
    """Finished blocks are neither read nor computed again; damaged and incomplete ones are."""
    parts, computed, read = cut(np.arange(N), 16, name="a"), [], []

    def run(fields=None, finished=None):
        computed.clear()
        read.clear()

        def function(block, loaded):
            computed.append(block.name)
            odd = block.rows[block.rows % 2 == 1]
            return {"square": block.rows**2, "odd": odd, "count": np.int32(len(odd))}

        return map_blocks(
            function,
            parts,
            read=lambda block: read.append(block.name),
            journal=Journal(tmp_path, {}),
            fields=fields,
            finished=finished,
        )

    told = []
    first = run(
        ("square", "count"), lambda block, results: told.append((block.name, len(results["odd"])))
    )
    assert set(first) == {"square", "count"}
    assert told == [(block.name, len(block.rows) // 2) for block in parts]
    assert computed == read == [block.name for block in parts]
    (tmp_path / f"{parts[1].name}.npz").write_bytes(b"")
    Journal(tmp_path, {}).write_block(parts[2].name, square=np.arange(3), count=0)
    Journal(tmp_path, {}).write_block(parts[3].name, square=parts[3].rows)
    again = run(("square", "count"))
    assert computed == read == [block.name for block in parts[1:]]
    for name, values in first.items():
        np.testing.assert_array_equal(again[name], values)
    run(("square", "count"))
    assert computed == read == []


def test_two_processes_share_the_blocks(tmp_path):
    """Each computes its own blocks and returns the results of all, those of one process alone."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    script, environment = Path(shared_blocks.__file__), {**os.environ, "XLA_FLAGS": ""}
    processes = [
        subprocess.Popen([sys.executable, script, str(i), str(port), tmp_path], env=environment)
        for i in range(2)
    ]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    with pytest.MonkeyPatch.context() as patch:
        for name in ("NUM_STEPS", "NUM_QUERIES", "STRETCHES", "VERSIONS"):
            patch.setattr(passes, name, getattr(passes, name))
        expected = shared_blocks.run(None)
    assert len(list((tmp_path / "attacks").glob("*-block-*.npz"))) == 2 * 4
    assert len(list((tmp_path / "corruptions").glob("*-block-*.npz"))) == 2 * 4
    assert len(list((tmp_path / "scores").glob("*-block-*.npz"))) == 7
    assert 0 < expected["robust"].sum() < shared_blocks.NUM
    for number, own in enumerate([32, 28]):
        with np.load(tmp_path / f"{number}.npz") as results:
            assert set(results["told"]) == {own}
            for name in expected.keys() - {"told"}:
                np.testing.assert_array_equal(results[name], expected[name], err_msg=name)
                assert results[name].dtype == expected[name].dtype
    # The journal of two processes serves one.
    again = known.score(known.MIXED, block_size=32, journal=tmp_path / "scores")
    np.testing.assert_array_equal(again.first_failure, expected["scores.first_failure"])
