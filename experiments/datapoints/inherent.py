"""Is robustness a property of the datapoint? P4's title says so, and this tests it.

    python -m experiments.datapoints.inherent --scale=smoke|cpu|paper [--workdir=runs/inherent]

Scores the same test images with the same draws under four families of models (P4's CNN, LeNet-5, a
multilayer perceptron, extremely randomised trees) of three seeds, and asks to whom the differences
between failure probabilities belong. Writes inherent.png, inherent.txt and inherent.json. P4's 28
pixels never fool these models on most images, and datapoints that never fail cannot be compared; so
a seventh of the pixels become black or white here (`--values`, `--pixels`). `smoke` takes a minute
on scikit-learn's digits; the others are on MNIST. A call that was stopped goes on where it was when
the same command is given again.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from experiments.datapoints import inherent_figure, inherent_findings, inherent_plan
from experiments.datapoints.inherent_models import Lab, Scheme, measure, open_lab
from experiments.datapoints.inherent_plan import FAMILIES
from rbjax import atomic, data
from rbjax.errors import TrainingStoppedError
from rbjax.perturbations.pixels import VALUES


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the experiment; returns 0, or 1 if a training stopped early, or 2 for a mistake."""
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
        plan = inherent_plan.scale(arguments.scale)
        run(open_lab(arguments.workdir or f"runs/inherent_{arguments.scale}", plan, scheme))
    except (ValueError, OSError) as error:
        print(f"inherent: {error}", file=sys.stderr)
        return 2
    except TrainingStoppedError as error:
        print(f"inherent: {error}", file=sys.stderr)
        return 1
    return 0


def run(lab: Lab) -> None:
    """Measures what is not yet measured, and writes what it says into the experiment's folder.

    Args:
        lab: the experiment.
    """
    began = time.perf_counter()

    def tell(line: str) -> None:
        print(f"[{(time.perf_counter() - began) / 60:5.1f} min] {line}", flush=True)

    for line in inherent_plan.cuts(lab.plan):
        print(f"cut: {line}")
    measured = measure(lab, tell)
    findings = inherent_findings.find(
        measured, lab.plan.max_steps, num_resamples=lab.plan.num_resamples
    )
    title, answer = _title(lab), inherent_findings.sentence(findings)
    report = f"{title}\n\n{inherent_findings.table(findings, FAMILIES)}\n\n{answer}\n"
    inherent_figure.draw(lab.workdir / "inherent.png", findings, FAMILIES, title)
    with atomic.replace(lab.workdir / "inherent.txt") as file:
        file.write(report.encode())
    about = {"families": FAMILIES, "scheme": title, "sentence": answer}
    atomic.write_json(lab.workdir / "inherent.json", {**findings, **about})
    print(f"\n{report}\n{lab.workdir}: inherent.png, inherent.txt, inherent.json")
    tell(f"done; all of it took {measured.seconds / 60:.1f} min")


def _title(lab: Lab) -> str:
    scheme = lab.scheme.perturbation(data.info(lab.plan.dataset).image_shape)
    return (
        f"{lab.plan.dataset}, exactly {scheme.max_pixels} random pixels with {scheme.values} "
        f"values, {lab.plan.repetitions} x {lab.plan.max_steps} draws"
    )


if __name__ == "__main__":
    sys.exit(main())
