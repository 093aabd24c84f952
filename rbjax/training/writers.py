"""What a run's metrics are written to besides its own log: TensorBoard, W&B, MLflow, one's own."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import json
import secrets
import socket
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from rbjax import atomic
from rbjax.errors import spelled
from rbjax.options import checked
from rbjax.tables import Table

TENSORBOARD_FOLDER = "tensorboard"
_PARAMS_AT_ONCE = 100
"""More are refused by MLflow."""


@runtime_checkable
class Writer(Protocol):
    """Where records of metrics go; three methods, called by process 0 alone."""

    def begin(self, workdir: Path, config: Mapping[str, Any], first: int) -> None:
        """Opens what is written to.

        Args:
            workdir: the run directory, in which a writer keeps what it needs to resume.
            config: the run's config, of plain values.
            first: 0 of a new run; of a resumed one the first step that may follow. Steps from
                there on may have been written already, by a run that was killed after its last
                checkpoint: the numbers are the same.
        """

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Takes the numbers of one record, finite ones, those of a list as name/0, name/1, ...

        Args:
            step: updates made.
            metrics: by name.
        """

    def close(self, is_finished: bool) -> None:
        """Writes what is left; nothing follows.

        Args:
            is_finished: whether training came to its end; it was stopped otherwise, or failed.
        """


class TensorBoard:
    """TensorBoard's events, written here and now: on a full disk tensorboardX's thread is lost."""

    def begin(self, workdir: Path, config: Mapping[str, Any], first: int) -> None:
        """Opens a file of events in the run directory's folder tensorboard."""
        from tensorboardX.record_writer import RecordWriter
        from tensorboardX.summary import scalar

        protocol = importlib.import_module("tensorboardX.proto.event_pb2")  # made at run time
        self._event, self._scalar = protocol.Event, scalar
        folder = workdir / TENSORBOARD_FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}"
        self._writer = RecordWriter(str(folder / name))
        self._add(file_version="brain.Event:2")
        # TensorBoard hides what an earlier process wrote from this step on.
        self._add(step=first, session_log=protocol.SessionLog(status=protocol.SessionLog.START))

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes each number as a scalar."""
        for name, value in metrics.items():
            self._add(step=step, summary=self._scalar(name, value))
        self._writer.flush()

    def close(self, is_finished: bool) -> None:
        """Closes the file."""
        self._writer.close()

    def _add(self, **fields: Any) -> None:
        event = self._event(wall_time=time.time(), **fields)
        self._writer.write(event.SerializeToString())


class WandB:
    """A run of Weights & Biases, resumed under its id, which the run directory keeps."""

    def __init__(self, project: str) -> None:
        """Names the project."""
        self._project = project

    def begin(self, workdir: Path, config: Mapping[str, Any], first: int) -> None:
        """Starts a run, or resumes the one of this run directory."""
        wandb = importlib.import_module("wandb")
        path = workdir / "wandb.json"
        kept = json.loads(path.read_text()) if path.exists() else {"id": secrets.token_hex(4)}
        if not path.exists():
            atomic.write_json(path, kept)
        self._run = wandb.init(
            project=self._project,
            id=kept["id"],
            name=workdir.name,
            config=dict(config),
            dir=str(workdir),
            resume="allow",
            settings=wandb.Settings(console="off", save_code=False, disable_git=True, silent=True),
        )

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Logs the record; W&B leaves out steps that it has."""
        self._run.log(dict(metrics), step=step)

    def close(self, is_finished: bool) -> None:
        """Finishes the run, as failed if it is to be resumed."""
        self._run.finish(exit_code=0 if is_finished else 1, quiet=True)


class MLflow:
    """A run of MLflow, resumed under its id, which the run directory keeps."""

    def __init__(self, experiment: str, tracking_uri: str | None) -> None:
        """Names the experiment and the server."""
        self._experiment, self._uri = experiment, tracking_uri

    def begin(self, workdir: Path, config: Mapping[str, Any], first: int) -> None:
        """Starts a run with the config as its parameters, or resumes that of this run directory."""
        mlflow = importlib.import_module("mlflow")
        self._metric = mlflow.entities.Metric
        self._client = mlflow.MlflowClient(self._uri)
        path, self._last = workdir / "mlflow.json", -1
        if path.exists():
            self._id = json.loads(path.read_text())["run_id"]
            self._last = self._last_step()
            self._client.update_run(self._id, status="RUNNING")
            return
        found = self._client.get_experiment_by_name(self._experiment)
        number = found.experiment_id if found else self._client.create_experiment(self._experiment)
        self._id = self._client.create_run(number, run_name=workdir.name).info.run_id
        params = [mlflow.entities.Param(name, str(value)) for name, value in _flat(config)]
        for some in itertools.batched(params, _PARAMS_AT_ONCE):
            self._client.log_batch(self._id, params=some)
        atomic.write_json(path, {"run_id": self._id})  # last: a run without its config is left

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Logs the record, unless the run has that step: MLflow would keep it twice."""
        if step > self._last:
            now = int(1000 * time.time())
            values = [self._metric(k, float(v), now, step) for k, v in metrics.items()]
            self._client.log_batch(self._id, metrics=values)

    def close(self, is_finished: bool) -> None:
        """Ends the run, as killed if it is to be resumed."""
        self._client.set_terminated(self._id, "FINISHED" if is_finished else "KILLED")

    def _last_step(self) -> int:
        names = self._client.get_run(self._id).data.metrics
        history = self._client.get_metric_history(self._id, "epoch") if "epoch" in names else []
        return max((value.step for value in history), default=-1)


@checked
def tensorboard() -> Writer:
    """Returns TensorBoard's events, in the run directory's folder tensorboard."""
    return TensorBoard()


@checked
def wandb(*, project: str = "rbjax") -> Writer:
    """Returns a run of Weights & Biases; WANDB_MODE=offline writes into the run directory alone.

    Args:
        project: that it belongs to.

    Raises:
        ValueError: if wandb is not installed.
    """
    _check_installed("wandb")
    return WandB(project)


@checked
def mlflow(*, experiment: str = "rbjax", tracking_uri: str | None = None) -> Writer:
    """Returns a run of MLflow, with the config as its parameters.

    Args:
        experiment: that it belongs to.
        tracking_uri: a server, a folder or a database, such as sqlite:///mlflow.db; None: what
            MLFLOW_TRACKING_URI says, else MLflow's default.

    Raises:
        ValueError: if mlflow is not installed.
    """
    _check_installed("mlflow")
    return MLflow(experiment, tracking_uri)


WRITERS: Table[Writer] = Table(
    "writer",
    {"tensorboard": tensorboard, "wandb": wandb, "mlflow": mlflow},
    makes=(Writer, "a writer, an object with the methods begin, write and close"),
)
"""By name."""


def check_writers(writers: Any) -> list[Writer]:
    """Returns the writers that a person gives, if they are some."""
    given = list(writers) if isinstance(writers, Iterable) else [writers]
    for writer in given:
        if isinstance(writer, type) or not isinstance(writer, Writer):
            raise ValueError(
                f"writers holds {spelled(writer)}; give a list of objects with the methods begin, "
                "write and close"
            )
    return given


def create_writers(names: str, **options: Any) -> list[Writer]:
    """Makes writers by name.

    Args:
        names: of the table or `package.module:maker`, joined by "+"; "none": no writer.
        **options: their makers', each taken by those that have it.

    Raises:
        ValueError: for an unknown name or option, or a package that is not installed.
    """
    return [] if names == "none" else WRITERS.create_each(names, options)


def _check_installed(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise ValueError(
            f"{package} is not installed: pip install 'rbjax[{package}]', in a clone '.[{package}]'"
        )


def _flat(config: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """Returns the fields of a config by their dotted names; those that are absent left out."""
    fields: list[tuple[str, Any]] = []
    for name, value in config.items():
        if isinstance(value, Mapping):
            fields += _flat(value, f"{before}{name}.")
        elif value is not None:
            fields.append((before + name, value))
    return fields
