"""Corruption errors against their definition."""

from __future__ import annotations

import numpy as np
import pytest

from rbjax.metrics import ALEXNET, Baseline, corruption_errors

NAMES = ("fog", "snow")
ERRORS = {"fog": [0.1, 0.2, 0.3], "snow": [0.4, 0.5, 0.9]}


def test_half_of_alexnet_is_fifty_per_cent():
    halves = {name: np.full(5, error / 2) for name, error in ALEXNET.items()}
    found = corruption_errors(halves, 0.1, baseline=Baseline(ALEXNET))
    assert len(ALEXNET) == 15
    assert np.mean(list(ALEXNET.values())) == pytest.approx(0.788993, abs=1e-6)
    assert found.mean == pytest.approx(0.5)
    assert np.isnan(found.relative_mean)


def test_without_a_baseline_it_is_the_mean_error():
    found = corruption_errors(ERRORS, 0.05)
    assert found.errors["fog"] == pytest.approx(0.2)
    assert found.mean == pytest.approx((0.2 + 0.6) / 2)
    assert found.relative_errors["snow"] == pytest.approx(0.55)
    assert found.relative_mean == pytest.approx(0.35)


def test_with_a_baseline():
    baseline = Baseline({"fog": 0.4, "snow": 0.8, "rain": 0.5}, clean_error=0.2)
    found = corruption_errors(ERRORS, 0.05, baseline=baseline)
    # By hand: sums over severities of the model over sums of the baseline.
    assert found.errors["fog"] == pytest.approx(0.6 / 1.2)
    assert found.errors["snow"] == pytest.approx(1.8 / 2.4)
    assert found.mean == pytest.approx(0.625)
    assert found.relative_errors["fog"] == pytest.approx((0.6 - 0.15) / (1.2 - 0.6))
    assert found.relative_mean == pytest.approx((0.45 / 0.6 + 1.65 / 1.8) / 2)
    own = Baseline({name: np.mean(values) for name, values in ERRORS.items()}, 0.05)
    itself = corruption_errors(ERRORS, 0.05, baseline=own)
    assert itself.mean == pytest.approx(1.0)
    assert itself.relative_mean == pytest.approx(1.0)


def test_per_class():
    """Each class alone gives what the array of classes gives."""
    classes = {"fog": [[0.1, 0.5], [0.3, 0.7]], "snow": [[0.2, 0.2], [0.4, np.nan]]}
    found = corruption_errors(classes, [0.05, 0.1], baseline=Baseline({"fog": 0.5, "snow": 0.25}))
    alone = corruption_errors(
        {k: np.asarray(v)[:, 0] for k, v in classes.items()},
        0.05,
        baseline=Baseline({"fog": 0.5, "snow": 0.25}),
    )
    assert found.mean.shape == (2,)
    assert found.mean[0] == pytest.approx(float(alone.mean))
    assert found.errors["fog"][1] == pytest.approx(0.6 / 0.5)
    assert np.isnan(found.mean[1])


def test_a_corruption_that_does_not_hurt_the_baseline_has_no_relative_error():
    baseline = Baseline({"fog": 0.2, "snow": 0.8}, clean_error=0.2)
    found = corruption_errors(ERRORS, 0.05, baseline=baseline)
    assert np.isnan(found.relative_errors["fog"])
    assert np.isfinite(found.relative_errors["snow"])
    assert np.isnan(found.relative_mean)


@pytest.mark.parametrize(
    ("errors", "clean", "baseline", "message"),
    [
        ({}, 0.1, None, "errors is empty"),
        ({"fog": [1.2]}, 0.1, None, r"errors\['fog'\] is \[1.2\]; it must be in \[0, 1\]"),
        ({"fog": [0.2]}, -0.1, None, "clean_error is -0.1"),
        ({"fog": [[0.2, 0.3]]}, 0.1, None, r"shape \(1, 2\)"),
        ({"fog": 0.2}, 0.1, None, r"shape \(\)"),
        ({"fog": [0.2]}, 0.1, Baseline({"snow": 0.2}), "no errors of 'fog'; it has snow"),
        ({"fog": [0.2]}, 0.1, Baseline({"fog": 0.0}), "the error of 'fog' is 0.0"),
    ],
)
def test_wrong_input(errors, clean, baseline, message):
    with pytest.raises(ValueError, match=message):
        corruption_errors(errors, clean, baseline=baseline)
