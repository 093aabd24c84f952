"""A streamed job trains the weights of a resident one, stopped or killed in between or not."""

import os
import signal
import threading
from typing import Any

import jax
import numpy as np
import pytest

from rbjax import command_line
from rbjax.errors import StoppedError
from rbjax.train import _Dispatch, train
from rbjax.training import setup
from rbjax.training.log import read_metrics


@pytest.fixture
def small(job):
    """Returns a function that makes the config; cheap to compile, and random in each image."""

    def make(streaming: str, **changes):
        return job(
            model__name="mlp",
            model__widths=(8,),
            method=_standard(job),
            num_epochs=2,
            dataset__max_train_examples=640,  # the last dispatch of an epoch is of fewer steps
            dataset__streaming=streaming,
            **changes,
        )

    return make


def _standard(job):
    method = job().method
    method.update(name="standard", epsilon=None)
    return method


def run(config, workdir) -> Any:
    """Returns the trained weights."""
    config = command_line.resolve(config, str(workdir))
    train(config, str(workdir))
    model = setup.create_model(config, setup.load_test(config).info)
    return setup.trained_variables(config, str(workdir), model)[1]


def records(workdir):
    """The log without what depends on the clock."""
    clock = ("images_per_second", "data_wait")
    return [{k: v for k, v in record.items() if k not in clock} for record in read_metrics(workdir)]


def assert_same(first, second):
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The folder of the undisturbed streamed run, and its weights once it is trained."""
    return {"workdir": tmp_path_factory.mktemp("runs") / "streamed"}


def streamed(small, kept):
    if "weights" not in kept:
        kept["weights"] = run(small("always"), kept["workdir"])
    return kept["weights"]


def test_a_streamed_run_trains_what_a_resident_one_does_bit_for_bit(small, kept, tmp_path, capsys):
    resident = run(small("never"), tmp_path / "resident")
    said = capsys.readouterr().out
    assert "of images on each device" in said
    assert "for data" not in said
    assert_same(streamed(small, kept), resident)
    said = capsys.readouterr().out
    assert "; streaming 0.2 MiB in blocks of 4 steps" in said.splitlines()[0]
    assert "% for data" in said
    assert records(kept["workdir"]) == records(tmp_path / "resident")
    assert all(0 <= record["data_wait"] <= 1 for record in read_metrics(kept["workdir"]))


@pytest.mark.parametrize("end", ["SIGTERM", "a failure"])
def test_a_run_that_ended_inside_an_epoch_goes_on_with_the_same_batches(
    small, kept, tmp_path, monkeypatch, end
):
    calls, dispatch = [], _Dispatch.__call__

    def ending(self, *args):
        calls.append(1)
        if len(calls) == 5:  # of three an epoch
            if end == "a failure":
                raise RuntimeError(end)
            os.kill(os.getpid(), signal.SIGTERM)
        return dispatch(self, *args)

    monkeypatch.setattr(_Dispatch, "__call__", ending)
    expected = StoppedError if end == "SIGTERM" else RuntimeError
    message = r"stopped at step 18 of 20" if end == "SIGTERM" else end
    with pytest.raises(expected, match=message):
        run(small("always"), tmp_path / "run")
    monkeypatch.undo()
    for thread in threading.enumerate():  # each ends with the read that was under way
        if "grain" in thread.name:
            thread.join(30)
            assert not thread.is_alive()
    # Neither streaming nor its budget belongs to what a run is.
    weights = run(small("always", dataset__memory_budget=1), tmp_path / "run")
    assert_same(weights, streamed(small, kept))
    assert records(tmp_path / "run") == records(kept["workdir"])


def test_one_device_and_eight_agree_to_rounding(small, kept, tmp_path, monkeypatch):
    eight = streamed(small, kept)
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
    one = run(small("always"), tmp_path / "one")
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(eight), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_a_set_that_may_not_stream_and_does_not_fit_leaves_no_directory_behind(small, tmp_path):
    config = small("never", dataset__memory_budget=1)  # eight copies of 0.16 MiB in one memory
    with pytest.raises(ValueError, match=r"dataset.streaming = 'never'.*memory_budget"):
        run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
