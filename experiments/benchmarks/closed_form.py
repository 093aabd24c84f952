"""How far off are the closed forms of a failure probability, and how much faster than draws?

    python -m experiments.benchmarks.closed_form [--dataset=mnist] [--num-images=512]
        [--num-draws=2000] [--sigmas=0.05,0.1,0.2,0.3,0.5] [--mmse-draws=10] [--train-steps=1500]

Trains the simple CNN for a few hundred steps and takes test images. For each sigma it draws
Gaussian noise, unclipped as the closed forms assume it and clipped to [0, 1] as scoring draws it,
and sets `rbjax.rpr.closed_form` beside the share of the draws that is misclassified:

    seconds   of the estimate for all images, compilation apart
    error     mean absolute difference to the draws; the draws' own mean standard error stands above
    rank      Spearman's correlation with the draws; images of which no draw failed tie, so that it
              is far below 1 for small noise
    outside   share of the images whose estimate is outside the draws' 95 % interval
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable

import numpy as np
from jax.tree_util import Partial

from experiments.benchmarks import machine
from experiments.benchmarks.rpr import create_model, load, train
from rbjax import console, perturbations, prng
from rbjax.rpr import closed_form
from rbjax.rpr.closed_form import ClosedForm
from rbjax.rpr.drawn_error import DrawnError, error_against_draws
from rbjax.typing import LogitsFn

_KEY = prng.key(1)


def estimators(
    logits_fn: LogitsFn, images: np.ndarray, labels: np.ndarray, num_draws: int
) -> dict[str, Callable[[float], ClosedForm]]:
    """Returns every estimator by name, as a function of sigma."""
    arguments = logits_fn, images, labels

    def taylor(form: str) -> Callable[[float], ClosedForm]:
        return lambda sigma: closed_form.taylor(*arguments, sigma=sigma, form=form)

    def mmse(form: str) -> Callable[[float], ClosedForm]:
        # A key of its own: its draws are not those that it is judged by.
        key = prng.key(2)
        options = {"num_draws": num_draws, "form": form}
        return lambda sigma: closed_form.mmse(
            logits_fn, key, images, labels, sigma=sigma, **options
        )

    makers = {"Taylor": taylor, "MMSE": mmse}
    return {
        f"{name}, {form}": make(form) for name, make in makers.items() for form in closed_form.FORMS
    }


def timed[T](function: Callable[[], T]) -> tuple[T, float]:
    """Returns a result and its seconds."""
    began = time.perf_counter()
    return function(), time.perf_counter() - began


@console.steady()
def main() -> None:
    """Measures and prints."""
    arguments = _arguments()
    train_set, test_set = (load(arguments.dataset, split) for split in ("train", "test"))
    images = test_set.images[: arguments.num_images]
    labels = test_set.labels[: arguments.num_images]
    model = create_model(test_set.info)
    variables = train(model, train_set.images, train_set.labels, arguments.train_steps)
    logits_fn = Partial(model.apply, variables)
    print(machine.describe())
    print(
        f"{test_set.info.name}: {len(images)} test images, {arguments.num_draws:,} draws of each; "
        f"MMSE averages {arguments.mmse_draws}"
    )
    ways = estimators(logits_fn, images, labels, arguments.mmse_draws)
    sigmas = [float(sigma) for sigma in arguments.sigmas.split(",")]
    for estimate in ways.values():
        estimate(sigmas[0])
    for sigma in sigmas:
        noise = perturbations.gaussian_noise(sigma=sigma)
        estimates = {name: timed(functools.partial(way, sigma)) for name, way in ways.items()}
        drawn = {}
        for law, perturbation in (("unclipped", noise.change), ("clipped", noise)):
            draws = functools.partial(
                error_against_draws,
                np.zeros(len(images)),
                logits_fn,
                _KEY,
                images,
                labels,
                perturbation=perturbation,
                num_draws=arguments.num_draws,
            )
            drawn[law] = timed(draws)
        _report(sigma, estimates, drawn)


def _report(
    sigma: float,
    estimates: dict[str, tuple[ClosedForm, float]],
    drawn: dict[str, tuple[DrawnError, float]],
) -> None:
    """Prints one row an estimator, beside the draws of each law."""
    print(f"\nsigma {sigma:g}")
    for law, (draws, seconds) in drawn.items():
        print(
            f"    {law} draws: {seconds:.1f} s, mean failure probability {draws.drawn.mean():.4f}, "
            f"mean standard error {draws.mean_standard_error:.4f}"
        )
    columns = f"{'error':>10}{'rank':>8}{'outside':>9}"
    print(f"{'':20}{'seconds':>8}" + "".join(f"{law:>12}:{columns}" for law in drawn))
    for name, (estimate, seconds) in estimates.items():
        cells = ""
        for draws, _ in drawn.values():
            error = draws._replace(estimated=estimate.failure_probability)
            cells += (
                f"{'':13}{error.mean_absolute_error:>10.4f}{error.rank_correlation:>8.3f}"
                f"{error.outside:>9.3f}"
            )
        print(f"    {name:16}{seconds:>8.2f}{cells}", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # pyright: ignore
    parser.add_argument("--dataset", help="mnist if it is prepared, else digits")
    parser.add_argument("--num-images", type=int, default=512)
    parser.add_argument("--num-draws", type=int, default=2000)
    parser.add_argument("--sigmas", default="0.05,0.1,0.2,0.3,0.5", help="in pixel units")
    parser.add_argument("--mmse-draws", type=int, default=10)
    parser.add_argument("--train-steps", type=int, default=1_500)
    return parser.parse_args()


if __name__ == "__main__":
    main()
