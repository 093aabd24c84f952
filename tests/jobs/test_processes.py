"""Two processes that a launcher starts are one run, with the numbers of one process."""

import contextlib
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np

from rbjax.main import main
from rbjax.training.log import read_metrics
from rbjax.training.run_directory import hold

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from rbjax import processes
from rbjax.main import main
from rbjax.training.run_directory import hold
with processes.joined("auto"):
    try:
        with hold(sys.argv[1]):
            pass
    except ValueError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
sys.exit(main(["rbjax", *sys.argv[2:]]))
"""
CONFIG = """
from rbjax import config as schema

def get_config(variant=""):
    config = schema.default()
    config.batch_size, config.num_epochs, config.diagnostics = 64, 1, 0
    config.dataset.update(name="digits", max_train_examples=512, max_test_examples=40)
    config.dataset.update(streaming="always", validation_fraction=0.1)
    config.model.update(name="mlp", widths=(16,))
    config.method.update(name="free", epsilon=0.1, num_replays=2)
    config.attacks.universal = schema.attack("universal", num_epochs=1, max_examples=64)
    config.validation.attack, config.score.max_steps = "none", 0  # blocks: tests/test_blocks.py
    return config
"""


def start(tmp_path, *arguments, count=2, devices=1, program=("-m", "rbjax.main")):
    """Starts the processes of a run, as a launcher does."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "WORLD_SIZE": "2"}
    environment |= {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "PYTHONUNBUFFERED": "1"}
    (tmp_path / "job.py").write_text(CONFIG)
    command = [sys.executable, *program, *arguments, f"--config={tmp_path / 'job.py'}"]
    jobs = []
    for index in range(count):
        with (tmp_path / f"{index}.txt").open("w") as log:
            jobs.append(
                subprocess.Popen(
                    [*command, f"--workdir={tmp_path / 'run'}"],
                    cwd=ROOT,
                    env={**environment, "RANK": str(index)},
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            )
    return jobs


def said(tmp_path, index):
    """What a process printed, without a line of gRPC's or Gloo's."""
    lines = (tmp_path / f"{index}.txt").read_text().splitlines()
    return [line for line in lines if line and not re.match(r"\[Gloo\]|[IWE]\d{4} ", line)]


def test_two_processes_are_one_run(tmp_path):
    """They train, validate and craft together; process 0 alone prints and writes."""
    with hold(tmp_path / "taken"):
        program = ("-c", PROGRAM, str(tmp_path / "taken"))
        jobs = start(tmp_path, program=program)
        assert [job.wait(timeout=300) for job in jobs] == [0, 0]
    (refusal, *lines), (other, *none) = (said(tmp_path, index) for index in range(2))
    assert refusal.startswith("InUseError: workdir = ")  # so that a sweep goes on to the next
    assert f"process {os.getpid()} on " in refusal
    assert refusal == other
    assert any("on 1 cpu device of each of 2 processes" in line for line in lines)
    assert none == []
    assert (
        main(["rbjax", f"--config={tmp_path / 'job.py'}", f"--workdir={tmp_path / 'alone'}"]) == 0
    )
    volatile = ("images_per_second", "data_wait")
    (ours,), (theirs,) = (read_metrics(tmp_path / name) for name in ("run", "alone"))
    for name in theirs.keys() - {*volatile}:
        if not isinstance(theirs[name], str):
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-5, err_msg=name)
    paths = (tmp_path / name / "report.npz" for name in ("run", "alone"))
    with contextlib.ExitStack() as stack:
        run, alone = (stack.enter_context(np.load(path)) for path in paths)
        assert run.files == alone.files
        for name in run.files:
            np.testing.assert_allclose(run[name], alone[name], rtol=1e-5, err_msg=name)
    assert not list((tmp_path / "run").rglob("lock.json"))
