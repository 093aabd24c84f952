"""What holds of every profile of class counts, whatever its options."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rbjax.data import imbalance

NUM_MAX = st.integers(1, 10**6)
NUM_CLASSES = st.integers(2, 1000)
RATIO = st.floats(1.0, 1e4, allow_nan=False)
FALLING = ("exponential", "linear", "step")

PROPERTIES = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],  # of a machine that does other things too
)


def make(name: str, num_max: int, num_classes: int, ratio: float) -> np.ndarray | None:
    """Returns a profile's counts, or None where it refuses to leave a class empty."""
    profile = imbalance.PROFILES[name]
    options = {"num_max": num_max, "num_classes": num_classes, "imbalance_ratio": ratio}
    if num_max / ratio >= 1 + 1e-6:
        return profile(**options)
    try:
        return profile(**options)
    except ValueError as error:
        if "would have no examples" not in str(error):
            raise
        return None


@pytest.mark.parametrize("name", FALLING)
@PROPERTIES
@given(num_max=NUM_MAX, num_classes=NUM_CLASSES, ratio=RATIO)
def test_counts_fall_from_the_largest_to_the_ratio(name, num_max, num_classes, ratio):
    counts = make(name, num_max, num_classes, ratio)
    if counts is None:
        return
    assert counts.dtype == np.int64
    assert counts.shape == (num_classes,)
    assert counts[0] == num_max
    assert counts.min() >= 1
    assert np.all(np.diff(counts) <= 0)
    # The last one is n_max / ratio, rounded down or, on the line, to the nearest.
    assert abs(counts[-1] - num_max / ratio) < 1 + 1e-6 * num_max


@PROPERTIES
@given(num_max=NUM_MAX, num_classes=NUM_CLASSES, ratio=RATIO)
def test_exponential_lies_between_step_and_linear(num_max, num_classes, ratio):
    exponential, linear = (
        make(name, num_max, num_classes, ratio) for name in ("exponential", "linear")
    )
    if exponential is None or linear is None:
        return
    # A geometric mean is at most the arithmetic one; each rounds by less than one.
    assert np.all(exponential <= linear + 1)
    total = num_max * (1 + 1 / ratio) / 2 * num_classes
    assert abs(linear.sum() - total) <= num_classes / 2 + 1e-6 * total


@PROPERTIES
@given(num_max=NUM_MAX, num_classes=NUM_CLASSES, ratio=RATIO)
def test_ratio_and_decay_say_the_same(num_max, num_classes, ratio):
    counts = make("exponential", num_max, num_classes, ratio)
    if counts is None:
        return
    decay = ratio ** (-1 / (num_classes - 1))
    by_decay = imbalance.exponential(num_max=num_max, num_classes=num_classes, decay=decay)
    np.testing.assert_array_equal(by_decay, counts)


@PROPERTIES
@given(
    available=st.lists(st.integers(1, 500), min_size=2, max_size=30),
    name=st.sampled_from(FALLING),
    ratio=st.floats(1.0, 100.0),
)
def test_no_more_than_there_is(available, name, ratio):
    try:
        counts = imbalance.create(name, class_counts=np.array(available), imbalance_ratio=ratio)
    except ValueError as error:
        if "would have no examples" not in str(error) or min(available) / ratio >= 1 + 1e-6:
            raise
        return
    assert np.all(counts <= available)
    assert counts[0] == available[0]
    assert np.all(counts > np.array(available) / ratio - 1 - 1e-6)
    everything = imbalance.create("balanced", class_counts=np.array(available))
    np.testing.assert_array_equal(everything, available)


@PROPERTIES
@given(
    available=st.lists(st.integers(1, 10**5), min_size=2, max_size=30),
    power=st.floats(0.0, 4.0, width=32, allow_subnormal=False),
)
def test_power_keeps_the_order_of_a_natural_imbalance(available, power):
    try:
        counts = imbalance.create("power", class_counts=np.array(available), power=power)
    except ValueError as error:
        if "would have no examples" not in str(error):
            raise
        return
    assert np.all((counts >= 1) & (counts <= available))
    order = np.argsort(available, kind="stable")
    assert np.all(np.diff(counts[order]) >= 0)
    # The ratio is the natural one to that power, up to what rounding down does.
    low, high = counts.min(), counts.max()
    ratio = (max(available) / min(available)) ** power
    assert high / (low + 1) * (1 - 1e-6) <= ratio <= (high + 1) / low * (1 + 1e-6)


@PROPERTIES
@given(
    labels=st.lists(st.integers(0, 3), min_size=4, max_size=60),
    fraction=st.floats(0.0, 1.0),
    seed=st.integers(0, 2**31 - 1),
    order=st.randoms(use_true_random=False),
)
def test_a_subset_is_of_examples_not_of_rows(labels, fraction, seed, order):
    """The same examples are picked in whatever order a split is stored; fewer are among more."""
    labels = np.array(labels)
    ids = np.arange(len(labels))
    counts = np.floor(np.bincount(labels, minlength=4) * fraction).astype(np.int64)
    rows = imbalance.select(labels, ids, counts, seed=seed)
    np.testing.assert_array_equal(np.bincount(labels[rows], minlength=4), counts)
    moved = np.array(order.sample(range(len(labels)), len(labels)))
    again = imbalance.select(labels[moved], ids[moved], counts, seed=seed)
    assert set(moved[again]) == set(rows)
    fewer = imbalance.select(labels, ids, counts // 2, seed=seed)
    assert set(fewer) <= set(rows)
