"""Cells, and running those that are not finished."""

from __future__ import annotations

import datetime
import functools
import re
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import rbjax
from rbjax import atomic, main, stops
from rbjax import config as schema
from rbjax.analysis.evaluation import read_arrays, read_report
from rbjax.analysis.robustness import SCORES_FILE
from rbjax.config import Config
from rbjax.data import looks
from rbjax.errors import FullDiskError, InUseError, StoppedError
from rbjax.paths import expanded
from rbjax.training import contents, run_directory

Result = dict[str, Any]


_NO_PART = ("workdir", "data_dir", "distributed")
"""Fields that decide nothing of what a cell finds."""
_FOLDERS = ("results", "failures")
"""Of a grid, beside the run directories of its cells."""


def job(config: Config, workdir: str) -> Result:
    """Runs a config's task as the command line does, and returns what an evaluation found.

    Args:
        config: not yet resolved.
        workdir: the run directory.

    Returns:
        "step", "train_count" (K,) and "count" (K,), training and test images of each class; and for
        "clean", each attack and "worst" under "results" the number of images of each class that
        are "correct" (K,) and "predicted" (K,; not for "worst"), and "rows", a hexadecimal number
        whose bits say which test images are correct: `rows` reads it, for paired comparisons. An
        attack that counts some images alone has a "count" (K,) of its own.
        "labels" are those of the test images, read by `labels`.  "settings" has norm, epsilon and
        effort of each attack.  "corruptions" has the accuracy under each at each severity, where
        the config has any; "rpr" the draws, and of each class the datapoints ("count") and those
        that withstand all draws ("robust"), where it scores any.
    """
    config = config.copy_and_resolve_references()  # the cell's own stays as it was given
    with config.unlocked():
        config.distributed = "off"  # of several processes each has cells of its own
    main.run(config, workdir)
    found = {"results": {}} if config.task == "score" else _evaluated(workdir)
    if (Path(workdir) / SCORES_FILE).exists():
        scored = atomic.read_json(Path(workdir) / SCORES_FILE)
        counts = {"count": "class_counts", "robust": "class_robust"}
        found["rpr"] = {name: scored["all"][field] for name, field in counts.items()}
        found["rpr"]["max_steps"] = scored["max_steps"]
    return found


def _evaluated(workdir: str) -> Result:
    """Returns what the evaluation in a run directory found, as `job` has it."""
    report = read_report(workdir)
    results: Result = {}
    with read_arrays(Path(workdir), report) as arrays:
        labels = arrays["labels"]
        for label in (*report["order"], "worst"):
            is_correct = arrays[label] if label == "worst" else arrays[label] == labels
            results[label] = {"rows": np.packbits(is_correct).tobytes().hex()}
            if f"{label}/counted" in arrays:  # images of one class alone, or not of a target class
                counted, num_classes = arrays[f"{label}/counted"], len(report["class_names"])
                is_correct = is_correct & counted
                results[label]["count"] = np.bincount(labels[counted], minlength=num_classes)
            counts = np.bincount(labels[is_correct], minlength=len(report["class_names"]))
            results[label]["correct"] = counts
            if label != "worst":
                matrix = report["results"][label]["confusion"]
                results[label]["predicted"] = matrix.sum(axis=0)[: len(counts)]
    found = {"step": report["step"], "results": results, "count": report["class_counts"]}
    found["settings"] = {label: list(setting) for label, setting in report.settings.items()}
    found["train_count"] = report["train_class_counts"]
    found["labels"] = labels.astype(_label_dtype(report["class_counts"])).tobytes().hex()
    if report.get("corruptions"):
        found["corruptions"] = report["corruptions"]["accuracy"]
    return found


def rows(result: Mapping[str, Any], label: str) -> np.ndarray:
    """Returns which test images are correctly classified, as `job` stored it.

    Args:
        result: of `job`.
        label: "clean", an attack's or "worst".

    Returns:
        (N,) bool, in the order of the test set.
    """
    packed = np.frombuffer(bytes.fromhex(result["results"][label]["rows"]), np.uint8)
    return np.unpackbits(packed, count=int(np.sum(result["count"]))).astype(bool)


def labels(result: Mapping[str, Any]) -> np.ndarray:
    """Returns the labels (N,) int64 of the test images, as `job` stored them."""
    stored = bytes.fromhex(result["labels"])
    return np.frombuffer(stored, _label_dtype(result["count"])).astype(np.int64)


def _label_dtype(counts: Sequence[int]) -> str:
    return "<u1" if len(counts) <= 256 else "<u2"


class Cell(NamedTuple):
    """One run of a grid."""

    name: str
    """Letters, digits and `-_.,=`; of its run directory and of its result's file."""
    config: Config
    """As `rbjax.config.default()` makes it, not yet resolved."""
    run: Callable[..., Mapping[str, Any]] = job
    """(config, workdir, **options) -> the result, plain values and small arrays."""
    options: Mapping[str, Any] = {}
    """Keywords of `run` that are not in the config; plain values."""
    passes: int | None = None
    """Forward passes of one image that a `run` of one's own makes once it has trained by the
    config, for `forecast`; None: not known."""


class Ended(NamedTuple):
    """How the cells of a grid stand after `run`, by name."""

    finished: list[str]
    failed: list[str]
    elsewhere: list[str]
    """Those that another process works on."""


@stops.heeded()
def run(
    cells: Sequence[Cell],
    workdir: str,
    *,
    results: str | None = None,
    tell: Callable[[str], object] = print,
) -> Ended:
    """Runs the cells that are not finished, one after another.

    Args:
        cells: the grid; a cell whose result is there already is skipped.
        workdir: the folder of run directories, one for each cell, and of what failed.
        results: the folder of results; `workdir`/results.
        tell: is called with each line of progress.

    Returns:
        What is finished, what failed (its traceback is in `workdir`/failures), and what another
        process works on.

    Raises:
        ValueError: before anything is run, if a name is wrong or given twice, a config is, or a
            result is of another config.
        StoppedError: after Ctrl-C or SIGTERM; the same call goes on.
        FullDiskError: if there is no room; likewise.
    """
    folder = expanded(workdir, field="workdir")
    store = expanded(results, field="results") if results else folder / "results"
    done = read(cells, str(store))
    ended = Ended(list(done), [], [])
    for number, cell in enumerate(cells, start=1):
        if cell.name not in done:
            title = f"[{number}/{len(cells)}] {cell.name}"
            getattr(ended, attempt(cell, folder, store, title=title, tell=tell)).append(cell.name)
    return settled(cells, ended, store)


def attempt(
    cell: Cell, folder: Path, store: Path, *, title: str, tell: Callable[[str], object]
) -> str:
    """Runs one cell, unless its result is there or another process works on it.

    Args:
        cell: the cell.
        folder: of run directories.
        store: of results.
        title: of the lines of progress.
        tell: is called with them.

    Returns:
        How it ended, a field of `Ended`.

    Raises:
        StoppedError: after Ctrl-C or SIGTERM.
    """
    failure, started = failure_of(cell, folder), time.perf_counter()
    try:
        with run_directory.hold(folder / cell.name), looks.once():
            if not read([cell], str(store)):  # unless another process finished it meanwhile
                tell(f"{title}: begins")
                digests = contents.digests(cell.config)
                result = cell.run(cell.config, str(folder / cell.name), **cell.options)
                _write(cell, result, digests, store, time.perf_counter() - started)
    except InUseError as error:
        tell(f"{title}: left to another process ({error})")
        return "elsewhere"
    except (StoppedError, FullDiskError):
        raise  # so would every other cell end
    except Exception as error:  # whatever it is, it must not cost the other cells
        failure.parent.mkdir(parents=True, exist_ok=True)
        failure.write_text(traceback.format_exc(), encoding="utf-8")
        tell(f"{title}: failed: {type(error).__name__}: {error}")
        return "failed"
    failure.unlink(missing_ok=True)
    tell(f"{title}: finished in {time.perf_counter() - started:.0f} s")
    return "finished"


def failure_of(cell: Cell, folder: Path) -> Path:
    """Returns the file that a cell's traceback is written to."""
    return folder / "failures" / f"{cell.name}.txt"


def settled(cells: Sequence[Cell], ended: Ended, store: Path) -> Ended:
    """Returns how cells stand once those of other processes are looked at again."""
    late = read([cell for cell in cells if cell.name in ended.elsewhere], str(store))
    busy = [name for name in ended.elsewhere if name not in late]
    return Ended([*ended.finished, *late], ended.failed, busy)


def read(cells: Sequence[Cell], results: str) -> dict[str, Result]:
    """Returns the results of the cells that are finished, by name, in the order of the grid.

    Args:
        cells: the grid.
        results: the folder of results.

    Raises:
        ValueError: if a name is wrong or given twice, a config is wrong, or a result is damaged or
            of another config, or of other data in the same place.
    """
    names = [cell.name for cell in cells]
    for name in names:
        is_name = re.fullmatch(r"[\w.,=+-]+", name) and not name.startswith(".")
        if not is_name or names.count(name) > 1 or name in _FOLDERS:
            raise ValueError(
                f"cell {name!r}: its name must be its own, of letters, digits, '-', '_', '.', "
                f"',', '=' and '+', and none of {', '.join(_FOLDERS)}"
            )
    found: dict[str, Result] = {}
    with looks.once():  # at data of one's own
        for cell in cells:
            path = expanded(results, field="results") / f"{cell.name}.json"
            if path.exists():
                stored = atomic.read_json(path)
                _check_same(cell, stored, path)
                found[cell.name] = stored["result"]
    return found


def by_seed(
    results: Mapping[str, Result], name: Callable[[int], str], num_seeds: int
) -> dict[int, Result]:
    """Returns the results that are there of cells that differ in their seed alone.

    Args:
        results: of `read`.
        name: seed -> the cell's name.
        num_seeds: of the grid; seeds are 0, 1, ...
    """
    names = {seed: name(seed) for seed in range(num_seeds)}
    return {seed: results[cell] for seed, cell in names.items() if cell in results}


def _write(
    cell: Cell, result: Mapping[str, Any], digests: dict[str, str], store: Path, seconds: float
) -> None:
    store.mkdir(parents=True, exist_ok=True)
    about = {
        "cell": cell.name,
        "config": said(cell),
        "options": dict(cell.options),
        "contents": digests,
        "result": dict(result),
        "seconds": round(seconds, 1),
        "date": datetime.date.today().isoformat(),
        "device": jax.devices()[0].device_kind,
        "versions": {"rbjax": rbjax.__version__, "jax": jax.__version__},
    }
    atomic.write_json(store / f"{cell.name}.json", about)


def said(cell: Cell) -> dict[str, Any]:
    """Returns what a cell's config says, by dotted name: where it is not the default.

    Nulls say nothing: a field that is null before its config is resolved is one that is left out.
    """
    usual = dict(schema.flat(schema.default().to_dict()))
    return {
        name: value
        for name, value in schema.flat(cell.config.to_dict())
        if value is not None and value != usual.get(name) and name not in _NO_PART
    }


def config_of(said: Mapping[str, Any]) -> Config:
    """Returns the config that says so much, by dotted names, as `said` has it."""
    config = schema.default()
    for name, value in said.items():
        *groups, field = name.split(".")
        node = functools.reduce(lambda node, group: node[group], groups, config)
        node[field] = value
    return config


def _check_same(cell: Cell, stored: Any, path: Path) -> None:
    """Refuses a result of another config, or of what else lies where the config says.

    What is compared is what the config says, not what it is resolved to: a later version has fields
    that this one lacks.

    Raises:
        ValueError: naming the fields.
    """
    if not isinstance(stored, dict) or not {"config", "options", "result"} <= stored.keys():
        raise ValueError(f"{path}: is not the result of a cell; remove it to run the cell anew")
    here = atomic.plain({**said(cell), **cell.options})
    there = {**stored["config"], **stored["options"]}
    there = {name: value for name, value in there.items() if name not in _NO_PART}
    differing = sorted(k for k in {*here, *there} if here.get(k) != there.get(k))
    if differing:
        name = differing[0]
        raise ValueError(
            f"{path}: is of another config ({name} = {there.get(name)!r} there, {here.get(name)!r} "
            f"here{f', and {len(differing) - 1} more' if len(differing) > 1 else ''}); give other "
            "results, or remove it to run the cell anew"
        )
    if not (there := stored.get("contents")):  # nothing by its place, or of an earlier version
        return
    try:
        here = contents.digests(cell.config)
    except ValueError:  # elsewhere results are read without their data
        return
    for field in sorted(there):
        if here.get(field) != there[field]:
            raise ValueError(
                f"{path}: is of other data or weights than are there now ({field} has digest "
                f"{there[field]} there, {here.get(field)} here); restore them, give other "
                "results, or remove it to run the cell anew"
            )
