"""A grid of runs: each cell is trained and evaluated once, wherever and however often it starts.

    cells = [sweep.Cell("pgd-0", pgd_config), sweep.Cell("trades-0", trades_config), ...]
    sweep.run(cells, "runs/methods", results="experiments/methods/results")
    results = sweep.read(cells, "experiments/methods/results")  # {name: result} of what is finished

A cell is a pure function of its config, and has a run directory of its own.  Its result is a small
JSON file, which alone is enough for it to be skipped: a grid can be gathered from several starts
and machines, and its results be committed without the runs.  What was stopped is resumed, what
failed is named while the rest goes on, and what another process works on is left to it.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import rbjax
from rbjax import atomic, console, main
from rbjax import config as schema
from rbjax.analysis.evaluation import read_arrays, read_report
from rbjax.command_line import resolve
from rbjax.config import Config
from rbjax.cost import Cost, estimate
from rbjax.errors import InUseError, NotFiniteError, TrainingStoppedError
from rbjax.paths import expanded
from rbjax.tables import nearest
from rbjax.training import run_directory

Result = dict[str, Any]


def job(config: Config, workdir: str) -> Result:
    """Runs a config's task as the command line does, and returns what an evaluation found.

    Args:
        config: not yet resolved.
        workdir: the run directory.

    Returns:
        "step", "train_count" (K,) and "count" (K,), training and test images of each class; and for
        "clean", each attack and "worst" under "results" the number of images of each class that
        are "correct" (K,) and "predicted" (K,; not for "worst"), and "rows", a hexadecimal number
        whose bits say which test images are correct: `rows` reads it, for paired comparisons.
        "labels" are those of the test images, read by `labels`.  "corruptions" has the accuracy
        under each at each severity, where the config has any.
    """
    main.run(config, workdir)
    report = read_report(workdir)
    results: Result = {}
    with read_arrays(Path(workdir), report) as arrays:
        labels = arrays["labels"]
        for label in (*report["order"], "worst"):
            is_correct = arrays[label] if label == "worst" else arrays[label] == labels
            counts = np.bincount(labels[is_correct], minlength=len(report["class_names"]))
            results[label] = {"correct": counts, "rows": np.packbits(is_correct).tobytes().hex()}
            if label != "worst":
                matrix = report["results"][label]["confusion"]
                results[label]["predicted"] = matrix.sum(axis=0)[: len(counts)]
    found = {"step": report["step"], "results": results, "count": report["class_counts"]}
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
    """Letters, digits, `-`, `_` and `.`; of its run directory and of its result's file."""
    config: Config
    """As `rbjax.config.default()` makes it, not yet resolved."""
    run: Callable[..., Mapping[str, Any]] = job
    """(config, workdir, **options) -> the result, plain values and small arrays."""
    options: Mapping[str, Any] = {}
    """Keywords of `run` that are not in the config; plain values."""


class Ended(NamedTuple):
    """How the cells of a grid stand after `run`, by name."""

    finished: list[str]
    failed: list[str]
    elsewhere: list[str]
    """Those that another process works on."""


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
        TrainingStoppedError: if a cell was stopped by SIGTERM; the same call resumes it.
    """
    folder = expanded(workdir, field="workdir")
    store = expanded(results, field="results") if results else folder / "results"
    done = read(cells, str(store))
    ended = Ended(list(done), [], [])
    for number, cell in enumerate(cells, start=1):
        title, failure = f"[{number}/{len(cells)}] {cell.name}", folder / "failures" / cell.name
        if cell.name in done:
            continue
        started = time.perf_counter()
        try:
            with run_directory.hold(folder / cell.name):
                if not read([cell], str(store)):  # unless another process finished it meanwhile
                    tell(f"{title}: begins")
                    result = cell.run(cell.config, str(folder / cell.name), **cell.options)
                    _write(cell, result, store, time.perf_counter() - started)
        except InUseError as error:
            ended.elsewhere.append(cell.name)
            tell(f"{title}: left to another process ({error})")
        except Exception as error:  # whatever it is, it must not cost the other cells
            if isinstance(error, TrainingStoppedError) and not isinstance(error, NotFiniteError):
                raise  # asked to stop
            failure.parent.mkdir(parents=True, exist_ok=True)
            failure.with_suffix(".txt").write_text(traceback.format_exc(), encoding="utf-8")
            ended.failed.append(cell.name)
            tell(f"{title}: failed: {type(error).__name__}: {error}")
        else:
            failure.with_suffix(".txt").unlink(missing_ok=True)
            ended.finished.append(cell.name)
            tell(f"{title}: finished in {time.perf_counter() - started:.0f} s")
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
            of another config.
    """
    names = [cell.name for cell in cells]
    for name in names:
        if not re.fullmatch(r"[\w.-]+", name) or name.startswith(".") or names.count(name) > 1:
            raise ValueError(
                f"cell {name!r}: its name must be its own, of letters, digits, '-', '_' and '.'"
            )
    found: dict[str, Result] = {}
    for cell in cells:
        path = expanded(results, field="results") / f"{cell.name}.json"
        if path.exists():
            stored = atomic.read_json(path)
            _check_same(cell, stored, path)
            found[cell.name] = stored["result"]
    return found


def _write(cell: Cell, result: Mapping[str, Any], store: Path, seconds: float) -> None:
    store.mkdir(parents=True, exist_ok=True)
    about = {
        "cell": cell.name,
        "config": _said(cell),
        "options": dict(cell.options),
        "result": dict(result),
        "seconds": round(seconds, 1),
        "device": jax.devices()[0].device_kind,
        "versions": {"rbjax": rbjax.__version__, "jax": jax.__version__},
    }
    atomic.write_json(store / f"{cell.name}.json", about)


def _said(cell: Cell) -> dict[str, Any]:
    """Returns what a cell's config says, by dotted name: where it is not the default."""
    usual = dict(schema.flat(schema.default().to_dict()))
    return {
        name: value
        for name, value in schema.flat(cell.config.to_dict())
        if value is not None and value != usual.get(name) and name not in ("workdir", "data_dir")
    }


def _check_same(cell: Cell, stored: Any, path: Path) -> None:
    """Refuses a result of another config.

    What is compared is what the config says, not what it is resolved to: a later version has fields
    that this one lacks.

    Raises:
        ValueError: naming the fields.
    """
    if not isinstance(stored, dict) or not {"config", "options", "result"} <= stored.keys():
        raise ValueError(f"{path}: is not the result of a cell; remove it to run the cell anew")
    here = atomic.plain({**_said(cell), **cell.options})
    there = {**stored["config"], **stored["options"]}
    differing = sorted(k for k in {*here, *there} if here.get(k) != there.get(k))
    if differing:
        name = differing[0]
        raise ValueError(
            f"{path}: is of another config ({name} = {there.get(name)!r} there, {here.get(name)!r} "
            f"here{f', and {len(differing) - 1} more' if len(differing) > 1 else ''}); give other "
            "results, or remove it to run the cell anew"
        )


# ------------------------------------------------------------------ from the command line


def command(
    scales: Mapping[str, Callable[[], Sequence[Cell]]],
    tables: Mapping[str, Callable[[Mapping[str, Result]], str]],
    *,
    name: str,
    doc: str,
    argv: Sequence[str] | None = None,
) -> int:
    """Runs an experiment that is a grid: `python -m experiments.NAME --scale=SCALE`.

    Args:
        scales: the grid of each scale; the first is the default.
        tables: what is printed of the results that are there, {name: result}, for each scale; it
            is written to table.md beside them.
        name: of the experiment.
        doc: its first line is shown by `--help`.
        argv: the arguments; None: the process's own.

    Returns:
        The exit code: 0 done; 1 a cell failed, was stopped, or is another process's; 2 for a
        mistake in what was typed.
    """
    parser = argparse.ArgumentParser(prog=f"python -m experiments.{name}", description=doc)
    parser.add_argument("--scale", default=next(iter(scales)), help=" | ".join(scales))
    parser.add_argument("--workdir", help=f"the folder of runs; runs/{name}_SCALE")
    parser.add_argument("--results", help="the folder of results; results in the workdir")
    parser.add_argument("--only", default="", help="run only cells whose name has this in it")
    parser.add_argument("--dry_run", action="store_true", help="say what it takes, and stop")
    arguments = parser.parse_args(argv)
    with console.steady():
        try:
            if arguments.scale not in scales:
                raise ValueError(
                    f"--scale={arguments.scale}: unknown; allowed: {', '.join(scales)}"
                    f"{nearest(arguments.scale, scales)}"
                )
            cells = scales[arguments.scale]()
            chosen = [cell for cell in cells if arguments.only in cell.name]
            if not chosen:
                raise ValueError(f"--only={arguments.only}: in no name of {len(cells)} cells")
            workdir = arguments.workdir or f"runs/{name}_{arguments.scale}"
            results = arguments.results or f"{workdir}/results"
            if arguments.dry_run:
                print(forecast(chosen, results))
                return 0
            ended = run(chosen, workdir, results=results)
            text = tables[arguments.scale](read(cells, results))
            with atomic.replace(Path(results) / "table.md") as file:
                file.write(f"{text}\n".encode())
            print(f"\n{text}")
        except (ValueError, OSError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 2
        except TrainingStoppedError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
        missing = [cell.name for cell in cells if cell.name not in ended.finished]
        for words, names in (
            ("failed (see failures/)", ended.failed),
            ("another process works on", ended.elsewhere),
            ("not run yet", [n for n in missing if n not in ended.failed + ended.elsewhere]),
        ):
            if names:
                print(f"{words}: {', '.join(names)}")
    return int(bool(ended.failed or ended.elsewhere))


def forecast(cells: Sequence[Cell], results: str) -> str:
    """Returns a table of what each cell takes: steps, operations, and minutes on this machine.

    Args:
        cells: the grid; those that differ in their seed alone are measured once.
        results: the folder of results; what is finished there costs nothing.

    Raises:
        ValueError: as `read`, or if a part of a config cannot be made.
    """
    done, known = read(cells, results), dict[str, Cost]()
    lines, total = [f"{'cell':<40} {'steps':>9} {'TFLOP':>10} {'minutes':>8}"], 0.0
    uncounted: dict[str, None] = {}
    for cell in cells:
        if cell.name in done:
            lines.append(f"{cell.name:<40} finished")
            continue
        about = str(sorted((k, str(v)) for k, v in _said(cell).items() if k != "seed"))
        if about not in known:
            known[about] = estimate(resolve(cell.config, cell.name))
        cost = known[about]
        total += cost.seconds
        uncounted |= dict.fromkeys(cost.uncounted)
        flops = (cost.train_flops + cost.evaluation_flops) / 1e12
        lines.append(f"{cell.name:<40} {cost.steps:>9,} {flops:>10.3g} {cost.seconds / 60:>8.1f}")
    lines.append(f"{'all that is left':<40} {'':>9} {'':>10} {total / 60:>8.1f}")
    lines.append(
        "FLOPs of matrix products and convolutions; minutes from two steps of each, without "
        "compiling" + (f", and without {', '.join(uncounted)}" if uncounted else "")
    )
    return "\n".join(lines)
