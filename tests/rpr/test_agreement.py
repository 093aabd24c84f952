from __future__ import annotations

import numpy as np
import pytest

from rbjax.rpr.agreement import (
    COMPONENTS,
    bootstrap_agreement,
    cohen_kappa,
    fleiss_kappa,
    rank_correlation,
    variance_shares,
)

DEVIATIONS = {
    "datapoint": 1.0,
    "family": 0.6,
    "seed": 0.3,
    "datapoint_family": 0.5,
    "residual": 0.4,
}
VARIANCES = np.array([DEVIATIONS[name] ** 2 for name in COMPONENTS])


def synthetic(rng: np.random.Generator, F: int, S: int, N: int) -> np.ndarray:
    shapes = ((1, 1, N), (F, 1, 1), (F, S, 1), (F, 1, N), (F, S, N))
    values = np.zeros((F, S, N))
    for name, shape in zip(COMPONENTS, shapes, strict=True):
        values += DEVIATIONS[name] * rng.normal(size=shape)
    return values


def test_components_are_unbiased():
    """4,000 datasets of 4 families, 3 seeds and 8 datapoints: within four standard errors."""
    rng = np.random.default_rng(0)
    found = np.array([variance_shares(synthetic(rng, 4, 3, 8)).variances for _ in range(4000)])
    errors = found.std(axis=0) / np.sqrt(4000)
    assert np.all(np.abs(found.mean(axis=0) - VARIANCES) <= 4 * errors)
    assert np.all(errors < 0.02)


def test_components_of_pure_effects():
    """What only one factor does belongs to it alone, and is its variance (n - 1 below)."""
    levels = np.array([1.0, 2.0, 4.0])
    F, S, N = 3, 3, 3
    for axis, name in ((2, "datapoint"), (0, "family")):
        shape = [1, 1, 1]
        shape[axis] = 3
        values = np.broadcast_to(levels.reshape(shape), (F, S, N))
        found = variance_shares(values)
        assert found.shares[COMPONENTS.index(name)] == pytest.approx(1)
        assert found.variances[COMPONENTS.index(name)] == pytest.approx(levels.var(ddof=1))
        assert found.cut == ()
    assert np.isnan(variance_shares(np.ones((2, 2, 2))).shares).all()


def test_negative_components_are_cut_and_named():
    """Seeds that contradict each other leave less between families than chance would."""
    values = np.array([[[0.0, 1.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]])
    found = variance_shares(values)
    assert found.variances.min() < 0
    assert found.cut == tuple(np.array(COMPONENTS)[found.variances < 0])
    assert found.shares.min() == 0
    assert found.shares.sum() == pytest.approx(1)


def test_rank_correlation_is_that_of_mean_ranks():
    from scipy.stats import pearsonr, rankdata

    values = np.random.default_rng(0).integers(0, 5, (2, 3, 40)).astype(float)
    found = rank_correlation(values)
    ranks = rankdata(values.reshape(6, 40), axis=1)
    expected = np.array([[pearsonr(a, b)[0] for b in ranks] for a in ranks])
    np.testing.assert_allclose(found.matrix, expected, atol=1e-12)
    within = [expected[i, j] for i, j in ((0, 1), (0, 2), (1, 2), (3, 4), (3, 5), (4, 5))]
    assert found.within == pytest.approx(np.mean(within))
    assert found.between == pytest.approx(expected[:3, 3:].mean())


def test_correlations_of_known_pairs():
    up = np.arange(10.0)
    found = rank_correlation(np.stack([up, up**3, -up, np.exp(-up)]).reshape(2, 2, 10))
    assert found.within == pytest.approx(1)
    assert found.between == pytest.approx(-1)
    assert np.isnan(rank_correlation(np.stack([up, 0 * up]).reshape(1, 2, 10)).within)
    assert np.isnan(rank_correlation(up.reshape(1, 1, 10)).between)


def test_cohen_kappa_of_a_known_table():
    """20 both, 15 neither, 5 and 10 one only: p_o 0.7, p_e 0.5, kappa 0.4."""
    first = np.repeat([True, True, False, False], [20, 5, 10, 15])
    second = np.repeat([True, False, True, False], [20, 5, 10, 15])
    found = cohen_kappa(np.stack([first, second]).reshape(2, 1, 50))
    assert found.between == pytest.approx(0.4)
    assert np.isnan(found.within)
    constant = cohen_kappa(np.ones((1, 2, 5), bool))
    assert np.isnan(constant.within)


def test_fleiss_kappa_by_its_definition():
    flags = np.random.default_rng(0).random((2, 3, 60)) < 0.3
    ratings = np.stack([flags.sum(axis=(0, 1)), (~flags).sum(axis=(0, 1))], axis=1)
    agreeing = np.mean((np.sum(ratings**2, axis=1) - 6) / (6 * 5))
    chance = np.sum((ratings.sum(axis=0) / (60 * 6)) ** 2)
    assert fleiss_kappa(flags) == pytest.approx((agreeing - chance) / (1 - chance))
    assert fleiss_kappa(np.broadcast_to(flags[0, 0], (2, 3, 60))) == pytest.approx(1)
    assert np.isnan(fleiss_kappa(np.ones((2, 2, 5), bool)))


def test_bootstrap_holds_the_estimates_and_narrows_with_datapoints():
    rng = np.random.default_rng(0)
    widths = []
    for num_datapoints in (100, 1600):
        values = synthetic(rng, 3, 2, num_datapoints)
        found = bootstrap_agreement(values, values > 0, num_resamples=200)
        shares, ranks = variance_shares(values).shares, rank_correlation(values)
        assert found.within[0] < ranks.within < found.within[1]
        assert found.between[0] < ranks.between < found.between[1]
        assert found.kappa[0] < fleiss_kappa(values > 0) < found.kappa[1]
        assert np.all((found.shares[0] <= shares) & (shares <= found.shares[1]))
        widths.append([found.between[1] - found.between[0], np.ptp([s[0] for s in found.shares])])
    assert widths[0][0] / widths[1][0] == pytest.approx(4, rel=0.35)
    again = bootstrap_agreement(values, values > 0, num_resamples=200)
    np.testing.assert_array_equal(again.shares, found.shares)


def test_interval_of_what_has_no_value_is_nan():
    values = synthetic(np.random.default_rng(0), 2, 2, 30)
    found = bootstrap_agreement(values, np.ones_like(values, bool), num_resamples=20)
    assert np.isnan(found.kappa).all()
    assert np.isfinite(found.between).all()


def test_coverage_of_the_bootstrap():
    """200 datasets of 150 datapoints whose between-family correlation is known by simulation."""
    truth = rank_correlation(synthetic(np.random.default_rng(1), 2, 2, 200_000)).between
    rng, covered = np.random.default_rng(2), 0
    for trial in range(200):
        values = synthetic(rng, 2, 2, 150)
        low, high = bootstrap_agreement(values, values > 0, num_resamples=199, seed=trial).between
        covered += low <= truth <= high
    assert covered / 200 >= 0.88


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rank_correlation(np.ones((2, 3))), r"values has shape \(2, 3\)"),
        (lambda: variance_shares(np.ones((2, 1, 9))), "F and S at least 2"),
        (lambda: variance_shares(np.full((2, 2, 3), np.nan)), "values holds nan"),
        (
            lambda: bootstrap_agreement(np.ones((2, 2, 3)), np.ones((2, 2, 4), bool)),
            r"flags has shape \(2, 2, 4\)",
        ),
    ],
)
def test_wrong_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
