"""PRBench's measures: how much of a ball around an image is correctly classified.

`count_failures` draws, the same number for every image; the other two say what the counts mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np

from rbjax import prng
from rbjax.blocks import Block, check_examples, cut, map_blocks
from rbjax.classifier import Model, as_classifier
from rbjax.inputs import check_integer, check_labels, check_real, to_float
from rbjax.metrics.intervals import wilson_interval
from rbjax.options import named
from rbjax.perturbations.chain import Clipped
from rbjax.progress import ShowProgress, teller
from rbjax.rpr.drawn_error import count_failed
from rbjax.rpr.estimators import check_counts
from rbjax.tables import lookup
from rbjax.typing import Array, Key, Perturbation

Ties = Literal["fail", "first"]
"""Whether a draw whose true class shares the largest logit fails, or is of the first such class."""
_TIES = {"fail": True, "first": False}


class Failures(NamedTuple):
    """What drawing so often for every image returns."""

    failures: np.ndarray
    """(N,) int64, draws that were misclassified."""
    num_draws: int
    """Of each image."""
    clean_correct: np.ndarray
    """(N,) bool, whether the image is correctly classified as it is; ties as in the draws."""


class Estimate(NamedTuple):
    """A share with its interval, float or (K,) float64; NaN where nothing is counted."""

    value: Any
    low: Any
    high: Any


class Probabilistic(NamedTuple):
    """A measure of all images counted, and of those of each class."""

    overall: Estimate
    classes: Estimate
    """(K,)."""
    counts: np.ndarray
    """(K,) int64, images counted of each class."""


@named
def count_failures(
    logits_fn: Model,
    key: Key,
    images: np.ndarray | Array,
    labels: np.ndarray | Array,
    *,
    perturbation: Perturbation,
    num_draws: int = 100,
    ties: Ties = "fail",
    example_ids: np.ndarray | Array | None = None,
    block_size: int = 256,
    progress: ShowProgress = None,
) -> Failures:
    """Draws so many perturbations of every image and counts those that are misclassified.

    F_i = #{t <= T : argmax f(R(x_i; key_it)) != y_i}, with the keys and the clipping of
    `rbjax.rpr.score`, so that draw t of an image is the same one there. PRBench takes 100 draws,
    `perturbations.uniform_noise(epsilon=radius, truncated=True)`, and ties fail.

    Args:
        logits_fn: as for `score`; a black box must know its number of classes.
        key: one key.
        images: (N, H, W, C) uint8, or floating in [0, 1].
        labels: (N,) integers, the true classes.
        perturbation: (key, image (H, W, C)) -> image.
        num_draws: T, draws of each image.
        ties: `"fail"`: the true class's logit must exceed all others, as PRBench has it; `"first"`:
            of equal logits the first counts, as everywhere else in rbjax.
        example_ids: (N,) integers; None: the row numbers.
        block_size: images of one forward pass.
        progress: shown if True; a function is called after each block.

    Returns:
        The counts.

    Raises:
        ValueError: for wrong shapes or values.

    Source:
        Zhang et al. 2025, "Probabilistic Robustness for Free? Revisiting Training via a
        Benchmark", arXiv 2511.01724 (PRBench), and its authors' code.

    Example:
        >>> images = np.array([0.2, 0.4, 0.9], np.float32).reshape(3, 1, 1, 1)  # of one pixel
        >>> labels = np.array([0, 0, 1])  # bright or not
        >>> def bright(x):
        ...     return jnp.stack([0.5 - x[:, 0, 0, 0], x[:, 0, 0, 0] - 0.5], axis=1)
        ...
        >>> brighter = lambda key, image: image + 0.2
        >>> found = rbjax.rpr.count_failures(
        ...     bright, jax.random.key(0), images, labels, perturbation=brighter, num_draws=10
        ... )
        >>> found.failures.tolist()
        [0, 10, 0]
    """
    key = prng.check(key)
    num_draws = check_integer("num_draws", num_draws, low=1)
    block_size = check_integer("block_size", block_size, low=1)
    if not callable(perturbation):
        raise ValueError(
            f"perturbation is {perturbation!r}; it must be a function (key, image) -> image, such "
            "as rbjax.perturbations.create(name) makes"
        )
    strict = lookup(_TIES, ties, what="ties")
    model = as_classifier(logits_fn)
    examples = check_examples(
        images, labels, count_classes=model.count_classes, example_ids=example_ids
    )
    clipped = perturbation if isinstance(perturbation, Clipped) else Clipped(perturbation)

    def count_block(block: Block, images: np.ndarray) -> dict[str, Array]:
        rows = block.padded
        keys = prng.per_example(key, jnp.asarray(examples.example_ids[rows]))
        batch = to_float(block.fill(images)), jnp.asarray(examples.labels[rows])
        failed, clean_failed = count_failed(clipped, model, keys, *batch, num_draws, strict)
        return {"failed": failed, "clean_failed": clean_failed}

    num_images = len(examples.labels)
    counted = map_blocks(
        count_block,
        cut(np.arange(num_images), min(block_size, num_images)),
        read=lambda block: examples.read(block.rows),
        tell=teller(progress),
    )
    failures = np.asarray(counted["failed"]).astype(np.int64)
    return Failures(failures, num_draws, ~np.asarray(counted["clean_failed"]))


def probabilistic_robustness(
    failures: np.ndarray,
    num_draws: int,
    labels: np.ndarray,
    *,
    num_classes: int,
    counted: np.ndarray | None = None,
    confidence: float = 0.95,
) -> Probabilistic:
    """Returns PRBench's PR: the share of correct draws, averaged over the images.

    PR = mean over i of 1 - F_i / T. The interval is Wilson's, with n / d in the place of n images:
    d = s^2 / (PR (1 - PR)), at most 1, with s^2 the variance over images of 1 - F_i / T. So draws
    of one image, which are alike, count for less than those of many. Where all agree n is taken.

    Args:
        failures: (N,) counts, 0 to `num_draws`, of `count_failures`.
        num_draws: T, draws of each image.
        labels: (N,) integers, the true classes.
        num_classes: K.
        counted: (N,) bool, the images that count; PRBench's are `Failures.clean_correct`; None:
            all.
        confidence: of the intervals, in (0, 1).

    Returns:
        The measure.

    Raises:
        ValueError: for wrong shapes, or a value out of range.

    Source:
        PRBench, arXiv 2511.01724. Korn and Graubard 1998, "Confidence Intervals for Proportions
        with Small Expected Number of Positive Counts Estimated from Survey Data", Survey
        Methodology 24, for the effective number.

    Example:
        >>> found = rbjax.rpr.probabilistic_robustness(
        ...     np.array([0, 5, 10]), 10, np.array([0, 0, 1]), num_classes=2
        ... )  # 1, 1/2 and 0 of the draws
        >>> float(found.overall.value), found.classes.value.tolist()
        (0.5, [0.75, 0.0])
    """
    failures, labels = _counted(failures, num_draws, labels, num_classes, counted)
    shares = 1 - failures / num_draws

    def estimate(shares: np.ndarray) -> Estimate:
        if not shares.size:
            return Estimate(math.nan, math.nan, math.nan)
        mean, spread = float(np.mean(shares)), 1.0
        if 0 < mean < 1 and shares.size > 1:
            spread = min(float(np.var(shares, ddof=1)) / (mean * (1 - mean)), 1.0)
        # No more than as many images as there were draws.
        number = min(shares.size / max(spread, 1e-12), shares.size * num_draws)
        low, high = wilson_interval(min(mean * number, number), number, confidence)
        return Estimate(mean, float(low), float(high))

    return _by_class(estimate, shares, labels, num_classes)


def probabilistic_accuracy(
    failures: np.ndarray,
    num_draws: int,
    labels: np.ndarray,
    *,
    num_classes: int,
    tolerance: float = 0.01,
    counted: np.ndarray | None = None,
    confidence: float = 0.95,
) -> Probabilistic:
    """Returns PRBench's ProbAcc: the share of images of which few enough draws fail.

    ProbAcc(q) = #{i : 1 - F_i / T > 1 - q} / n, in exact arithmetic, with Wilson's interval. So
    fewer than q T draws fail: of 100 draws and q = 0.01 none, which is P4's robust ratio with
    MAX_STEPS 100.

    Args:
        failures: as for `probabilistic_robustness`, as all that follow.
        num_draws: T, draws of each image.
        labels: (N,) integers.
        num_classes: K.
        tolerance: q, above 0 and at most 1.
        counted: (N,) bool.
        confidence: of the intervals.

    Returns:
        The measure.

    Raises:
        ValueError: for wrong shapes, or a value out of range.

    Source:
        Robey, Chamon, Pappas and Hassani 2022, "Probabilistically Robust Learning", arXiv
        2202.01136; PRBench, arXiv 2511.01724.

    Example:
        >>> found = rbjax.rpr.probabilistic_accuracy(
        ...     np.array([0, 1, 10]), 10, np.array([0, 0, 1]), num_classes=2, tolerance=0.2
        ... )  # of two images fewer than a fifth of the draws fail
        >>> found.classes.value.tolist()
        [1.0, 0.0]
    """
    tolerance = check_real("tolerance", tolerance, high=1.0)
    if tolerance == 0:
        raise ValueError("tolerance is 0; it must be above 0, since no share of draws is above 1")
    failures, labels = _counted(failures, num_draws, labels, num_classes, counted)
    # As typed: 100 times the float 0.07 is a little more than 7.
    passes = failures < math.ceil(Fraction(repr(tolerance)) * num_draws)

    def estimate(passes: np.ndarray) -> Estimate:
        if not passes.size:
            return Estimate(math.nan, math.nan, math.nan)
        low, high = wilson_interval(np.sum(passes), passes.size, confidence)
        return Estimate(float(np.mean(passes)), float(low), float(high))

    return _by_class(estimate, passes, labels, num_classes)


def _by_class(
    estimate: Callable[[np.ndarray], Estimate],
    values: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
) -> Probabilistic:
    """Returns the estimate of all values and of each class's."""
    classes = [estimate(values[labels == label]) for label in range(num_classes)]
    columns = (np.array(column, np.float64) for column in zip(*classes, strict=True))
    counts = np.bincount(labels, minlength=num_classes)
    return Probabilistic(estimate(values), Estimate(*columns), counts)


def _counted(
    failures: np.ndarray,
    num_draws: int,
    labels: np.ndarray,
    num_classes: int,
    counted: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns failures and labels of the images that count, checked."""
    num_draws = check_integer("num_draws", num_draws, low=1)
    num_classes = check_integer("num_classes", num_classes, low=1)
    failures = np.asarray(failures)
    if failures.ndim != 1:
        raise ValueError(f"failures has shape {failures.shape}; it must be (N,)")
    labels = check_labels(np.asarray(labels), num_examples=len(failures), num_classes=num_classes)
    failures, _ = check_counts(failures, num_draws)
    kept = np.ones(len(labels), bool) if counted is None else np.asarray(counted)
    if kept.shape != labels.shape or kept.dtype != np.bool_:
        raise ValueError(
            f"counted is {kept.dtype} of shape {kept.shape}; it must be bool {labels.shape}"
        )
    return failures[kept], labels[kept]
