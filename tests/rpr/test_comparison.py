"""Two models on the same images: Tango's interval and McNemar's test."""

import math

import numpy as np
import pytest
import scipy.stats

from rbjax.rpr.comparison import compare, compare_classes


def flags(both, only_first, only_second, neither):
    """Returns the flags of two models whose table of agreement is given."""
    first = np.repeat([True, True, False, False], [both, only_first, only_second, neither])
    second = np.repeat([True, False, True, False], [both, only_first, only_second, neither])
    return first, second


def test_a_table_from_the_literature():
    """Fagerland, Lydersen and Laake 2014, Statistics in Medicine 33: airway reactivity, n = 21."""
    result = compare(*flags(1, 1, 7, 12))
    assert result.count == 21
    assert (result.only_first, result.only_second) == (1, 7)
    assert (result.first, result.second) == pytest.approx((2 / 21, 8 / 21))
    assert result.difference == pytest.approx(6 / 21)
    assert (result.low, result.high) == pytest.approx((0.026, 0.517), abs=5e-4)
    assert result.p_value == pytest.approx(2 * 9 / 2**8)  # P(at most 1 of 8), doubled


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_no_disagreement_gives_the_closed_form(confidence):
    """With b = c = 0 the score interval is +-z^2 / (n + z^2)."""
    z2 = scipy.stats.norm.ppf((1 + confidence) / 2) ** 2
    for n in (1, 10, 10_000):
        result = compare(*flags(n, 0, 0, 0), confidence=confidence)
        bound = z2 / (n + z2)
        assert (result.low, result.high) == pytest.approx((-bound, bound), abs=1e-9)
        assert result.p_value == 1


def test_a_pair_that_disagrees_everywhere_reaches_the_end():
    result = compare(*flags(0, 0, 10, 0))
    assert result.high == 1
    # The score test of d < 1 with b = n: n (1 - d) = z sqrt(var), here solved by hand for z^2.
    z2 = scipy.stats.norm.ppf(0.975) ** 2
    d = result.low
    share = ((1 - d) * 10 + abs(d * 10 - 10)) / 40  # q(d) of c = 0
    assert (10 * (1 - d)) ** 2 == pytest.approx(z2 * 10 * (2 * share + d * (1 - d)), rel=1e-6)


def test_swapping_the_models_mirrors_the_result():
    first, second = flags(50, 11, 4, 20)
    one, other = compare(first, second), compare(second, first)
    assert (one.difference, one.low, one.high) == pytest.approx(
        (-other.difference, -other.high, -other.low), abs=1e-10
    )
    assert one.p_value == other.p_value


def test_the_ends_are_where_the_score_test_just_rejects():
    """The restricted likelihood is maximised by brute force, not by Tango's formula."""
    b, c, n = 9, 3, 40
    result = compare(*flags(20, c, b, n - 20 - b - c))
    z2 = scipy.stats.norm.ppf(0.975) ** 2
    for d in (result.low, result.high):
        shares = np.linspace(max(0, -d), (1 - d) / 2, 2_000_001)[1:-1]  # of only_first
        rest = 1 - 2 * shares - d
        likelihood = c * np.log(shares) + b * np.log(shares + d) + (n - b - c) * np.log(rest)
        q = shares[np.argmax(likelihood)]
        assert (b - c - n * d) ** 2 / (n * (2 * q + d - d * d)) == pytest.approx(z2, rel=1e-4)


def test_coverage():
    """5,000 tables of n = 100: coverage of 95 % intervals within four standard errors of 95 %."""
    rng = np.random.default_rng(0)
    for probabilities in ([0.5, 0.05, 0.15, 0.3], [0.85, 0.02, 0.04, 0.09]):
        truth = probabilities[2] - probabilities[1]
        tables, counts = np.unique(
            rng.multinomial(100, probabilities, 5000)[:, 1:3], axis=0, return_counts=True
        )
        covered = 0
        for (only_first, only_second), count in zip(tables, counts, strict=True):
            result = compare(*flags(0, only_first, only_second, 100 - only_first - only_second))
            covered += count * (result.low <= truth <= result.high)
        assert abs(covered / 5000 - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 5000)


def test_p_values_under_equal_shares_reject_at_most_as_often_as_they_say():
    """Exact: over all outcomes of 30 discordant images, at five levels."""
    outcomes = np.arange(31)
    p_values = np.array([compare(*flags(5, k, 30 - k, 5)).p_value for k in outcomes])
    mass = scipy.stats.binom.pmf(outcomes, 30, 0.5)
    for level in (0.01, 0.05, 0.1, 0.3, 0.8):
        assert mass[p_values <= level].sum() <= level + 1e-12
    assert mass[p_values <= 0.05].sum() > 0.03


def test_classes_and_counted_images():
    rng = np.random.default_rng(1)
    first, second, counted = (rng.random(300) < p for p in (0.7, 0.8, 0.9))
    labels = rng.integers(0, 2, 300)
    classes = compare_classes(first, second, labels, num_classes=3, counted=counted)
    assert len(classes) == 3
    for label in (0, 1):
        kept = counted & (labels == label)
        assert classes[label] == compare(first[kept], second[kept])
    assert classes[2].count == 0
    assert all(math.isnan(x) for x in (classes[2].difference, classes[2].low, classes[2].p_value))
    assert (
        sum(c.count for c in classes)
        == counted.sum()
        == compare(first, second, counted=counted).count
    )


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((np.ones(3, bool), np.ones(4, bool)), {}, r"second is bool of shape \(4,\)"),
        ((np.ones(3), np.ones(3, bool)), {}, "first is float64"),
        ((np.ones(3, bool),) * 2, {"counted": np.ones(2, bool)}, "counted is bool"),
        ((np.ones(3, bool),) * 2, {"confidence": 1.0}, "confidence is 1.0"),
        ((np.ones(3, bool),) * 2, {"confidence": 95}, "confidence is 95"),
    ],
)
def test_mistakes_are_named(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        compare(*arguments, **options)


def test_labels_are_checked():
    ones = np.ones(3, bool)
    with pytest.raises(ValueError, match="labels have shape"):
        compare_classes(ones, ones, np.zeros(2, int), num_classes=2)
    with pytest.raises(ValueError, match="labels holds 2; allowed: 0 to 1"):
        compare_classes(ones, ones, np.array([0, 1, 2]), num_classes=2)
