"""One job at a time works in a run directory."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from rbjax.training import run_directory
from rbjax.training.run_directory import LOCK_FILE, hold

HOLD = """
import os, sys, time
from rbjax.training import run_directory
with run_directory.hold(sys.argv[1]):
    if sys.argv[2:] == ["fork"] and os.fork() == 0:
        time.sleep(30)  # as a worker does whose owner was killed
    print("held", os.getpid(), flush=True)
    time.sleep(30)
"""


def holder(workdir, *arguments):
    command = [sys.executable, "-W", "ignore", "-c", HOLD, str(workdir), *arguments]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline().startswith("held")
    return process


def test_who_holds_it_is_said_and_a_killed_process_holds_nothing(tmp_path):
    workdir = tmp_path / "deep" / "run"
    first = holder(workdir, "fork")  # its child lives on
    try:
        about = json.loads((workdir / LOCK_FILE).read_text())
        assert about["pid"] == first.pid
        (workdir / "metrics.jsonl").write_text("of the first")
        with pytest.raises(ValueError, match="has worked in it since") as error, hold(workdir):
            pass
        for part in (str(workdir), f"process {first.pid} on {about['host']}", about["since"]):
            assert part in str(error.value)
        assert "\n" not in str(error.value)
    finally:
        first.kill()
    first.wait()
    assert first.returncode == -signal.SIGKILL
    assert (workdir / LOCK_FILE).exists()  # it had no time to clear up
    with hold(workdir):
        assert json.loads((workdir / LOCK_FILE).read_text())["pid"] == os.getpid()
    assert [path.name for path in workdir.iterdir()] == ["metrics.jsonl"]


def test_what_a_killed_job_had_not_finished_is_deleted(tmp_path):
    run, other = tmp_path / "run", tmp_path / "other"
    for folder in (run, other):
        (folder / "scoring" / "a").mkdir(parents=True)
        (folder / "scoring" / "a" / ".x.npz.0123abcd.partial").write_text("")
        (folder / "checkpoints" / "10.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
        (folder / "thesis.partial").write_text("mine")
    (run / "config.json").write_text("{}")
    for folder in (run, other):
        before = {path for path in folder.rglob("*") if path.is_file()}
        with hold(folder):
            pass
        left = {path for path in folder.rglob("*") if path.is_file()}
        assert (left == before) is (folder == other)  # which is nobody's run directory
    assert left | {run / "thesis.partial", run / "config.json"} == left | {
        path for path in run.rglob("*") if path.is_file()
    }
    assert not list(run.rglob("*.orbax-checkpoint-tmp*"))


def test_nothing_is_left_of_a_directory_in_which_nothing_was_written(tmp_path):
    with hold(tmp_path / "deep" / "run"):
        assert (tmp_path / "deep" / "run").is_dir()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    with hold(tmp_path / "mine"):
        pass
    assert (tmp_path / "mine").is_dir()


def test_what_a_holder_calls_works_in_it_too_and_another_thread_does_not(tmp_path):
    refusals = []

    def other():
        try:
            with hold(tmp_path):
                pass
        except ValueError as error:
            refusals.append(str(error))

    with hold(tmp_path):
        with hold(tmp_path):
            pass
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(refusals) == 1
    assert f"process {os.getpid()}" in refusals[0]
    other()  # the control: free again
    assert len(refusals) == 1


def test_a_lock_that_is_removed_while_it_is_awaited_is_no_lock(tmp_path, monkeypatch):
    """Between opening and locking, its holder ends and removes the file."""
    calls, flock = [], fcntl.flock

    def late(descriptor, operation):
        calls.append(descriptor)
        if len(calls) == 1:
            (tmp_path / LOCK_FILE).unlink()
        flock(descriptor, operation)

    monkeypatch.setattr(run_directory.fcntl, "flock", late)
    with hold(tmp_path):
        assert len(calls) == 2
        assert (tmp_path / LOCK_FILE).exists()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch, caplog, code):
    def refuse(descriptor, operation):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(run_directory.fcntl, "flock", refuse)
    with hold(tmp_path):
        pass
    assert "has no locks" in caplog.text
    assert os.strerror(code) in caplog.text


def test_a_file_is_no_directory(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="is a file; give a folder"), hold(tmp_path / "file"):
        pass


def test_a_job_expands_its_directory_and_says_which_field_is_wrong(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    work = run_directory.job(
        lambda config, workdir: (Path(workdir) / "log").write_text(str(config))
    )
    work("text", "~/run")
    assert (tmp_path / "run/log").read_text() == "text"
    with pytest.raises(ValueError, match=r"workdir = '~nobody_here/run': there is no user"):
        work("text", "~nobody_here/run")


def test_where_no_folder_can_be_made_it_is_said_at_once(tmp_path):
    tmp_path.joinpath(LOCK_FILE).symlink_to(tmp_path / "gone" / "lock")
    with pytest.raises(FileNotFoundError, match=LOCK_FILE), hold(tmp_path):
        pass
