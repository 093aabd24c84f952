"""A grid of runs: each cell is trained and evaluated once, wherever and however often it starts.

    cells = [sweep.Cell("pgd-0", pgd_config), sweep.Cell("trades-0", trades_config), ...]
    sweep.run(cells, "runs/methods", results="experiments/methods/results")
    results = sweep.read(cells, "experiments/methods/results")  # {name: result} of what is finished

A cell is a pure function of its config, and has a run directory of its own.  Its result is a small
JSON file, which alone is enough for it to be skipped: a grid can be gathered from several starts
and machines, and its results be committed without the runs.  What was stopped is resumed, what
failed is named while the rest goes on, and what another process works on is left to it.

`rbjax sweep` makes such a grid of a config and of values for some of its fields.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rbjax.sweep.experiment import command, forecast
    from rbjax.sweep.grid import (
        Cell,
        Ended,
        Result,
        by_seed,
        config_of,
        job,
        labels,
        read,
        rows,
        run,
    )
    from rbjax.sweep.on_ray import run_on_ray

_HOMES = {
    "experiment": ("command", "forecast"),
    "grid": (
        *("Cell", "Ended", "Result", "by_seed", "config_of", "job", "labels", "read", "rows"),
        "run",
    ),
    "on_ray": ("run_on_ray",),
}
"""By module, what is taken from it when it is first asked for: --help waits for no JAX."""

__all__ = [
    "Cell",
    "Ended",
    "Result",
    "by_seed",
    "command",
    "config_of",
    "forecast",
    "job",
    "labels",
    "read",
    "rows",
    "run",
    "run_on_ray",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
