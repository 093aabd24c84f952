"""What runs the cells of a grid that is a command, and what the command says of how they ended."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

from rbjax.tables import lookup

if TYPE_CHECKING:  # JAX comes with it, and --help should not wait for it
    from rbjax.sweep.grid import Cell, Ended

_COUNTED = ("cpus", "gpus", "memory")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what every grid takes: its folders, which cells, and the engine that runs them."""
    parser.add_argument("--results", help="the folder of results; results in the workdir")
    parser.add_argument("--only", default="", help="run only cells whose name has this in it")
    parser.add_argument("--dry_run", action="store_true", help="say what it takes, and stop")
    parser.add_argument("--engine", default="process", help="process: cells in sequence; ray: many")
    parser.add_argument("--cpus", type=int, help="of a cell, on Ray; 1")
    parser.add_argument("--gpus", type=float, help="of a cell, on Ray; none")
    parser.add_argument("--memory", type=float, help="of a cell, on Ray, in GiB; not counted")


type Engine = Callable[..., Ended]
"""(cells, workdir, results=...) -> how they ended."""


def engine(arguments: argparse.Namespace) -> Engine:
    """Returns what runs the cells.

    Raises:
        ValueError: for an unknown engine, or resources that only Ray counts.
    """
    given = {field: value for field in _COUNTED if (value := getattr(arguments, field)) is not None}
    run = lookup(_ENGINES, arguments.engine, what="engine")
    if given and arguments.engine != "ray":
        raise ValueError(f"--{next(iter(given))}: only with --engine=ray")
    return functools.partial(run, **given)


def _in_sequence(*args: Any, **options: Any) -> Ended:
    from rbjax.sweep.grid import run

    return run(*args, **options)


def _on_ray(*args: Any, **options: Any) -> Ended:
    from rbjax.sweep.on_ray import run_on_ray

    return run_on_ray(*args, **options)


_ENGINES: dict[str, Engine] = {"process": _in_sequence, "ray": _on_ray}


def chosen(cells: Sequence[Cell], only: str) -> list[Cell]:
    """Returns the cells with `only` in their names.

    Raises:
        ValueError: if no name has it.
    """
    some = [cell for cell in cells if only in cell.name]
    if not some:
        names = ", ".join(cell.name for cell in cells[:5])
        more = f" and {len(cells) - 5} more" if len(cells) > 5 else ""
        raise ValueError(f"--only={only}: in no name of {len(cells)} cells: {names}{more}")
    return some


def left(cells: Sequence[Cell], done: Collection[str], ended: Ended) -> dict[str, list[str]]:
    """Returns the names of the cells without a result, by what became of them.

    Args:
        cells: the grid.
        done: the names of those that have one.
        ended: how those that were run have ended.
    """
    known = {*done, *ended.failed, *ended.elsewhere}
    found = {
        "failed (see failures/)": ended.failed,
        "another process works on": ended.elsewhere,
        "not run yet": [cell.name for cell in cells if cell.name not in known],
    }
    return {words: names for words, names in found.items() if names}
