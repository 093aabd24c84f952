"""Blocks, the journal, and runs that are killed."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import signal
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from rbjax import atomic, journal, rpr, stops
from rbjax.errors import StoppedError
from rbjax.rpr import lanes
from tests.rpr import resumed
from tests.rpr.known import KEY, LOGITS_FN, MIXED, make_images, redraw, score, threshold


class KilledError(Exception):
    """Stands for a signal."""


def test_blocks_do_not_matter():
    expected = score(MIXED)
    one_by_one = score(MIXED[:5], block_size=1)
    np.testing.assert_array_equal(one_by_one.first_failure, expected.first_failure[:5])
    for block_size in (32, 203, 4096):
        scores = score(MIXED, block_size=block_size)
        np.testing.assert_array_equal(scores.first_failure, expected.first_failure)
        np.testing.assert_array_equal(scores.clean_correct, expected.clean_correct)


def test_a_memory_map_is_read_block_by_block(tmp_path):
    images = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (203, 1, 1, 2))
    images[:] = make_images(MIXED)
    read = []

    class Source:
        shape, dtype = images.shape, images.dtype

        def __len__(self):
            return len(images)

        def __getitem__(self, rows):
            found = images[rows]
            read.append(len(found))
            return found

    arguments = {"max_steps": 20, "perturbation": redraw, "block_size": 50}
    labels = np.zeros(203, int)
    from_map = rpr.score(LOGITS_FN, KEY, images, labels, **arguments)
    from_source = rpr.score(LOGITS_FN, KEY, Source(), labels, **arguments)
    expected = score(MIXED).first_failure
    np.testing.assert_array_equal(from_map.first_failure, expected)
    np.testing.assert_array_equal(from_source.first_failure, expected)
    assert max(read) == 50
    assert sum(read) == 203


@pytest.mark.parametrize("options", [{}, {"stop": rpr.Flattening(window=4, tolerance=0.01)}])
def test_interrupted_at_every_look(tmp_path, monkeypatch, options):
    """Whenever it stops, it goes on: no image lost, none scored again, the same passes run."""
    monkeypatch.setattr(journal, "_SECONDS_BETWEEN_SAVES", 0.0)
    monkeypatch.setattr(lanes, "_SECONDS_PER_DISPATCH", 0.0)
    options = {"batch_size": 8, "block_size": 20, **options}
    looks = []
    unbroken = score(MIXED[:48], progress=looks.append, **options)
    assert len(looks) > 30
    for survives in (0, 7):
        folder, passes, scores, num_runs = tmp_path / f"after-{survives}", [0], None, 0
        while scores is None:
            scores, num_runs = _interrupted(folder, survives, passes, options), num_runs + 1
            assert num_runs <= len(looks)
        assert num_runs > 1
        assert len(passes) - 1 == len({look.figures["passes"] for look in looks})
        assert scores.forward_passes_run == unbroken.forward_passes_run
        for one, other in zip(scores, unbroken, strict=True):
            np.testing.assert_array_equal(one, other)


def _interrupted(folder, survives, passes, options):
    """Scores until it has gone so many steps further; returns the scores if that was enough."""
    enough = len(passes) + survives

    def progress(state):
        if state.figures["passes"] > passes[-1]:
            passes.append(state.figures["passes"])
        if len(passes) > enough:
            raise KilledError

    try:
        return score(MIXED[:48], progress=progress, journal=folder, **options)
    except KilledError:
        return None


def test_interrupted_repetitions(tmp_path):
    options = {"scorer": rpr.score_repeatedly, "repetitions": 4, "max_width": 0.5}
    unbroken = score(MIXED, **options)
    done = []

    def progress(state):
        done.append(state.done)
        if len(done) == 5:
            raise KilledError

    with pytest.raises(KilledError):
        score(MIXED, journal=tmp_path / "j", progress=progress, **options)
    resumed = score(MIXED, journal=tmp_path / "j", **options)
    for one, other in zip(resumed, unbroken, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_damaged_block_is_scored_again(tmp_path):
    expected = score(MIXED, block_size=64, journal=tmp_path)
    blocks = sorted(tmp_path.glob("*block*.npz"))
    assert len(blocks) == 4
    blocks[0].write_bytes(blocks[0].read_bytes()[:-20])
    blocks[1].write_bytes(b"")
    blocks[2].unlink()
    again = score(MIXED, block_size=64, journal=tmp_path)
    np.testing.assert_array_equal(again.first_failure, expected.first_failure)


def test_another_run_is_refused(tmp_path):
    score(MIXED, journal=tmp_path / "j")
    before = {file.name: file.read_bytes() for file in (tmp_path / "j").iterdir()}
    changes = {
        "max_steps": {"max_steps": 7},
        "stop": {"stop": rpr.Flattening()},
        "block_size": {"block_size": 10},
        "num_images": {"probabilities": MIXED[:-1]},
        "labels": {"labels": np.ones(203, np.int32)},
        "perturbation": {"perturbation": lambda key, image: image},
        "example_ids": {"example_ids": np.arange(203)[::-1].copy()},
        "key": {"scorer": partial(_with_key, jax.random.key(1))},
        "model": {"logits_fn": Partial(threshold, jnp.ones(3))},
    }
    for field, change in changes.items():
        arguments = {"probabilities": MIXED, "journal": tmp_path / "j", **change}
        with pytest.raises(ValueError, match=f"belongs to a run with {field} = "):
            score(**arguments)
    with pytest.raises(ValueError, match="is of other images than this call's"):
        score(MIXED[::-1], journal=tmp_path / "j")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    with pytest.raises(ValueError, match="holds other files"):
        score(MIXED, journal=tmp_path / "full")
    (tmp_path / "j" / "journal.json").write_text("{")
    score(MIXED, journal=tmp_path / "j")  # what is damaged is written anew, and the blocks count
    after = {file.name: file.read_bytes() for file in (tmp_path / "j").iterdir()}
    assert after == before
    assert json.loads(before["journal.json"])["num_images"] == 203


def _with_key(other, **options):
    return rpr.score(**{**options, "key": other})


def test_repetitions_of_another_kind_are_refused(tmp_path):
    options = {"scorer": rpr.score_repeatedly, "repetitions": 2, "max_width": 0.5}
    score(MIXED[:20], journal=tmp_path, **options)
    for field, value in (("max_width", 0.4), ("confidence", 0.9)):
        with pytest.raises(ValueError, match=f"belongs to a run with {field} = "):
            score(MIXED[:20], journal=tmp_path, **{**options, field: value})


@pytest.mark.parametrize("wrap", [rpr.black_box, lambda answer: answer], ids=["box", "function"])
def test_models_of_one_name_are_told_apart(tmp_path, wrap):
    """README's black boxes are all called alike."""

    def make(answer):
        if wrap is rpr.black_box:
            return wrap(lambda images: np.full(len(images), answer), fingerprint=f"all {answer}")
        return lambda images: jax.nn.one_hot(jnp.full(len(images), answer), 3)

    score(MIXED, logits_fn=make(0), journal=tmp_path)
    with pytest.raises(ValueError, match="belongs to a run with model = "):
        score(MIXED, logits_fn=make(1), journal=tmp_path)
    again = score(MIXED, logits_fn=make(0), journal=tmp_path)
    assert again.robust.all()
    unknown = rpr.black_box(lambda images: np.zeros(len(images), int))
    with pytest.raises(ValueError, match=r"cannot be known; give black_box\(predict, fingerprint="):
        score(MIXED, logits_fn=unknown, journal=tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_flipped_bits_are_noticed(tmp_path):
    """Every eighth byte of a finished block, one bit each: the scores are what they were."""
    expected = score(MIXED[:30], journal=tmp_path)
    (block,) = tmp_path.glob("*block*.npz")
    content = block.read_bytes()
    damaged = 0
    for place in range(0, len(content), 8):
        flipped = bytearray(content)
        flipped[place] ^= 16
        block.write_bytes(flipped)
        damaged += atomic.read_npz(block) is None
    assert damaged > len(content) / 8 / 3
    block.write_bytes(bytes([*content[:28], content[28] ^ 16, *content[29:]]))
    again = score(MIXED[:30], journal=tmp_path)
    np.testing.assert_array_equal(again.first_failure, expected.first_failure)


def test_killed_while_the_header_was_written(tmp_path):
    (tmp_path / f".journal.json.0123abcd{atomic.TEMPORARY}").write_text("{")
    expected = score(MIXED[:30])
    scores = score(MIXED[:30], journal=tmp_path)
    np.testing.assert_array_equal(scores.first_failure, expected.first_failure)


def test_a_stop_is_saved_though_nothing_is_due(tmp_path, monkeypatch):
    """SIGTERM while the lanes draw: they are written down, and drawn on from there."""
    monkeypatch.setattr(lanes, "_SECONDS_PER_DISPATCH", 0.0)
    advance, calls, stop_at = lanes.OnDevices.advance, [], None

    def stopping(self, *args):
        calls.append(1)
        if len(calls) == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return advance(self, *args)

    monkeypatch.setattr(lanes.OnDevices, "advance", stopping)
    expected = score(MIXED[:48], batch_size=8)
    whole = len(calls)
    calls.clear()
    stop_at = 3
    with pytest.raises(StoppedError), stops.heeded():
        score(MIXED[:48], batch_size=8, journal=tmp_path)
    assert len(calls) == stop_at
    scores = score(MIXED[:48], batch_size=8, journal=tmp_path)
    assert len(calls) == whole > 3
    np.testing.assert_array_equal(scores.first_failure, expected.first_failure)
    assert scores.forward_passes_run == expected.forward_passes_run


def test_a_file_is_no_journal(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file; give a folder"):
        score(MIXED[:3], journal=tmp_path / "file")


def test_killed_twice(tmp_path):
    """SIGKILL at two random moments while it scores; the file equals the unbroken run's."""
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["rbjax.rpr"])  # imported once, not by each process anew

    def start(folder):
        folder.mkdir(exist_ok=True)
        receiver, sender = processes.Pipe(duplex=False)
        process = processes.Process(target=resumed.main, args=(folder, sender))
        process.start()
        sender.close()
        return process, receiver

    def finish(folder):
        process, receiver = start(folder)
        with contextlib.suppress(EOFError):  # at its end
            while True:
                receiver.recv()
        process.join()
        assert process.exitcode == 0

    finish(unbroken)
    wait, positions = random.Random(0), []
    for _ in range(2):
        process, receiver = start(broken)
        positions.append(receiver.recv())
        process.join(timeout=wait.uniform(0.0, 0.24))
        assert process.exitcode is None
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    assert not (broken / "scores.npz").exists()
    assert positions == sorted(positions)
    assert positions[-1] > positions[0]
    finish(broken)
    assert (broken / "scores.npz").read_bytes() == (unbroken / "scores.npz").read_bytes()


def test_perturbations_of_one_name_are_told_apart(tmp_path):
    def score_one(distance):
        perturbation = lambda key, image: image + distance * jax.random.normal(key, image.shape)
        return score(MIXED[:8], perturbation=perturbation, journal=tmp_path)

    first = score_one(0.01)
    np.testing.assert_array_equal(score_one(0.01).first_failure, first.first_failure)
    with pytest.raises(ValueError, match="belongs to a run with perturbation = "):
        score_one(1.0)
