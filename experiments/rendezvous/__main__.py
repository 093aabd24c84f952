"""Reproduces P1: what robust training does to the bias of networks trained on imbalanced data.

    python -m experiments.rendezvous --scale=smoke|cpu|paper [--dataset=mnist,cifar10,...]
        [--workdir=...] [--results=...] [--only=mnist] [--dry_run]

Trains P1's networks by its five methods and by none at its levels of distribution bias, of P1's
sizes and of equal ones, and with remedies for imbalance at the long-tailed one; tests each as it
is, corrupted, and under a universal perturbation crafted against it; and says in words which
methods amplify the bias and which mitigate it. `plan.py` says what each scale does. Rerun the same
command to resume after a stop; parts run by `--only`, and results can be gathered from several
machines.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.rendezvous import figures, plan, table
from rbjax import sweep


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the experiment; the exit code is that of `sweep.command`."""
    scales = plan.SCALES.items()
    return sweep.command(
        {name: functools.partial(plan.cells, scale) for name, scale in scales},
        {name: functools.partial(table.report, scale=scale) for name, scale in scales},
        figures={name: functools.partial(figures.draw, scale=scale) for name, scale in scales},
        settings={"dataset": f"in place of the scale's own, of {', '.join(plan.SOURCES)}"},
        name="rendezvous",
        kept=Path(__file__).with_name("results"),
        doc=(__doc__ or "").splitlines()[0],
        conclusions=("Answer",),
        argv=argv,
    )


if __name__ == "__main__":
    sys.exit(main())
