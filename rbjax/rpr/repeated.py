"""Several repetitions of RPR: how often each datapoint fails, until that is known well enough."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rbjax import prng
from rbjax.classifier import Model
from rbjax.inputs import check_integer, check_memory, check_real
from rbjax.options import named
from rbjax.progress import Progress, ShowProgress, Tell, teller
from rbjax.rpr.anytime import anytime_interval
from rbjax.rpr.estimators import count_draws
from rbjax.rpr.lanes import Draws, Work
from rbjax.rpr.scores import Repeated, called
from rbjax.rpr.scoring import MOST_STEPS, ImageSource, first_failures, known_classes, prepare
from rbjax.typing import Array, Key, Perturbation


@named
def score_repeatedly(
    logits_fn: Model,
    key: Key,
    images: np.ndarray | Array | ImageSource,
    labels: np.ndarray | Array,
    *,
    repetitions: int,
    max_steps: int,
    perturbation: Perturbation,
    max_width: float | None = None,
    confidence: float = 0.95,
    example_ids: np.ndarray | Array | None = None,
    batch_size: int | None = None,
    block_size: int | None = None,
    devices: Sequence[Any] | None = None,
    journal: str | Path | None = None,
    progress: ShowProgress = None,
) -> Repeated:
    """Scores every image several times, each time with draws of its own.

    One repetition tells of an image that fails little more than that it does; failures / draws over
    several is its failure probability. The first repetition is `score` with the same key.

    Args:
        logits_fn: as for `score`.
        key: one key.
        images: (N, H, W, C) uint8, or floating in [0, 1].
        labels: (N,) integers, the true classes.
        repetitions: R, at most.
        max_steps: draws of an image in a repetition at most.
        perturbation: (key, image (H, W, C)) -> image.
        max_width: an image whose failure probability is known this well, by its anytime-valid
            interval, is not drawn for again; None: all have R repetitions.
        confidence: of that interval.
        example_ids: as for `score`, as all that follow.
        batch_size: images that a device classifies at once, at most.
        block_size: images read at once.
        devices: the `jax.Device`s to use.
        journal: a folder to resume from.
        progress: shown if True; a function is called now and then; an image is counted for each
            of its repetitions.

    Returns:
        First failures of every repetition, and their sums.

    Raises:
        ValueError: for wrong shapes or values, or another run's journal.

    Source:
        The expectation over retries of Ilie, Popescu and Stefanescu 2020, section 2.1 (P4).

    Example:
        >>> images = np.array([0.2, 0.4, 0.9], np.float32).reshape(3, 1, 1, 1)  # of one pixel
        >>> labels = np.array([0, 0, 1])  # bright or not
        >>> def bright(x):
        ...     return jnp.stack([0.5 - x[:, 0, 0, 0], x[:, 0, 0, 0] - 0.5], axis=1)
        ...
        >>> brighter = lambda key, image: image + 0.2
        >>> scores = rbjax.rpr.score_repeatedly(
        ...     bright, jax.random.key(0), images, labels,
        ...     repetitions=2, max_steps=10, perturbation=brighter,
        ... )
        >>> scores.failures.tolist(), scores.draws.tolist()
        ([0, 2, 0], [20, 2, 20])
    """
    check_integer("max_steps", max_steps, low=1, high=MOST_STEPS)
    check_integer("repetitions", repetitions, low=1)
    check_real("confidence", confidence, high=1.0)
    if max_width is not None:
        check_real("max_width", max_width, high=1.0)
    key = prng.check(key)
    work = prepare(
        logits_fn,
        key,
        images,
        labels,
        perturbation=perturbation,
        example_ids=example_ids,
        batch_size=batch_size,
        block_size=block_size,
        devices=devices,
        journal=journal,
        about={
            "call": "score_repeatedly",
            "max_steps": max_steps,
            "max_width": max_width,
            "confidence": confidence,
        },
    )
    told = teller(progress, "RPR")
    scores = _repeat(work, key, repetitions, max_steps, max_width, confidence, told)
    return scores._replace(drawn=called(perturbation))


def _repeat(
    work: Work,
    key: Key,
    repetitions: int,
    max_steps: int,
    max_width: float | None,
    confidence: float,
    progress: Tell | None,
) -> Repeated:
    """Sweeps over the images that are not known well enough, once a repetition."""
    num_images = len(work.examples.labels)
    check_memory("repetitions", repetitions, 4 * num_images * repetitions)
    first_failure = np.zeros((num_images, repetitions), np.int32)
    clean_correct, rows, num_passes = np.zeros(num_images, bool), np.arange(num_images), 0
    no_class = np.zeros(num_images, bool)
    total = num_images * repetitions
    for repetition in range(repetitions):
        # An image that is known well enough counts as done in the repetitions it does not need.
        before = num_images * (repetition + 1) - len(rows)

        def tell(done: int, robust: int, passes: int, *, before=before, passed=num_passes) -> None:
            done = before + done
            figures = {"survivors": total - done + robust, "passes": passed + passes}
            assert progress is not None
            progress(Progress("", done, total, figures))

        own_key = prng.fold_in(prng.named(key, "repetition"), repetition)
        results = first_failures(
            work,
            own_key if repetition else key,
            rows,
            Draws(1, max_steps),
            name=f"repetition-{repetition:04d}",
            clean=repetition == 0,
            report=None if progress is None else tell,
        )
        first_failure[rows, repetition] = results.first_failure
        no_class[rows] |= results.no_class
        clean_correct = clean_correct if repetition else results.clean_correct
        num_passes += results.num_passes
        if max_width is not None:
            low, high = anytime_interval(*count_draws(first_failure, max_steps), confidence)
            rows = np.flatnonzero(high - low > max_width)
        if not len(rows):
            break
    failures, draws = count_draws(first_failure, max_steps)
    return Repeated(
        first_failure=first_failure,
        failures=failures,
        draws=draws,
        clean_correct=clean_correct,
        max_steps=max_steps,
        forward_passes_run=num_passes,
        no_class=no_class,
        labels=work.examples.labels,
        num_classes=known_classes(work),
    )
