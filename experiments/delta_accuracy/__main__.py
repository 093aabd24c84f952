"""Reproduces P3, "A look into robustness": accuracy lost from MNIST to AlignMNIST, six networks.

    python -m experiments.delta_accuracy --scale=smoke|cpu|paper [--as_published]

Trains the modern LeNet and P3's five versions of it, sets accuracies and delta-accuracies beside
the published ones, tests every claim of the text, and draws figures 1 to 5. Copies come from the
published AlignMNIST where it lies in the data folder, else from `alignmnist_generated`.
`--as_published` does what the author's code does. `--dry_run` says how long it takes here; rerun
the same command to resume after a stop.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.delta_accuracy import figures, plan, table
from rbjax import sweep

SCALES = {"smoke": plan.SMOKE, "cpu": plan.CPU, "paper": plan.PAPER}
SWITCHES = {"as_published": "as the author's code does it, where the paper says otherwise"}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the experiment; the exit code is that of `sweep.command`."""
    return sweep.command(
        {name: functools.partial(plan.cells, scale) for name, scale in SCALES.items()},
        {name: functools.partial(table.report, scale=scale) for name, scale in SCALES.items()},
        name="delta_accuracy",
        kept=Path(__file__).with_name("results"),
        doc=(__doc__ or "").splitlines()[0],
        figures={name: functools.partial(figures.draw, scale=s) for name, s in SCALES.items()},
        switches=SWITCHES,
        conclusions=("What the text claims", "What follows"),
        argv=argv,
    )


if __name__ == "__main__":
    sys.exit(main())
