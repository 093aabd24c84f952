"""What the first failures of a dataset say: survival curves and robust ratios, class by class."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rbjax.inputs import check_integer, check_labels, check_real
from rbjax.metrics.intervals import clopper_pearson_interval
from rbjax.rpr.estimators import check_draws


class SurvivalCurves(NamedTuple):
    """The share of images that withstood t draws, for t from 0 to max_steps."""

    overall: np.ndarray
    """(max_steps + 1,) float64, of all images counted."""
    classes: np.ndarray
    """(K, max_steps + 1) float64, of the images of each class; NaN for a class without any."""
    counts: np.ndarray
    """(K,) int64, images counted of each class."""


class RobustRatio(NamedTuple):
    """How many images of each class withstood every draw."""

    counts: np.ndarray
    """(K,) int64, images counted of each class."""
    robust: np.ndarray
    """(K,) int64, those of them that are robust."""

    @property
    def classes(self) -> np.ndarray:
        """(K,) float64, the share of each class; NaN for a class without images."""
        return _share(self.robust, self.counts)

    @property
    def overall(self) -> float:
        """The share of all images counted; NaN if there are none."""
        return float(_share(np.sum(self.robust), np.sum(self.counts)))


@dataclasses.dataclass(frozen=True)
class Flattening:
    """Stops where the survival curve has become flat, P4's early stop.

    After every `window` draws: S(t - window) - S(t) <= tolerance.

    Source:
        Ilie, Popescu and Stefanescu 2020, section 2.3 (P4): "discovering images which are not
        robust eventually flattens". The paper gives no rule; window and tolerance are ours.
    """

    window: int = 25
    """Draws between two looks."""
    tolerance: float = 0.005
    """The largest share of all images that may fail within a window of a flat curve."""

    def __post_init__(self) -> None:
        check_integer("window", self.window, low=1)
        check_real("tolerance", self.tolerance, high=1.0)

    def is_flat(self, survival: np.ndarray) -> bool:
        """Returns whether to stop at the last point of a survival curve.

        Args:
            survival: (t + 1,) the share of images that withstood 0 to t draws.

        Returns:
            Whether its last `window` draws took no more than `tolerance` away; False for shorter
            curves.
        """
        if len(survival) <= self.window:
            return False
        return bool(survival[-1 - self.window] - survival[-1] <= self.tolerance)


class Curve(NamedTuple):
    """A Kaplan-Meier estimate for t from 0 to T with its pointwise band, float64.

    Leading axes, if any, are those of the groups. NaN where it is not known: for a group without
    images, and from the draw on after which all of a group that still were robust were stopped.
    """

    survival: np.ndarray
    """(..., T + 1), the estimated share that withstands t draws."""
    low: np.ndarray
    """(..., T + 1)."""
    high: np.ndarray
    """(..., T + 1)."""

    @property
    def mean_steps(self) -> np.ndarray:
        """(...,) restricted mean, E[min(N, T)] = S(0) + ... + S(T - 1)."""
        return np.sum(self.survival[..., :-1], axis=-1)


class KaplanMeier(NamedTuple):
    """Survival curves with bands."""

    overall: Curve
    """(T + 1,), of all images counted."""
    classes: Curve
    """(K, T + 1), of the images of each class."""
    counts: np.ndarray
    """(K,) int64, images counted of each class."""


def survival_curve(
    first_failure: np.ndarray,
    max_steps: int,
    labels: np.ndarray,
    *,
    num_classes: int,
    counted: np.ndarray | None = None,
) -> SurvivalCurves:
    """Returns the share of images still robust as a function of the number of draws.

    S(t) = #{i: N_i > t} / n, so S(0) = 1 and S(max_steps) is the robust ratio.

    Args:
        first_failure: (N,) integers, 1 to max_steps, or max_steps + 1 where no draw failed.
        max_steps: draws of an image.
        labels: (N,) integers, the true classes.
        num_classes: K.
        counted: (N,) bool, the images that count: `scores.clean_correct` for the ratio among the
            images that are correctly classified unperturbed; None: all, the unconditional ratio.

    Returns:
        The curves, all images' and each class's.

    Raises:
        ValueError: if the shapes differ, or a first failure or a label is out of range.

    Source:
        Ilie, Popescu and Stefanescu 2020, "Robustness as Inherent Property of Datapoints", figure
        3 (P4).

    Example:
        >>> first = np.array([1, 3, 4, 4])  # 4: no draw of 3 failed
        >>> curves = rbjax.rpr.survival_curve(first, 3, np.array([0, 0, 0, 1]), num_classes=2)
        >>> curves.overall.tolist(), curves.classes[1].tolist()
        ([1.0, 0.75, 0.75, 0.5], [1.0, 1.0, 1.0, 1.0])
    """
    first_failure, labels = _counted(first_failure, max_steps, labels, num_classes, counted)
    failures = np.zeros((num_classes, max_steps + 2), np.int64)
    np.add.at(failures, (labels, first_failure), 1)
    failed = np.cumsum(failures, axis=1)[:, : max_steps + 1]
    counts = np.bincount(labels, minlength=num_classes)
    survivors = counts[:, None] - failed
    return SurvivalCurves(
        overall=_share(np.sum(survivors, axis=0), np.sum(counts)),
        classes=_share(survivors, counts[:, None]),
        counts=counts,
    )


def robust_ratio(
    first_failure: np.ndarray,
    max_steps: int,
    labels: np.ndarray,
    *,
    num_classes: int,
    counted: np.ndarray | None = None,
) -> RobustRatio:
    """Returns how many images of each class withstood all `max_steps` draws.

    Args:
        first_failure: as for `survival_curve`.
        max_steps: draws of an image.
        labels: (N,) integers, the true classes.
        num_classes: K.
        counted: as for `survival_curve`.

    Returns:
        Counts, and the shares that follow from them.

    Raises:
        ValueError: as `survival_curve`.

    Example:
        >>> first = np.array([1, 3, 4, 4])  # 4: no draw of 3 failed
        >>> ratio = rbjax.rpr.robust_ratio(first, 3, np.array([0, 0, 0, 1]), num_classes=2)
        >>> float(ratio.overall), ratio.robust.tolist(), ratio.counts.tolist()
        (0.5, [1, 1], [3, 1])
    """
    first_failure, labels = _counted(first_failure, max_steps, labels, num_classes, counted)
    return RobustRatio(
        counts=np.bincount(labels, minlength=num_classes),
        robust=np.bincount(labels[first_failure > max_steps], minlength=num_classes),
    )


def kaplan_meier(
    draws: ArrayLike,
    failed: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int,
    counted: ArrayLike | None = None,
    confidence: float = 0.95,
) -> KaplanMeier:
    """Returns survival curves with Greenwood's band, also where images had unequally many draws.

    S(t) = product over u <= t of (1 - d_u / n_u), d_u images failing at draw u of the n_u that had
    it. The band is the log-log one (exponential Greenwood), S^exp(±z se): it stays within (0, 1)
    and keeps its coverage near both ends, where the linear one does not. Where S is 1 or 0,
    Greenwood's formula says nothing; Clopper and Pearson's interval of the images not stopped
    before t, all or none of them robust, stands there. S(0) = 1 is exact.

    Args:
        draws: (N,) integers of at least 1, draws that each image had: `scores.steps`, or fewer
            where drawing stopped early.
        failed: (N,) bool, whether the last of them failed; the others are right-censored.
        labels: (N,) integers, the true classes.
        num_classes: K.
        counted: (N,) bool, the images that count; None: all.
        confidence: in (0, 1), of the band at each t.

    Returns:
        The curves for t from 0 to the largest number of draws.

    Raises:
        ValueError: if the shapes differ, or a number is out of range.

    Source: Kaplan and Meier 1958, Journal of the American Statistical Association 53; Sawyer, "The
    Greenwood and Exponential Greenwood Confidence Intervals in Survival Analysis", 2003.

    Example:
        >>> failed = np.array([True, False, True])  # the second was not drawn a second time
        >>> curves = rbjax.rpr.kaplan_meier([1, 1, 2], failed, [0, 0, 0], num_classes=1)
        >>> curves.overall.survival.round(3).tolist()
        [1.0, 0.667, 0.0]
    """
    draws, failed = np.asarray(draws), np.asarray(failed, bool)
    if draws.size == 0 or failed.shape != draws.shape:
        raise ValueError(
            f"draws and failed have shapes {draws.shape} and {failed.shape}; both must be (N,), "
            "N at least 1"
        )
    confidence = check_real("confidence", confidence, high=1.0)
    max_steps = int(np.max(draws))
    first_failure = np.where(failed, draws, draws + 1)
    _, kept = _counted(first_failure, max_steps, labels, num_classes, counted)
    if counted is not None:
        draws, failed = draws[np.asarray(counted, bool)], failed[np.asarray(counted, bool)]
    steps = np.arange(max_steps + 1)
    classes = [
        _curve(draws[kept == label], failed[kept == label], steps, confidence)
        for label in range(num_classes)
    ]
    return KaplanMeier(
        overall=_curve(draws, failed, steps, confidence),
        classes=Curve(*(np.stack(parts) for parts in zip(*classes, strict=True))),
        counts=np.bincount(kept, minlength=num_classes),
    )


def _curve(draws: np.ndarray, failed: np.ndarray, steps: np.ndarray, confidence: float) -> Curve:
    """Returns one group's curve at `steps`, from 0 on."""
    from scipy import stats

    if draws.size == 0:
        return Curve(*np.full((3, len(steps)), np.nan))
    estimate = stats.ecdf(stats.CensoredData.right_censored(draws, ~failed)).sf
    with warnings.catch_warnings():
        # That the band is not defined everywhere is dealt with below.
        warnings.simplefilter("ignore", RuntimeWarning)
        band = estimate.confidence_interval(confidence, method="log-log")
    place = np.searchsorted(estimate.quantiles, steps, side="right")
    survival, low, high = (
        np.append(1.0, function.probabilities)[place]
        for function in (estimate, band.low, band.high)
    )
    stopped = np.bincount(draws[~failed] + 1, minlength=len(steps) + 1)[: len(steps)]
    at_risk = len(draws) - np.cumsum(stopped)
    at_an_end = (survival == 1) | (survival == 0)
    exact = clopper_pearson_interval(np.where(survival == 1, at_risk, 0), at_risk, confidence)
    low, high = (np.where(at_an_end, e, b) for e, b in zip(exact, (low, high), strict=True))
    low[0] = 1.0
    unknown = (survival > 0) & (steps > np.max(draws))
    return Curve(*(np.where(unknown, np.nan, values) for values in (survival, low, high)))


def _counted(
    first_failure: np.ndarray,
    max_steps: int,
    labels: ArrayLike,
    num_classes: int,
    counted: ArrayLike | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns first failures and labels of the images that count, checked."""
    check_integer("max_steps", max_steps, low=1)
    first_failure, labels = check_draws(first_failure), np.asarray(labels)
    counted = np.ones(labels.shape, bool) if counted is None else np.asarray(counted, bool)
    if not first_failure.shape == labels.shape == counted.shape == (labels.size,):
        raise ValueError(
            f"first_failure, labels and counted have shapes {first_failure.shape}, {labels.shape} "
            f"and {counted.shape}; all must be (N,)"
        )
    wrong = first_failure[(first_failure < 1) | (first_failure > max_steps + 1)]
    if wrong.size:
        raise ValueError(f"first_failure holds {wrong[0]}; allowed: 1 to {max_steps + 1}")
    numbers = check_labels(labels, num_examples=labels.size, num_classes=num_classes)
    return first_failure[counted], numbers[counted]


def _share(part: Any, whole: Any) -> np.ndarray:
    """Returns part / whole, NaN where whole is 0."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)
