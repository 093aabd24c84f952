"""Trains the methods and losses on real data, three seeds each, and sets them side by side.

    python -m experiments.methods --scale=smoke|cpu [--workdir=...] [--results=...] [--only=mnist]

MNIST, long-tailed MNIST and CIFAR-10, GTSRB, and CIFAR-10 class by class; `plan.py` says what each
group is.  GTSRB is read from ~/tensorflow_datasets/gtsrb.npz, an .npz as `dataset.path` takes, with
an array train_tracks; without it its cells fail and the others go on.  `--dry_run` says how long it
takes here.  Rerun the same command to resume after a stop; results can be gathered from several
machines in one folder.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.methods import plan, table
from rbjax import sweep

SCALES = {"smoke": plan.SMOKE, "cpu": plan.CPU}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the experiment; the exit code is that of `sweep.command`."""
    return sweep.command(
        {name: functools.partial(plan.cells, scale) for name, scale in SCALES.items()},
        {name: functools.partial(table.report, scale=scale) for name, scale in SCALES.items()},
        name="methods",
        kept=Path(__file__).with_name("results"),
        doc=(__doc__ or "").splitlines()[0],
        conclusions=("Expected",),
        argv=argv,
    )


if __name__ == "__main__":
    sys.exit(main())
