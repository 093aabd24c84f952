"""Reproduces P2: accuracy and robustness class by class, standard and adversarially trained.

    python -m experiments.classwise --scale=smoke|cpu|paper [--only=datasets|networks|optimizers|
        remedies] [--workdir=...] [--results=...] [--dry_run]

Trains a standard and a PGD-trained network of each dataset, architecture and optimizer, and P2's
remedies; asks whether adversarial training widens the differences between classes, whether the same
classes are vulnerable everywhere, what explains it, and what helps. `plan.py` says what each scale
does. Rerun the same command to resume after a stop; results can be gathered from several machines.
P2's rows of ImageNet are those of `configs/evaluate_imagenet.py`.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.classwise import figures, plan, table
from rbjax import sweep


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the experiment; the exit code is that of `sweep.command`."""
    scales = plan.SCALES.items()
    return sweep.command(
        {name: functools.partial(plan.cells, scale) for name, scale in scales},
        {name: functools.partial(table.report, scale=scale) for name, scale in scales},
        figures={name: functools.partial(figures.draw, scale=scale) for name, scale in scales},
        name="classwise",
        kept=Path(__file__).with_name("results"),
        doc=(__doc__ or "").splitlines()[0],
        conclusions=("Answers",),
        argv=argv,
    )


if __name__ == "__main__":
    sys.exit(main())
