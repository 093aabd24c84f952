"""A grid over the CPUs and GPUs of a Ray cluster, one machine or many: a task a cell."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rbjax import atomic
from rbjax.options import Count, NotNegative, Positive, checked
from rbjax.paths import expanded
from rbjax.sweep import grid
from rbjax.sweep.grid import Cell, Ended


class Outcome(NamedTuple):
    """How a cell ended on another process, which may see other files."""

    how: str
    """A field of `Ended`."""
    lines: list[str]
    """That were told."""
    files: dict[str, str]
    """Of its result, or of its failure, by their paths."""


@checked
def run_on_ray(
    cells: Sequence[Cell],
    workdir: str,
    *,
    results: str | None = None,
    cpus: Count = 1,
    gpus: NotNegative = 0.0,
    memory: Positive | None = None,
    tell: Callable[[str], object] = print,
) -> Ended:
    """Runs the cells that are not finished as tasks of Ray, as many at once as there is room for.

    Ray is started on this machine, or joined at RAY_ADDRESS. It gives a cell whose process dies to
    another one, three times at most; an exception is the cell's own, as with `run`.

    Args:
        cells: as for `run`; their functions are imported, or pickled, where they run.
        workdir: as for `run`. Where the nodes share no files, run directories stay on the node of
            their cell, and results are fetched.
        results: as for `run`.
        cpus: of a cell, which computes with as many threads.
        gpus: of a cell; a half: two share one.
        memory: of a cell, in GiB; None: it is not counted.
        tell: is called with each line of progress.

    Returns:
        As `run`.

    Raises:
        ValueError: as `run`; or if Ray is not installed.
        StoppedError: as `run`.
    """
    ray = _ray()
    folder = expanded(workdir, field="workdir").absolute()
    store = expanded(results, field="results").absolute() if results else folder / "results"
    done = grid.read(cells, str(store))
    ended = Ended(list(done), [], [])
    if not ray.is_initialized():
        ray.init()
    task = ray.remote(_attempt).options(
        num_cpus=cpus,
        num_gpus=gpus,
        memory=None if memory is None else int(memory * 2**30),
        # JAX's CPU client does not read OMP_NUM_THREADS, which Ray sets.
        runtime_env={"env_vars": {"NPROC": str(cpus)}},
    )
    running = {
        task.remote(cell, str(folder), str(store), f"[{number}/{len(cells)}] {cell.name}"): cell
        for number, cell in enumerate(cells, start=1)
        if cell.name not in done
    }
    while running:
        (ready,), _ = ray.wait(list(running), num_returns=1)
        cell = running.pop(ready)
        failure = grid.failure_of(cell, folder)
        try:
            outcome = ray.get(ready)
        except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
            lines = [f"{cell.name}: failed: {type(error).__name__}: {error}"]
            outcome = Outcome("failed", lines, {str(failure): str(error)})
        if outcome.how == "finished":
            failure.unlink(missing_ok=True)
        for path, text in outcome.files.items():
            _fetched(Path(path), text)
        for line in outcome.lines:
            tell(line)
        getattr(ended, outcome.how).append(cell.name)
    return grid.settled(cells, ended, store)


def _attempt(cell: Cell, folder: str, store: str, title: str) -> Outcome:
    """Runs a cell in a process of Ray's."""
    lines: list[str] = []
    how = grid.attempt(cell, Path(folder), Path(store), title=title, tell=lines.append)
    places = (Path(store) / f"{cell.name}.json", grid.failure_of(cell, Path(folder)))
    files = {str(path): path.read_text(encoding="utf-8") for path in places if path.exists()}
    return Outcome(how, lines, files)


def _fetched(path: Path, text: str) -> None:
    """Writes a file of a cell, unless it was written where this process sees it."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic.replace(path) as file:
            file.write(text.encode())


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise ValueError(
            "the engine ray needs Ray, which is not installed: pip install 'rbjax[ray]'"
        ) from None
