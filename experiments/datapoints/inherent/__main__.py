"""Is robustness a property of the datapoint? P4's title says so, and this tests it.

    python -m experiments.datapoints.inherent --scale=smoke|cpu|paper [--workdir=runs/inherent]

Scores the same test images with the same draws under four families of models (P4's CNN, LeNet-5, a
multilayer perceptron, extremely randomised trees) of three seeds, and asks what the differences
between failure probabilities belong to. Writes inherent.png, inherent.txt and inherent.json. With
P4's 28 pixels these models never fail on most images, and such images cannot be compared; so
a seventh of the pixels becomes black or white here (`--values`, `--pixels`). `smoke` takes a minute
on scikit-learn's digits; the others are on MNIST. Rerun the same command to
resume after a stop.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from experiments.datapoints.inherent import figure, findings, plan
from experiments.datapoints.inherent.models import Lab, Scheme, measure, open_lab
from experiments.datapoints.inherent.plan import FAMILIES
from rbjax import atomic, console, data, stops
from rbjax.errors import NotFiniteError, StoppedError, exit_code
from rbjax.paths import expanded
from rbjax.perturbations.pixels import VALUES
from rbjax.training import run_directory


@console.steady()
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the experiment; returns the exit code (docs/stops.md)."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scale", default="smoke", help="smoke (the default), cpu or paper")
    parser.add_argument("--workdir", help="the experiment's folder; runs/inherent_SCALE")
    parser.add_argument(
        "--values",
        default="binary",
        help=f"law of a new value: {', '.join(VALUES)} (default: binary)",
    )
    parser.add_argument("--pixels", type=int, help="pixels replaced; a seventh of the image's")
    arguments = parser.parse_args(argv)
    try:
        scheme = Scheme(arguments.values, arguments.pixels)
        workdir = arguments.workdir or f"runs/inherent_{arguments.scale}"
        workdir = str(expanded(workdir, field="workdir"))
        with stops.heeded(), run_directory.hold(workdir):
            run(open_lab(workdir, plan.scale(arguments.scale), scheme))
    except (ValueError, OSError, StoppedError, NotFiniteError) as error:
        print(f"inherent: {error}", file=sys.stderr)
        return exit_code(error) or 2
    return 0


def run(lab: Lab) -> None:
    """Measures what has not been measured yet, and writes the findings into the workdir.

    Args:
        lab: the experiment.
    """
    began = time.perf_counter()

    def tell(line: str) -> None:
        print(f"[{(time.perf_counter() - began) / 60:5.1f} min] {line}", flush=True)

    for line in plan.cuts(lab.plan):
        print(f"cut: {line}")
    measured = measure(lab, tell)
    answers = findings.find(measured, lab.plan.max_steps, num_resamples=lab.plan.num_resamples)
    scheme = lab.scheme.perturbation(data.info(lab.plan.dataset).image_shape)
    title = (
        f"{lab.plan.dataset}, exactly {scheme.max_pixels} random pixels with {scheme.values} "
        f"values, {lab.plan.repetitions} x {lab.plan.max_steps} draws"
    )
    sentence = findings.sentence(answers)
    report = f"{title}\n\n{findings.table(answers, FAMILIES)}\n\n{sentence}\n"
    figure.draw(lab.workdir / "inherent.png", answers, FAMILIES, title)
    with atomic.replace(lab.workdir / "inherent.txt") as file:
        file.write(report.encode())
    about = {"families": FAMILIES, "scheme": title, "sentence": sentence}
    atomic.write_json(lab.workdir / "inherent.json", {**answers, **about})
    print(f"\n{report}\n{lab.workdir}: inherent.png, inherent.txt, inherent.json")
    tell(f"done; all of it took {measured.seconds / 60:.1f} min")


if __name__ == "__main__":
    sys.exit(main())
