"""A resumed log equals an unbroken one; TensorBoard and CSV show the same numbers."""

import csv
import importlib
import json
import math
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax.errors import FullDiskError
from rbjax.training import log as logs
from rbjax.training.log import MetricsLog, read_metrics, write_csv
from rbjax.training.writers import TensorBoard
from tests.limits import files_of_at_most

Event = importlib.import_module("tensorboardX.proto.event_pb2").Event


def write_steps(workdir, steps, *, resumed_at=None):
    with MetricsLog(workdir, step=resumed_at) as writer:
        for step in steps:
            writer.write(step, {"loss": 1.0 / (step + 1), "recall": [0.5, step]})


def log(workdir):
    return (workdir / "metrics.jsonl").read_bytes()


def scalars(workdir):
    """Returns (step, name, value) of every scalar event, and the steps purged from."""
    values, purges = [], []
    for path in sorted((workdir / "tensorboard").iterdir()):
        data, position = path.read_bytes(), 0
        while position < len(data):
            (length,) = struct.unpack_from("<Q", data, position)
            event = Event.FromString(data[position + 12 : position + 12 + length])
            position += length + 16
            values += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
            if event.HasField("session_log"):
                purges.append(event.step)
    return values, purges


def test_records_go_there_and_back(tmp_path):
    with MetricsLog(tmp_path, step=None) as writer:
        writer.write(1, {"loss": jnp.float32(0.1), "recall": np.array([0.0, 1.0])})
        writer.write(2, {"loss": math.nan, "best": True, "note": "é", "f1": [math.inf, 0.5]})
    assert read_metrics(tmp_path) == [
        {"step": 1, "loss": float(np.float32(0.1)), "recall": [0.0, 1.0]},
        {"step": 2, "loss": None, "best": True, "note": "é", "f1": [None, 0.5]},
    ]
    assert all(json.loads(line)["step"] for line in log(tmp_path).splitlines())


def test_a_record_is_in_the_file_when_write_returns(tmp_path):
    with MetricsLog(tmp_path, step=None) as writer:
        writer.write(1, {"loss": 0.5})
        assert read_metrics(tmp_path) == [{"step": 1, "loss": 0.5}]


def test_a_resumed_log_equals_an_unbroken_one(tmp_path):
    unbroken, resumed = tmp_path / "a", tmp_path / "b"
    unbroken.mkdir()
    resumed.mkdir()
    write_steps(unbroken, range(10))
    write_steps(resumed, range(8))  # killed after step 7, its last checkpoint was of step 5
    write_steps(resumed, range(6, 10), resumed_at=5)
    assert log(resumed) == log(unbroken)


def test_a_run_killed_before_its_first_checkpoint_begins_its_log_anew(tmp_path):
    write_steps(tmp_path, range(3))
    before = log(tmp_path)
    write_steps(tmp_path, range(3))
    assert log(tmp_path) == before


def test_a_record_that_a_kill_cut_short_is_left_out(tmp_path):
    write_steps(tmp_path, range(5))
    whole = log(tmp_path)
    for cut in (1, 10, 30):
        (tmp_path / "metrics.jsonl").write_bytes(whole[:-cut])
        assert [record["step"] for record in read_metrics(tmp_path)] == [0, 1, 2, 3]
    write_steps(tmp_path, [4], resumed_at=3)
    assert log(tmp_path) == whole


@pytest.mark.parametrize("line", ["{", "[1]", "3", '{"loss": 1}', '{"step": null}'])
def test_a_damaged_line_is_named(tmp_path, line):
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": 1}}\n{line}\n')
    with pytest.raises(ValueError, match="line 2 is not a record"):
        read_metrics(tmp_path)


def test_no_log_has_no_records(tmp_path):
    assert read_metrics(tmp_path) == []


def test_csv_has_a_column_a_metric_and_a_row_a_record(tmp_path):
    with MetricsLog(tmp_path, step=None) as writer:
        writer.write(1, {"train/loss": 0.25})
        writer.write(1, {"test": {"recall": [0.5, math.nan]}, "note": 'a,"b"'})
    with write_csv(tmp_path).open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["step", "train/loss", "test/recall/0", "test/recall/1", "note"],
        ["1", "0.25", "", "", ""],
        ["1", "", "0.5", "", 'a,"b"'],
    ]


def test_csv_of_no_log_has_a_header(tmp_path):
    assert write_csv(tmp_path).read_text() == "step\n"


def test_tensorboard_has_every_finite_number(tmp_path):
    with MetricsLog(tmp_path, step=None, writers=[TensorBoard()]) as writer:
        writer.write(3, {"loss": 0.5, "bad": math.nan, "recall": [0.25, 1.0], "note": "text"})
    values, _ = scalars(tmp_path)
    assert values == [(3, "loss", 0.5), (3, "recall/0", 0.25), (3, "recall/1", 1.0)]


def test_tensorboard_hides_what_comes_after_the_checkpoint(tmp_path):
    with MetricsLog(tmp_path, step=None, writers=[TensorBoard()]) as writer:
        writer.write(4, {"loss": 0.5})
    with MetricsLog(tmp_path, step=2, writers=[TensorBoard()]) as writer:
        writer.write(3, {"loss": 0.5})
    _, purges = scalars(tmp_path)
    assert 3 in purges


def test_only_process_zero_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    with MetricsLog(tmp_path, step=None, writers=[TensorBoard()]) as writer:
        writer.write(1, {"loss": 0.5})
    assert list(tmp_path.iterdir()) == []


def test_step_is_not_a_metric(tmp_path):
    with (
        MetricsLog(tmp_path, step=None) as writer,
        pytest.raises(ValueError, match="step"),
    ):
        writer.write(1, {"step": 2})


def test_a_cut_that_fails_leaves_the_log(tmp_path, monkeypatch):
    write_steps(tmp_path, range(3))
    before = log(tmp_path)

    def full_disk(path):
        raise OSError("no space left on device")

    monkeypatch.setattr(logs.atomic, "replace", full_disk)
    with pytest.raises(OSError, match="no space"):
        MetricsLog(tmp_path, step=1)
    assert log(tmp_path) == before


@pytest.mark.parametrize(("num_metrics", "more", "tensorboard"), [(50, 99, False), (20, 699, True)])
def test_no_room_for_a_record_names_the_file_and_leaves_the_others(
    tmp_path, num_metrics, more, tensorboard
):
    """In the log itself, and in TensorBoard's events: a thread of their own would be lost."""
    write_steps(tmp_path, range(2))
    before = log(tmp_path)
    record = {f"loss/{number}": 0.5 for number in range(num_metrics)}
    with files_of_at_most(len(before) + more):
        writer = MetricsLog(tmp_path, step=1, writers=[TensorBoard()] * tensorboard)
        with pytest.raises(FullDiskError, match=r"metrics.jsonl: no room is left"), writer:
            writer.write(2, record)
    write_steps(tmp_path, range(2, 3), resumed_at=1)
    assert [record["step"] for record in read_metrics(tmp_path)] == [0, 1, 2]


def test_a_log_is_mended_from_what_a_checkpoint_keeps(tmp_path, caplog):
    """Another number, a cut, a loss; what came after the checkpoint is dropped without a word."""
    with MetricsLog(tmp_path, step=None) as writer:
        writer.write(1, {"loss": 0.5})
    kept, path = logs.read_log(tmp_path), tmp_path / "metrics.jsonl"
    logs.mend_log(tmp_path, None)
    for damaged in (kept.replace("5", "7"), kept[:-4], None):
        path.write_text(damaged) if damaged else path.unlink()
        caplog.clear()
        logs.mend_log(tmp_path, kept)
        assert path.read_text() == kept
        assert "metrics.jsonl is damaged or gone" in caplog.text
    caplog.clear()
    path.write_text(f"{kept}{kept}")
    logs.mend_log(tmp_path, kept)
    assert path.read_text() == kept
    assert not caplog.text
