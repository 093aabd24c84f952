"""Reproduces P4, "Robustness as Inherent Property of Datapoints", on real MNIST.

    python -m experiments.datapoints --scale=smoke|cpu|paper [--unbalanced] [--workdir=...]
        [--results=...] [--only=retrain]

Trains M, P4's simple CNN, in every reading of the model, and scores test and train under readings
of its scheme; trains on the training images that withstand M (M_R), on as many at random (M_C) and
on as many of each class at random (M_B), for M's epochs and for M's updates; and approaches
PRBench's MNIST row.  Prints the published numbers of expected.json beside ours, and what follows.
Rerun the same command to resume after a stop.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.datapoints import figures, plan, table
from rbjax import sweep


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the experiment; the exit code is that of `sweep.command`."""
    scales = plan.SCALES.items()
    return sweep.command(
        {name: functools.partial(plan.grid, scale) for name, scale in scales},
        {name: functools.partial(table.report, scale=scale) for name, scale in scales},
        figures={name: functools.partial(figures.draw, scale=scale) for name, scale in scales},
        switches={"unbalanced": "keep as many robust images of a class as it has, up to 1,500"},
        name="datapoints",
        kept=Path(__file__).with_name("results"),
        doc=(__doc__ or "").splitlines()[0],
        conclusions=("Conclusions",),
        argv=argv,
    )


if __name__ == "__main__":
    sys.exit(main())
