"""Corruption errors: the error rates on corrupted images, per corruption and per class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

ALEXNET: dict[str, float] = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}
"""AlexNet's mean error over the severities of ImageNet-C, the baseline of the published mCE; its
clean error was not verified and must be given for a relative mCE."""


class Baseline(NamedTuple):
    """The errors that others are divided by: a model's on the same corruptions."""

    errors: Mapping[str, float]
    """Mean over the severities, by corruption, above 0."""
    clean_error: float | None = None
    """On the images as they are; only a relative error needs it."""


class CorruptionErrors(NamedTuple):
    """Errors of each corruption and their means, of all images or of each class."""

    errors: dict[str, np.ndarray]
    """(...) by corruption: the mean over the severities, divided by the baseline's."""
    mean: np.ndarray
    """(...) over the corruptions: the mCE; without a baseline the plain mean error."""
    relative_errors: dict[str, np.ndarray]
    """(...) by corruption: what the corruption adds, divided by what it adds for the baseline."""
    relative_mean: np.ndarray
    """(...) over the corruptions: the relative mCE."""


def corruption_errors(
    errors: Mapping[str, ArrayLike], clean_error: ArrayLike, *, baseline: Baseline | None = None
) -> CorruptionErrors:
    """Returns the corruption errors of a model.

    CE_c = sum_s E_(s,c) / sum_s B_(s,c), mCE = mean_c CE_c;
    relative CE_c = sum_s (E_(s,c) - E_clean) / sum_s (B_(s,c) - B_clean), and its mean.
    Without a baseline both are divided by the number of severities alone: the plain mean error
    (called mCE on CIFAR-10-C), and the mean error less the clean one.

    Args:
        errors: by corruption, (S, ...) errors in [0, 1] at S severities: of all images, (S,), or of
            each class, (S, K); NaN for a class without images.
        clean_error: (...) on the images as they are.
        baseline: None: plain means.

    Returns:
        A CorruptionErrors of arrays (...). Where the baseline's error under a corruption is at most
        its clean one, the relative errors have no meaning and are NaN; without the baseline's clean
        error they all are.

    Raises:
        ValueError: for no corruption, shapes that do not fit, values outside [0, 1], or a
            corruption that the baseline lacks or has no error under.

    Source:
        Hendrycks and Dietterich 2019, arXiv 1903.12261, section 4.3.

    Example:
        >>> errors = {"fog": [0.2, 0.4], "snow": [0.3, 0.5]}
        >>> found = rbjax.metrics.corruption_errors(errors, 0.1)
        >>> round(float(found.mean), 3), round(float(found.relative_mean), 3)
        (0.35, 0.25)
    """
    clean = _checked("clean_error", clean_error)
    if not errors:
        raise ValueError("errors is empty; give at least one corruption's")
    means, relative = {}, {}
    for name, values in errors.items():
        values = _checked(f"errors[{name!r}]", values)
        if values.shape[1:] != clean.shape or not values.ndim or not len(values):
            raise ValueError(
                f"errors[{name!r}] has shape {values.shape}; it must be (severities, "
                f"{', '.join(map(str, clean.shape))}), as clean_error is"
            )
        by = added = 1.0
        if baseline is not None:
            if name not in baseline.errors:
                raise ValueError(
                    f"baseline has no errors of {name!r}; it has "
                    f"{', '.join(baseline.errors) or 'none'}"
                )
            by = float(baseline.errors[name])
            if not 0.0 < by <= 1.0:
                raise ValueError(f"baseline: the error of {name!r} is {by}; it must be in (0, 1]")
            added = np.nan
            if baseline.clean_error is not None and by > baseline.clean_error:
                added = by - baseline.clean_error
        means[name] = values.mean(axis=0) / by
        relative[name] = (values.mean(axis=0) - clean) / added
    return CorruptionErrors(
        means,
        np.mean(list(means.values()), axis=0),
        relative,
        np.mean(list(relative.values()), axis=0),
    )


def error_rates(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the shares of wrong predictions that confusion matrices count.

    Args:
        matrix: (..., K, K) counts, row = true class, column = predicted class.

    Returns:
        (...) of all examples, and (..., K) of each class's, NaN for a class without any; float64.

    Example:
        >>> whole, classes = rbjax.metrics.error_rates(np.array([[3, 1], [0, 4]]))
        >>> float(whole), classes.tolist()
        (0.125, [0.25, 0.0])
    """
    matrix = np.asarray(matrix)
    count = matrix.sum(axis=-1)
    wrong = count - np.diagonal(matrix, axis1=-2, axis2=-1)
    classes = np.where(count > 0, wrong / np.maximum(count, 1), np.nan)
    return wrong.sum(axis=-1) / count.sum(axis=-1), classes


def _checked(field: str, values: ArrayLike) -> np.ndarray:
    array = np.asarray(values, np.float64)
    if np.any((array < 0) | (array > 1)):  # NaN is neither
        raise ValueError(f"{field} is {array.tolist()}; it must be in [0, 1]")
    return array
