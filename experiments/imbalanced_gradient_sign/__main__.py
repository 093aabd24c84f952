"""Reproduces P5: the gradient sign on networks trained with too few or too many images of a class.

    python -m experiments.imbalanced_gradient_sign --scale=smoke|cpu|paper [--as_published]
        [--dataset=cifar100|npz|folder ...] [--path=...] [--image_size=32,32]
        [--workdir=...] [--results=...] [--only=written] [--dry_run]

Trains a balanced network and, class by class, one with a fifth of the class's images and one with
a fifth of all others; attacks each by its own gradients and by those of the balanced one; then the
same without the confounds of P5's code, degrees of imbalance, and long tails. `plan.py` says what
each scale does. `--as_published` trains as P5's code does, in place of all that; give it results of
its own. Rerun the same command to resume after a stop; results can be gathered from several
machines.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.imbalanced_gradient_sign import figures, plan, table
from rbjax import sweep

SWITCHES = {"as_published": "train as the authors' code does"}
SETTINGS = {
    "dataset": "in place of CIFAR-10, a name of the config, or npz or folder",
    "path": "of npz or folder",
    "image_size": "of a folder, height,width",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the experiment; the exit code is that of `sweep.command`."""
    return sweep.command(
        {name: functools.partial(plan.cells, scale) for name, scale in plan.SCALES.items()},
        {name: functools.partial(table.report, scale=scale) for name, scale in plan.SCALES.items()},
        figures={
            name: functools.partial(figures.draw, scale=scale)
            for name, scale in plan.SCALES.items()
        },
        switches=SWITCHES,
        settings=SETTINGS,
        name="imbalanced_gradient_sign",
        kept=Path(__file__).with_name("results"),
        doc=(__doc__ or "").splitlines()[0],
        conclusions=("Conclusion",),
        argv=argv,
    )


if __name__ == "__main__":
    sys.exit(main())
