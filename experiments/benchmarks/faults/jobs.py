"""Running a job as a person does, and what it left in its run directory."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rbjax.training import intact

ROOT = Path(__file__).parents[3]
JOB = Path(__file__).with_name("job.py")
TRAININGS = ("standard", "universal", "free")
TRAINED = {"evaluation": "universal", "scoring": "universal", "corruptions": "universal"}
"""Jobs that need a trained run, and which."""
BEGINS = {"evaluation": "evaluating", "scoring": "RPR, ", "corruptions": "evaluating"}
"""What a job prints when its work begins; a training says "training from"."""
_CLOCKED = ("images_per_second", "data_wait", "seconds", "config", "versions", "device", "sha256")
"""What may differ between two runs of a job."""


class KnownDamageError(Exception):
    """rbjax says in one line that this is damaged, to whoever asks for it."""


class Job:
    """A process of a job, or several that are one run."""

    def __init__(
        self,
        kind: str,
        workdir: Path,
        *overrides: str,
        count: int = 1,
        devices: int = 1,
        threads: int | None = None,
    ) -> None:
        """Starts it.

        Args:
            kind: a variant of job.py.
            workdir: the run directory.
            *overrides: further arguments.
            count: processes.
            devices: simulated ones of each process.
            threads: NPROC; None: as the machine has them.
        """
        flags = f"--xla_force_host_platform_device_count={devices}"
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
        environment |= {"PYTHONUNBUFFERED": "1", "NPROC": str(threads)} if threads else {}
        environment |= {"PYTHONUNBUFFERED": "1", "WORLD_SIZE": str(count)}
        environment |= {"MASTER_ADDR": "localhost", "MASTER_PORT": _free_port()}
        command = [sys.executable, "-m", "rbjax.main", f"--config={JOB}:{kind}", *overrides]
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self._processes = [
            subprocess.Popen(
                [*command, f"--workdir={workdir}"],
                cwd=ROOT,
                env={**environment, "RANK": str(rank)},
                stdout=self._log,
                stderr=subprocess.STDOUT,
            )
            for rank in range(count)
        ]
        self._marker = BEGINS.get(kind, "training from").encode()

    def said(self) -> bytes:
        """Returns what it has printed so far."""
        return os.pread(self._log.fileno(), 2**20, 0)

    def await_work(self) -> bool:
        """Waits until its work begins; returns whether it still works."""
        while self._marker not in self.said() and self._is_running():
            time.sleep(0.01)
        return self._is_running()

    def signal(self, number: int) -> int:
        """Sends a signal to its first process, and returns how that ended."""
        self._processes[0].send_signal(number)
        return self.wait()

    def wait(self, seconds: float = 300) -> int:
        """Returns the first exit code that is not 0, or 0."""
        codes = [process.wait(seconds) for process in self._processes]
        self.text = self.said().decode(errors="replace")
        self._log.close()
        return next((code for code in codes if code), 0)

    def _is_running(self) -> bool:
        return all(process.poll() is None for process in self._processes)


def _free_port() -> str:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return str(free.getsockname()[1])


@contextlib.contextmanager
def copy_of(folder: Path | None) -> Iterator[Path]:
    """Yields a copy of a run directory, or a new one, which is deleted afterwards."""
    with tempfile.TemporaryDirectory(prefix="rbjax-faults-") as temporary:
        workdir = Path(temporary) / "run"
        if folder is not None:
            shutil.copytree(folder, workdir, symlinks=True)
        yield workdir


def found(workdir: Path) -> dict[str, str]:
    """Returns a digest of each thing that a job has left: weights, log, reports, records."""
    what: dict[str, str] = {}
    log = workdir / "metrics.jsonl"
    if log.exists():
        lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        what["log"] = _digest(_timeless(lines))
    for name in ("report.json", "rpr.json"):
        if (workdir / name).exists():
            what[name] = _digest(_timeless(json.loads((workdir / name).read_text("utf-8"))))
    for name in ("report.npz", "rpr.npz", "prepared.npz"):
        if (workdir / name).exists():
            with np.load(workdir / name, allow_pickle=False) as arrays:
                what[name] = _digest({key: _of_array(arrays[key]) for key in arrays.files})
    for name in ("checkpoints", "checkpoints/best"):
        what |= {name: weights} if (weights := _weights(workdir / name)) else {}
    return what


def _weights(folder: Path) -> str | None:
    """Returns a digest of every array of the newest checkpoint."""
    steps = [int(path.name) for path in folder.glob("*") if path.name.isdecimal()]
    if not steps:
        return None
    if (damage := intact.damage(folder / str(max(steps)))) is not None:
        raise KnownDamageError(damage)
    state, extra = stored(folder / str(max(steps)))
    arrays = {name: _of_array(np.asarray(array)) for name, array in state.items()}
    return _digest([max(steps), arrays, _timeless(extra.get("epoch_sums"))])


def stored(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the arrays of a checkpoint by name, and what is beside them."""
    import orbax.checkpoint as ocp

    args = ocp.args.Composite(state=ocp.args.StandardRestore(), extra=ocp.args.JsonRestore())
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        both = checkpointer.restore(path.resolve(), args=args)
    return both.state, both.extra


def _of_array(array: np.ndarray) -> str:
    return _digest([str(array.dtype), array.shape, hashlib.sha256(array.tobytes()).hexdigest()])


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if k not in _CLOCKED}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
