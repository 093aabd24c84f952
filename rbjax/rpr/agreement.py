"""Do models agree on which datapoints are robust? Families of models, several seeds of each."""

from __future__ import annotations

import itertools
import warnings
from typing import NamedTuple

import numpy as np

from rbjax.inputs import check_integer
from rbjax.metrics.intervals import Interval

COMPONENTS = ("datapoint", "family", "seed", "datapoint_family", "residual")
"""What the variance is divided into; `seed` is the seed within a family."""

_NUMBERS_PER_BATCH = 2**22
"""Of what resampled values held at once."""


class PairMeans(NamedTuple):
    """A statistic of every pair of models, and its means over two kinds of pairs."""

    matrix: np.ndarray
    """(F S, F S) float64, symmetric; model f S + s is seed s of family f."""
    within: float
    """Mean over pairs of seeds of one family; NaN with one seed."""
    between: float
    """Mean over pairs of models of two families; NaN with one family."""


class VarianceShares(NamedTuple):
    """The variance that belongs to each of `COMPONENTS`."""

    variances: np.ndarray
    """(5,) float64, estimated without a bound: one that is small may come out below 0."""
    shares: np.ndarray
    """(5,) float64, of the sum, after what was below 0 was cut at 0; NaN if all are 0."""

    @property
    def cut(self) -> tuple[str, ...]:
        """The components that came out below 0."""
        return tuple(n for n, v in zip(COMPONENTS, self.variances, strict=True) if v < 0)


class Bootstrap(NamedTuple):
    """Percentile intervals (low, high) over datapoints, the models as they are.

    NaN where a resample had no value: flags that may come out all equal, for example.
    """

    within: Interval
    """() of the rank correlation within families."""
    between: Interval
    """() of the rank correlation between families."""
    kappa: Interval
    """() of Fleiss' kappa."""
    shares: Interval
    """(5,) of the variance shares."""


def rank_correlation(values: np.ndarray) -> PairMeans:
    """Returns Spearman's correlation of every pair of models over the datapoints.

    Ties, such as datapoints that never failed, get their mean rank.

    Args:
        values: (F, S, N) failure probabilities, or anything that orders datapoints as they do.

    Returns:
        The correlations; NaN with a model for which all datapoints are equal.

    Raises:
        ValueError: if it is not of that shape, or a value is not finite.

    Source: Spearman 1904, American Journal of Psychology 15.
    """
    values = _checked("values", values)
    matrix = _correlations(values.reshape(-1, values.shape[-1]))
    within, between = _pair_means(matrix, *values.shape[:2])
    return PairMeans(matrix, float(within), float(between))


def cohen_kappa(flags: np.ndarray) -> PairMeans:
    """Returns the agreement beyond chance of every pair of models on robust or not.

    kappa = (p_o - p_e) / (1 - p_e), p_o the share of datapoints flagged alike, p_e what it would be
    if the two models' flags were independent.

    Args:
        flags: (F, S, N) bool.

    Returns:
        The kappas; NaN for two models that flag all datapoints alike.

    Raises:
        ValueError: if it is not of that shape.

    Source: Cohen, "A Coefficient of Agreement for Nominal Scales", 1960, Educational and
    Psychological Measurement 20.
    """
    from sklearn.metrics import cohen_kappa_score

    flags = _checked("flags", flags).astype(bool)
    models = flags.reshape(-1, flags.shape[-1])
    matrix = np.eye(len(models))
    for i, j in itertools.combinations(range(len(models)), 2):
        # Both constant and equal: chance alone agrees fully, and scikit-learn would warn.
        constant = len(np.unique(models[[i, j]])) == 1
        kappa = np.nan if constant else cohen_kappa_score(models[i], models[j])
        matrix[i, j] = matrix[j, i] = kappa
    within, between = _pair_means(matrix, *flags.shape[:2])
    return PairMeans(matrix, float(within), float(between))


def fleiss_kappa(flags: np.ndarray) -> float:
    """Returns the agreement beyond chance of all models together on robust or not.

    kappa = 1 - sum_n k_n (m - k_n) / (N m (m - 1) q (1 - q)), k_n of the m models flagging
    datapoint n, q the share of flags overall.

    Args:
        flags: (F, S, N) bool; at least two models.

    Returns:
        1 for full agreement, about 0 for none beyond chance; NaN if all flags are equal.

    Raises:
        ValueError: if it is not of that shape.

    Source: Fleiss, "Measuring Nominal Scale Agreement Among Many Raters", 1971, Psychological
    Bulletin 76, for two categories.
    """
    flags = _checked("flags", flags).astype(bool)
    return float(_fleiss(flags.reshape(-1, flags.shape[-1])))


def variance_shares(values: np.ndarray) -> VarianceShares:
    """Divides the variance of what was measured between datapoint, family and seed.

    y_fsn = mean + datapoint_n + family_f + seed_s(f) + (datapoint family)_fn + residual_fsn, all
    random, seeds within families; components by equating mean squares with their expectations
    (balanced analysis of variance). The residual is what a seed does to a single datapoint, and the
    noise of the draws. Where all models are scored with the same draws, part of that noise is
    common to them and counts for the datapoint.

    Args:
        values: (F, S, N), on a scale where effects add up, such as `log_failure_probability`: two
            families and two seeds at least, and two datapoints.

    Returns:
        The components.

    Raises:
        ValueError: if it is not of that shape, or a value is not finite.

    Source: Searle, Casella and McCulloch, "Variance Components", 1992, chapter 4.
    """
    values = _checked("values", values, fewest=2)
    variances = _components(values)
    return VarianceShares(variances, _cut_and_normalize(variances))


def bootstrap_agreement(
    values: np.ndarray,
    flags: np.ndarray,
    *,
    num_resamples: int = 999,
    confidence: float = 0.95,
    seed: int = 0,
) -> Bootstrap:
    """Returns intervals of the agreement by drawing datapoints anew, with replacement.

    They say how much depends on which datapoints there were. Families and seeds are too few to be
    drawn, so nothing is said of families that were not there.

    Args:
        values: (F, S, N), as for `variance_shares`.
        flags: (F, S, N) bool.
        num_resamples: at least 1.
        confidence: in (0, 1).
        seed: of the resamples, at least 0.

    Returns:
        The percentile intervals.

    Raises:
        ValueError: for shapes that are wrong or differ, or a number out of range.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3.
    """
    from scipy import stats

    values, flags = _checked("values", values, fewest=2), np.asarray(flags, bool)
    if flags.shape != values.shape:
        raise ValueError(f"flags has shape {flags.shape}; it must be values' {values.shape}")
    check_integer("num_resamples", num_resamples, low=1)
    num_families, num_seeds, num_datapoints = values.shape

    def statistics(rows: np.ndarray, axis: int = -1) -> np.ndarray:
        """(..., N) -> (8, ...); `axis` is SciPy's, which always gives the last."""
        resampled = np.moveaxis(values[..., rows], (0, 1), (-3, -2))
        models = resampled.reshape(*rows.shape[:-1], -1, num_datapoints)
        matrix = _correlations(models)
        means = _pair_means(matrix, num_families, num_seeds)
        kappa = _fleiss(np.moveaxis(flags[..., rows], (0, 1), (-3, -2)).reshape(models.shape))
        shares = _cut_and_normalize(_components(resampled))
        return np.stack([*means, kappa, *np.moveaxis(shares, -1, 0)])

    with warnings.catch_warnings():
        # A statistic without a value is NaN, and its interval says so.
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        interval = stats.bootstrap(
            (np.arange(num_datapoints),),
            statistics,
            n_resamples=num_resamples,
            batch=max(1, _NUMBERS_PER_BATCH // values.size),
            vectorized=True,
            confidence_level=confidence,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).confidence_interval
    ends = [(low, high) for low, high in zip(interval.low, interval.high, strict=True)]
    return Bootstrap(*ends[:3], shares=(interval.low[3:], interval.high[3:]))


def _correlations(models: np.ndarray) -> np.ndarray:
    """Returns Spearman's correlations (..., M, M) of (..., M, N)."""
    from scipy.stats import rankdata

    ranks = rankdata(models, axis=-1)
    ranks -= ranks.mean(axis=-1, keepdims=True)
    products = ranks @ np.swapaxes(ranks, -1, -2)
    sizes = np.sqrt(np.diagonal(products, axis1=-2, axis2=-1))
    scale = sizes[..., :, None] * sizes[..., None, :]
    return np.where(scale > 0, products / np.where(scale > 0, scale, 1), np.nan)


def _pair_means(
    matrix: np.ndarray, num_families: int, num_seeds: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the means (...) of (..., M, M) over pairs within families and between them."""
    family = np.repeat(np.arange(num_families), num_seeds)
    first, second = np.triu_indices(num_families * num_seeds, k=1)
    same = family[first] == family[second]
    pairs = matrix[..., first, second]
    none = np.full(matrix.shape[:-2], np.nan)
    within = pairs[..., same].mean(axis=-1) if same.any() else none
    between = pairs[..., ~same].mean(axis=-1) if not same.all() else none
    return within, between


def _fleiss(models: np.ndarray) -> np.ndarray:
    """Returns Fleiss' kappa (...) of flags (..., M, N)."""
    num_models, num_datapoints = models.shape[-2:]
    flagged = np.sum(models, axis=-2)
    disagreeing = np.sum(flagged * (num_models - flagged), axis=-1)
    share = np.sum(flagged, axis=-1) / (num_models * num_datapoints)
    chance = num_datapoints * num_models * (num_models - 1) * share * (1 - share)
    return np.where(chance > 0, 1 - disagreeing / np.where(chance > 0, chance, 1), np.nan)


def _components(values: np.ndarray) -> np.ndarray:
    """Returns the variances (..., 5) of (..., F, S, N), unbounded."""
    F, S, N = values.shape[-3:]
    family_datapoint = values.mean(axis=-2, keepdims=True)
    datapoint = family_datapoint.mean(axis=-3, keepdims=True)
    seed = values.mean(axis=-1, keepdims=True)
    family = seed.mean(axis=-2, keepdims=True)
    mean = family.mean(axis=-3, keepdims=True)

    def square(effect: np.ndarray, weight: int, freedom: int) -> np.ndarray:
        return weight * np.sum(effect**2, axis=(-3, -2, -1)) / freedom

    ms_datapoint = square(datapoint - mean, F * S, N - 1)
    ms_family = square(family - mean, S * N, F - 1)
    ms_seed = square(seed - family, N, F * (S - 1))
    ms_interaction = square(family_datapoint - family - datapoint + mean, S, (F - 1) * (N - 1))
    ms_residual = square(values - seed - family_datapoint + family, 1, F * (S - 1) * (N - 1))
    variances = (
        (ms_datapoint - ms_interaction) / (F * S),
        (ms_family - ms_seed - ms_interaction + ms_residual) / (S * N),
        (ms_seed - ms_residual) / N,
        (ms_interaction - ms_residual) / S,
        ms_residual,
    )
    return np.stack(variances, axis=-1)


def _cut_and_normalize(variances: np.ndarray) -> np.ndarray:
    """Returns the shares (..., 5)."""
    cut = np.maximum(variances, 0.0)
    total = np.sum(cut, axis=-1, keepdims=True)
    return np.where(total > 0, cut / np.where(total > 0, total, 1), np.nan)


def _checked(field: str, values: np.ndarray, fewest: int = 1) -> np.ndarray:
    """Returns (F, S, N) float64 of at least `fewest` families and seeds, and two datapoints."""
    values = np.asarray(values, np.float64)
    if values.ndim != 3 or min(values.shape[:2]) < fewest or values.shape[2] < 2:
        raise ValueError(
            f"{field} has shape {values.shape}; it must be (F, S, N), F and S at least {fewest}, "
            "N at least 2"
        )
    if not np.isfinite(values).all():
        raise ValueError(
            f"{field} holds {values[~np.isfinite(values)][0]}; allowed: finite numbers"
        )
    return values
