"""What scorings return: plain data, which prints as a table."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from rbjax.metrics import wilson_interval
from rbjax.sheet import Sheet
from rbjax.typing import Perturbation


class Scores(NamedTuple):
    """What scoring returns, one entry an image unless said otherwise."""

    first_failure: np.ndarray
    """(N,) int32, the first draw misclassified, 1 to max_steps; max_steps + 1 where none was."""
    steps: np.ndarray
    """(N,) int32, RPR: `min(first_failure, max_steps)`."""
    robust: np.ndarray
    """(N,) bool, whether no draw was misclassified."""
    clean_correct: np.ndarray
    """(N,) bool, whether the image is correctly classified as it is."""
    max_steps: int
    """Draws of an image at most; fewer than asked for where `stop` ended them."""
    forward_passes_run: int
    """Perturbed images classified, idle lanes included; the clean images are N more."""
    forward_passes_needed: int
    """Sum of `steps`: what a scorer without any waste would run."""
    no_class: np.ndarray
    """(N,) bool, whether the draw that failed is of no class: the model's answer is NaN, or the
    perturbation's is."""
    labels: np.ndarray
    """(N,) int32."""
    num_classes: int | None = None
    """K, where the model says it."""
    drawn: str = ""
    """What the perturbation is called."""

    @property
    def sheet(self) -> Sheet:
        """What is robust, of all images and of those correctly classified."""
        return robustness_sheet("rpr.score", self.robust, self)

    def __repr__(self) -> str:
        return repr(self.sheet)


class Repeated(NamedTuple):
    """The results of several repetitions, one entry an image unless said otherwise."""

    first_failure: np.ndarray
    """(N, R) int32, 1 to max_steps + 1 as in `Scores`; 0 for a repetition that was not run."""
    failures: np.ndarray
    """(N,) int64, repetitions that ended in a failure."""
    draws: np.ndarray
    """(N,) int64, draws of all repetitions."""
    clean_correct: np.ndarray
    """(N,) bool, whether the image is correctly classified as it is."""
    max_steps: int
    forward_passes_run: int
    """Perturbed images classified, idle lanes included."""
    no_class: np.ndarray
    """(N,) bool, whether any draw that failed is of no class, as in `Scores`."""
    labels: np.ndarray
    """(N,) int32."""
    num_classes: int | None = None
    """K, where the model says it."""
    drawn: str = ""
    """What the perturbation is called."""

    @property
    def of_all(self) -> str:
        """Which repetition a table is of, and what is robust in those that every image had.

        With `max_width` later ones are of the images that are not known well enough: what is robust
        among those says nothing of all.
        """
        run = self.first_failure > 0
        num_run, of_every_image = int(np.sum(run.any(axis=0))), run.all(axis=0)
        robust = 100 * np.mean(self.first_failure[:, of_every_image] > self.max_steps, axis=0)
        said = f"the first of {num_run} repetitions"
        if len(robust) < 2:
            return said
        of = "" if len(robust) == num_run else f" of {len(robust)} that every image had"
        spread = f"{np.mean(robust):.1f} ± {np.std(robust, ddof=1):.1f} %"
        return f"{said}; robust in one{of} on average {spread}"

    @property
    def sheet(self) -> Sheet:
        """What is robust in the first repetition, of all images and of those that are right."""
        robust = self.first_failure[:, 0] > self.max_steps
        return robustness_sheet(f"rpr.score_repeatedly, {self.of_all}", robust, self)

    def __repr__(self) -> str:
        return repr(self.sheet)


def draws_of(scores: Scores | Repeated) -> str:
    """Returns how many draws of which perturbation an image had at most."""
    return f"up to {scores.max_steps:,} draws{f' of {scores.drawn}' if scores.drawn else ''}"


def called(perturbation: Perturbation) -> str:
    """Returns what a perturbation is called: its name, or its kind with its numbers."""
    if (name := getattr(perturbation, "__name__", None)) is not None:
        return "a function" if name == "<lambda>" else name
    change = getattr(perturbation, "change", perturbation)
    kind, options = type(change).__name__.lstrip("_"), []
    if dataclasses.is_dataclass(change):
        given = {one.name: getattr(change, one.name) for one in dataclasses.fields(change)}
        options = [f"{k} {v:.4g}" for k, v in given.items() if type(v) in (int, float)]
    return f"{kind} ({', '.join(options)})" if options else kind


def robustness_sheet(call: str, robust: np.ndarray, scores: Scores | Repeated) -> Sheet:
    """Returns the table of a scoring.

    Args:
        call: the function that scored.
        robust: (N,) bool.
        scores: its result: its flags, draws and passes.
    """
    parts = {"all": np.ones(len(robust), bool), "correctly classified": scores.clean_correct}
    counts = [int(np.sum(part)) for part in parts.values()]
    right = [int(np.sum(robust & part)) for part in parts.values()]
    low, high = wilson_interval(right, counts)
    steps = np.minimum(np.reshape(scores.first_failure, (len(robust), -1))[:, 0], scores.max_steps)
    return Sheet(
        f"{call}: {len(robust):,} images, {draws_of(scores)} each, robust in per "
        f"cent, 95 % interval; {scores.forward_passes_run:,} passes forwards",
        {
            "images": list(parts),
            "count": counts,
            "robust": [r / n if n else None for r, n in zip(right, counts, strict=True)],
            "low": low.tolist(),
            "high": high.tolist(),
            "mean draws": [
                float(np.mean(steps[part])) if part.any() else None for part in parts.values()
            ],
        },
        plain=("mean draws",),
    )
