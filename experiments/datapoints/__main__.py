"""Reproduces P4, "Robustness as Inherent Property of Datapoints", on real MNIST.

    python -m experiments.datapoints --scale=smoke|cpu|paper [--workdir=runs/datapoints]

Trains M, P4's simple CNN; scores test under every reading of its scheme; then, for the readings
that come nearest to the paper's test ratio (`paper`: for all), scores train and test with every
seed, trains M_R on the robust training images and M_C on as many at random, and scores both on the
same test draws. Writes figure1.png to figure5.png and the table as table.txt, table.md and
table.json. `smoke` takes a minute, `cpu` at most an hour on two cores; `plan.py` says what each
does. Rerun the same command to resume after a stop.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

import numpy as np

from experiments.datapoints import figures, plan, results, stages, table
from experiments.datapoints.readings import READINGS
from experiments.datapoints.stages import Lab, Model
from rbjax import atomic, console
from rbjax.errors import TrainingStoppedError
from rbjax.training import run_directory


@console.steady()
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the experiment; returns 0, or 1 if a training stopped early, or 2 for a mistake."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scale", default="smoke", help="smoke (the default), cpu or paper")
    parser.add_argument("--workdir", help="the experiment's folder; runs/datapoints_SCALE")
    arguments = parser.parse_args(argv)
    try:
        run(arguments.scale, arguments.workdir or f"runs/datapoints_{arguments.scale}")
    except (ValueError, OSError) as error:
        print(f"datapoints: {error}", file=sys.stderr)
        return 2
    except TrainingStoppedError as error:
        print(f"datapoints: {error}", file=sys.stderr)
        return 1
    return 0


@run_directory.job
def run(scale: str, workdir: str) -> None:
    """Runs one scale of the experiment in a folder, or resumes it.

    Args:
        scale: one of `plan.SCALES`.
        workdir: the experiment's folder; it belongs to one scale for good.

    Raises:
        ValueError: for an unknown scale, or a folder that holds something else.
    """
    made = plan.scale(scale)
    lab = stages.open_lab(workdir, made)
    progress = _Progress()
    for line in plan.cuts(made):
        print(f"cut: {line}")
    _scan(lab, progress)
    near = results.followed(lab)
    for seed in range(made.num_seeds):
        for reading in near:
            _follow(lab, seed, reading, progress)
    _write(lab, near[0])
    progress.end(lab)


class _Progress:
    """Prints the progress of the experiment and the time it took."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    def tell(self, line: str) -> None:
        print(f"[{(time.perf_counter() - self._began) / 60:5.1f} min] {line}", flush=True)

    def scored(self, lab: Lab, model: Model, reading: str, split: str) -> None:
        """Scores, if necessary, and prints the result."""
        scores = stages.scores(lab, model, reading, split)
        self.tell(
            f"{model.name}, {reading}, {split}: {results.ratio(scores):.4f} of "
            f"{len(scores.labels):,} images robust, {scores.draws / scores.seconds:,.0f} draws/s"
        )

    def classified(self, lab: Lab, model: Model) -> None:
        """Trains, if necessary, and prints the accuracy."""
        classes = stages.classified(lab, model)
        self.tell(f"{model.name}: test accuracy {np.mean(classes.correct):.2%}")

    def end(self, lab: Lab) -> None:
        total = stages.seconds(lab) / 60
        self.tell(f"done: {lab.workdir}; training and scoring took {total:.1f} min in all calls")


def _scan(lab: Lab, progress: _Progress) -> None:
    """Trains the first seed's M, and scores test with every reading."""
    progress.classified(lab, Model(0))
    for reading in READINGS:
        progress.scored(lab, Model(0), reading, "test")


def _follow(lab: Lab, seed: int, reading: str, progress: _Progress) -> None:
    """Scores both splits under M, trains on robust and on random images, and scores test again."""
    progress.classified(lab, Model(seed))
    for split in ("test", "train"):
        progress.scored(lab, Model(seed), reading, split)
    for kind in stages.KINDS:
        model = Model(seed, kind, reading)
        progress.classified(lab, model)
        progress.scored(lab, model, reading, "test")


def _write(lab: Lab, reading: str) -> None:
    """Writes tables and figures, and prints the text."""
    summary = results.summarize(lab)
    text = table.report(summary, markdown=False)
    for name, content in (("txt", text), ("md", table.report(summary, markdown=True))):
        with atomic.replace(lab.workdir / f"table.{name}") as file:
            file.write(f"{content}\n".encode())
    atomic.write_json(lab.workdir / "table.json", summary)
    figures.draw(lab, reading)
    print(f"\n{text}\n")


if __name__ == "__main__":
    sys.exit(main())
