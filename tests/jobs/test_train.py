"""Training as a job: killed, stopped, diverged, resumed."""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from rbjax import command_line
from rbjax import train as training
from rbjax.errors import NotFiniteError, StoppedError
from rbjax.evaluate import evaluate
from rbjax.score import score
from rbjax.train import _Dispatch, train
from rbjax.training import setup
from rbjax.training.checkpoint import Checkpoints
from rbjax.training.log import read_metrics
from rbjax.training.run_directory import read_config


@pytest.fixture
def job(job):
    """Epochs of 10 steps, so that the last dispatch of each is of fewer than the others."""
    return functools.partial(job, dataset__max_train_examples=640)


PROGRAM = """
import json, sys
from rbjax import command_line
from rbjax.train import train
from ml_collections import ConfigDict
config, workdir = ConfigDict(json.loads(sys.argv[1])), sys.argv[2]
train(command_line.resolve(config, workdir), workdir)
"""


def run(config, workdir) -> None:
    train(command_line.resolve(config, str(workdir)), str(workdir))


def weights(config, workdir):
    config = command_line.resolve(config, str(workdir))
    model = setup.create_model(config, setup.load_test(config).info)
    return setup.trained_variables(config, str(workdir), model)


def records(workdir):
    """The log without what depends on the clock."""
    return [
        {key: value for key, value in record.items() if key != "images_per_second"}
        for record in read_metrics(workdir)
    ]


def assert_same_run(config, one, other):
    (step, first), (other_step, second) = weights(config, one), weights(config, other)
    assert step == other_step
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(a, b)
    assert records(one) == records(other)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A folder for the run that nobody disturbs; the first test that needs it trains it."""
    return tmp_path_factory.mktemp("runs") / "unbroken"


def ensure(config, workdir):
    if not workdir.exists():
        run(config, workdir)


def test_a_run_writes_config_log_and_checkpoints(job, unbroken):
    ensure(job(), unbroken)
    assert read_config(unbroken)["method"]["name"] == "universal"
    log = read_metrics(unbroken)
    assert [record["epoch"] for record in log] == [1, 2, 3]
    assert log[-1]["train/loss"] < log[0]["train/loss"]
    assert len(log[-1]["validation/recall"]) == 10
    assert (unbroken / "metrics.csv").read_text().startswith("step,epoch,")
    assert list((unbroken / "tensorboard").iterdir())
    assert setup.checkpoints(str(unbroken)).steps() == [30, 20]


def test_a_finished_run_is_left_as_it_is(job, unbroken, capsys):
    ensure(job(), unbroken)
    before = {p: p.stat().st_mtime_ns for p in unbroken.rglob("*") if p.is_file()}
    run(job(), unbroken)
    assert "trained already" in capsys.readouterr().out
    assert before == {p: p.stat().st_mtime_ns for p in unbroken.rglob("*") if p.is_file()}


def test_a_killed_run_goes_on_bit_for_bit(job, unbroken, tmp_path):
    ensure(job(), unbroken)
    workdir = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, json.dumps(job().to_dict()), str(workdir)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 300
        while not (workdir / "checkpoints/10/sha256.json").exists():
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    assert setup.checkpoints(str(workdir)).steps()[0] < 30, "it was done before it was killed"
    run(job(), workdir)
    assert_same_run(job(), unbroken, workdir)


def test_sigterm_inside_an_epoch_saves_and_the_run_goes_on_bit_for_bit(
    job, unbroken, tmp_path, monkeypatch
):
    ensure(job(), unbroken)
    calls, dispatch = [], _Dispatch.__call__

    def stopping(self, *args):
        calls.append(1)
        if len(calls) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return dispatch(self, *args)

    workdir = tmp_path / "stopped"
    monkeypatch.setattr(_Dispatch, "__call__", stopping)
    with pytest.raises(StoppedError, match=r"stopped at step 18 of 30 and saved"):
        run(job(), workdir)
    monkeypatch.undo()
    run(job(), workdir)
    assert_same_run(job(), unbroken, workdir)


def test_a_stop_after_an_epochs_last_step_or_while_the_last_is_saved_is_not_forgotten(
    job, unbroken, tmp_path, monkeypatch, capsys
):
    """In the validation of the second epoch and of the last, then in the checkpoint after that."""
    ensure(job(), unbroken)
    workdir, save, select = tmp_path / "stopped", Checkpoints.save, training._select
    saved = []

    def stopping(config, before, record, step):
        if step == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return select(config, before, record, step)

    def saving(self, step, *args, **options):
        saved.append(step)
        if stop_at is None:
            os.kill(os.getpid(), signal.SIGTERM)
        save(self, step, *args, **options)

    for stop_at in (20, 30, None):
        with monkeypatch.context() as patch:
            patch.setattr(training, "_select", stopping)
            patch.setattr(Checkpoints, "save", saving)
            # What moves no figure may change.
            every, epochs = (4, 2) if stop_at == 20 else (None, 3)
            with pytest.raises(StoppedError):
                run(job(checkpoint__every_steps=every, num_epochs=epochs), workdir)
        assert setup.checkpoints(str(workdir)).steps()[0] == (stop_at or 30)
    # Inside epochs too at first; the best epoch's weights go before those of a checkpoint.
    assert saved[:7] == [4, 8, 10, 10, 14, 18, 20]
    run(job(), workdir)
    assert "trained already" in capsys.readouterr().out
    assert_same_run(job(), unbroken, workdir)
    with pytest.raises(ValueError, match="num_epochs = 3 there, 4 here"):
        run(job(num_epochs=4, schedule__name="cosine"), workdir)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(
    job, tmp_path, monkeypatch
):
    calls, dispatch = [], _Dispatch.__call__

    def diverging(self, *args):
        calls.append(1)
        state, metrics = dispatch(self, *args)
        if len(calls) == 5:
            metrics = metrics._replace(gradient_norm=np.array([np.nan]))
        return state, metrics

    monkeypatch.setattr(_Dispatch, "__call__", diverging)
    with pytest.raises(NotFiniteError, match=r"the checkpoint of step 10 is kept"):
        run(job(), tmp_path / "run")
    assert setup.checkpoints(str(tmp_path / "run")).steps() == [10]


@pytest.mark.parametrize("value", [np.nan, 1e38])
def test_weights_of_the_last_update_are_not_saved_where_they_are_useless(
    job, tmp_path, monkeypatch, value
):
    """Nothing follows whose loss would tell; huge weights are finite, and their logits are not."""
    calls, dispatch = [], _Dispatch.__call__

    def diverging(self, *args):
        calls.append(1)
        state, metrics = dispatch(self, *args)
        if len(calls) == 9:  # of 3 an epoch
            bad = jax.tree.map(lambda x: x * 0 + value * (1 + x), state.ema)
            state = state._replace(ema=bad)
        return state, metrics

    monkeypatch.setattr(_Dispatch, "__call__", diverging)
    what = "logits of 64 of 64 training images" if value == 1e38 else r"left ema\.\S+, ema\.\S+ and"
    message = rf"{what}.* not finite; the checkpoint of step 20 is kept; try a smaller"
    with pytest.raises(NotFiniteError, match=message):
        run(job(), tmp_path / "run")
    monkeypatch.undo()
    assert setup.checkpoints(str(tmp_path / "run")).steps() == [20, 10]
    run(job(), tmp_path / "run")  # the control: from the last good one it comes to the end
    assert setup.checkpoints(str(tmp_path / "run")).steps() == [30, 20]


def test_stored_weights_that_are_not_finite_are_refused_by_every_job(
    job, unbroken, tmp_path, capsys
):
    """As builds wrote them that did not look."""
    ensure(job(), unbroken)
    shutil.copytree(unbroken, tmp_path / "run")
    config = command_line.resolve(job(), str(tmp_path / "run"))
    checkpoints = setup.checkpoints(str(tmp_path / "run"))
    model = setup.create_model(config, setup.info(config))
    _, variables = setup.trained_variables(config, str(unbroken), model)
    bad = jax.tree.map(lambda x: x * np.float32(np.nan), variables)
    checkpoints.save(40, {"variables": bad, "ema": bad})
    message = (
        r"checkpoint of step 40 holds params\S+, params\S+ and \d+ more with values that are not"
    )
    for task in (evaluate, score):
        with pytest.raises(NotFiniteError, match=message):
            task(config, str(tmp_path / "run"))
    assert not list((tmp_path / "run").glob("r*.json"))


def test_batches_that_do_not_fit_are_refused_before_anything_is_written(job, tmp_path):
    with pytest.raises(ValueError, match=r"batch_size = 60.*divisible by the 8.*56 or 64"):
        run(job(batch_size=60), tmp_path / "run")
    with pytest.raises(ValueError, match=r"batch_size = 1024: must be at most 640"):
        run(job(batch_size=1024), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_made_leaves_no_directory_behind(job, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise ValueError("no such optimizer")

    monkeypatch.setattr(setup, "create_optimizer", refuse)
    with pytest.raises(ValueError, match="no such optimizer"):
        run(job(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_is_judged_is_the_average_where_one_is_kept(job, unbroken):
    ensure(job(), unbroken)
    _, judged = weights(job(), unbroken)
    stored = setup.checkpoints(str(unbroken)).restore_latest(
        {"variables": judged, "ema": judged}, partial=True
    )
    assert stored is not None
    trees = (judged, stored.state["ema"], stored.state["variables"])
    kernels = [tree["params"]["head"]["kernel"] for tree in trees]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert np.abs(kernels[0] - kernels[2]).max() > 1e-4


def test_the_directory_of_another_config_is_refused(job, unbroken):
    ensure(job(), unbroken)
    before = (unbroken / "config.json").read_bytes()
    with pytest.raises(ValueError, match=r"method.epsilon = 0.1 there, 0.2 here"):
        run(job(method__epsilon=0.2), unbroken)
    assert (unbroken / "config.json").read_bytes() == before
