"""A run's metrics: a log of JSON lines, what else is given each record, and a CSV file.

A resumed run cuts its log back to the step of the checkpoint, so that the log of a run that was
killed and resumed equals that of an uninterrupted one.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

import jax
from absl import logging

from rbjax import atomic
from rbjax.paths import expanded
from rbjax.training.writers import Writer

METRICS_FILE = "metrics.jsonl"
CSV_FILE = "metrics.csv"


class MetricsLog:
    """Appends records to metrics.jsonl, and gives them to the writers; process 0 alone writes.

    A record is one line, {"step": 100, "train/loss": 0.3, ...}, handed to the operating system
    before `write` returns: it survives if the process is killed.  Write a step's records before its
    checkpoint, or a run killed between the two never gets them.

    A writer that fails is left out from there on, with a warning: training does not end for it.

    Args:
        workdir: the run directory.
        step: the step of the checkpoint the run continues from: records after it are dropped;
            None starts a new log.
        writers: what gets each record's numbers too; they are closed with the log.
        config: the run's, which writers are told.

    Raises:
        ValueError: if an existing metrics.jsonl is damaged, or a writer cannot begin.
    """

    def __init__(
        self,
        workdir: str | os.PathLike[str],
        *,
        step: int | None,
        writers: Iterable[Writer] = (),
        config: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self._file: io.TextIOWrapper | None = None
        self._writers: list[Writer] = []
        if jax.process_index() != 0:
            return
        workdir = expanded(workdir, field="workdir")
        first = 0 if step is None else step + 1
        if (workdir / METRICS_FILE).exists():
            lines = [
                line for line, record in _read(workdir / METRICS_FILE) if record["step"] < first
            ]
            with atomic.replace(workdir / METRICS_FILE) as file:
                file.write("".join(lines).encode())
        self._file = (workdir / METRICS_FILE).open("a", encoding="utf-8")
        try:
            for writer in writers:
                _begin(writer, workdir, config, first)
                self._writers.append(writer)
        except BaseException:
            self.close(is_finished=False)
            raise

    def write(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Appends one record.

        Args:
            step: updates made, >= 0.
            metrics: numbers, text, or (nested) lists and arrays of numbers, by name; what is not
                finite becomes null.

        Raises:
            ValueError: if a metric is called "step".
            FullDiskError: if there is no room for it.
        """
        if "step" in metrics:
            raise ValueError("a metric is called 'step'; that name is the record's own")
        if self._file is None:
            return
        record = atomic.plain(metrics)
        with atomic.room(self._file.name):
            self._file.write(json.dumps({"step": int(step), **record}, allow_nan=False) + "\n")
            self._file.flush()
            numbers = {k: v for k, v in _columns(record) if isinstance(v, int | float)}
            for writer in list(self._writers):
                with self._dropped_if_it_fails(writer, f"at step {step}"):
                    writer.write(int(step), numbers)

    def close(self, is_finished: bool = True) -> None:
        """Finishes the files; a closed log writes no more.

        Args:
            is_finished: what the writers are told: whether training came to its end.
        """
        with contextlib.ExitStack() as stack:
            if self._file is not None:
                stack.callback(self._file.close)
            for writer in list(self._writers):
                with self._dropped_if_it_fails(writer, "at the end"):
                    writer.close(is_finished)
            self._file, self._writers = None, []

    @contextlib.contextmanager
    def _dropped_if_it_fails(self, writer: Writer, when: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if atomic.is_full(error):
                raise
            self._writers.remove(writer)
            logging.warning(
                "the writer %s failed %s: %s: %s; the run goes on without it, and its numbers are "
                "in %s",
                *(type(writer).__name__, when, type(error).__name__, error, METRICS_FILE),
            )

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # What there is no room for is in its buffers still.
        with contextlib.suppress(OSError) if error is not None else contextlib.nullcontext():
            self.close(is_finished=error is None)


def _begin(writer: Writer, workdir: Path, config: Mapping[str, Any], first: int) -> None:
    """Lets a writer begin.

    Raises:
        ValueError: with its reason, if it cannot.
    """
    try:
        writer.begin(workdir, config, first)
    except Exception as error:
        if atomic.is_full(error):
            raise
        raise ValueError(
            f"the writer {type(writer).__name__} cannot begin: {type(error).__name__}: {error}"
        ) from error


def read_metrics(workdir: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Reads the records of a run.

    Args:
        workdir: the run directory.

    Returns:
        The records in the order they were written; none if there is no log yet.  An unfinished last
        line of a killed process is left out.

    Raises:
        ValueError: if another line is not a record.
    """
    return [record for _, record in _read(expanded(workdir, field="workdir") / METRICS_FILE)]


def read_log(workdir: str | os.PathLike[str]) -> str:
    """Returns the text of the log, which checkpoints keep: its lines have no checksum."""
    path = expanded(workdir, field="workdir") / METRICS_FILE
    return path.read_text(encoding="utf-8") if path.exists() else ""


def mend_log(workdir: str | os.PathLike[str], text: str | None) -> None:
    """Writes the log as it was at a checkpoint, with a warning where it was damaged since.

    Args:
        workdir: the run directory.
        text: that the checkpoint keeps; None, of an earlier version's: the log is left as it is.
    """
    path = expanded(workdir, field="workdir") / METRICS_FILE
    kept = path.read_bytes() if path.exists() else b""
    if text is None or kept == text.encode():
        return
    if not kept.startswith(text.encode()):  # else it was killed before the next checkpoint
        logging.warning("%s is damaged or gone, and written anew from the checkpoint", path)
    with atomic.replace(path) as file:
        file.write(text.encode())


def write_csv(workdir: str | os.PathLike[str]) -> Path:
    """Writes the records of a run as metrics.csv, one row a record.

    Args:
        workdir: the run directory.

    Returns:
        The path of the file.  Its columns are in the order the log first names them; a list
        becomes one column per entry, `recall/0`, `recall/1`, ...; what is absent or null is empty.
    """
    rows = [dict(_columns(record)) for record in read_metrics(workdir)]
    names = dict.fromkeys(name for row in rows for name in row)
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, names or ["step"], lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    path = expanded(workdir, field="workdir") / CSV_FILE
    content = text.getvalue().encode()
    if not path.exists() or path.read_bytes() != content:
        with atomic.replace(path) as file:
            file.write(content)
    return path


def _read(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields each line and its record."""
    if not path.exists():
        return
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is damaged ({error.reason} at byte {error.start})") from None
    for number, line in enumerate(lines, start=1):
        if not line.endswith("\n"):
            logging.warning("%s: line %d is unfinished and ignored", path, number)
            return
        try:
            record = json.loads(line)
            record["step"] += 0  # a number, or it is not a record
        except (ValueError, TypeError, KeyError, RecursionError):
            raise ValueError(f"{path}: line {number} is not a record of metrics") from None
        yield line, record


def _columns(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the names and values of a record, with lists and groups flattened."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from _columns(item, f"{name}/{key}" if name else str(key))
    else:
        yield name, value
