"""An engineer has a wheel, a cluster without internet, requeue and two processes a job."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.full_size

JOB = Path(__file__).with_name("cluster_job.sh").read_text(encoding="utf-8")


def start(folder: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        master = f"localhost:{free.getsockname()[1]}"
    with (folder / "log.txt").open("a") as log:
        return subprocess.Popen(
            ["bash", "-c", JOB],
            cwd=folder,
            env={**environment, "MASTER": master, "pids": ""},
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        )


def test_a_job_is_requeued(environment, tmp_path):
    job, log = start(tmp_path, environment), tmp_path / "log.txt"
    while job.poll() is None and "epoch 2/40" not in log.read_text():
        time.sleep(0.1)
    job.terminate()  # the time is over
    assert job.wait() == 75, log.read_text()[-3000:]
    before = log.read_text()
    assert not (tmp_path / "run" / "report.json").exists()
    assert start(tmp_path, environment).wait() == 0, log.read_text()[-3000:]
    after = log.read_text()[len(before) :]
    assert "Traceback" not in before + after
    assert "training from step 0 of" not in after
    assert "epoch 40/40" in after
    assert "of each of 2 processes" in after
    assert (tmp_path / "run" / "report.html").is_file()
    said = subprocess.run(
        ["rbjax", "doctor"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert said.returncode == 0
    where = ["python", "-c", "import rbjax; print(rbjax.__file__)"]
    shown = subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert shown.stdout.startswith(environment["VIRTUAL_ENV"])
