"""Robust subsets and their random controls."""

import numpy as np
import pytest

from rbjax.rpr.selection import random_subset, robust_subset

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 600)
ROBUST = RNG.random(600) < np.array([0.9, 0.5, 0.1])[LABELS]
IDS = RNG.permutation(5000)[:600]


def chosen(**options):
    return robust_subset(ROBUST, LABELS, num_classes=3, **options)


def test_only_robust_images_and_as_many_of_each_class_as_there_are():
    available = np.bincount(LABELS[ROBUST], minlength=3)
    assert available[2] < 50 < available[1]
    subset = chosen(per_class=50)
    assert ROBUST[subset.rows].all()
    assert subset.available.tolist() == available.tolist()
    assert subset.class_counts.tolist() == [50, 50, available[2]]
    np.testing.assert_array_equal(np.bincount(LABELS[subset.rows]), subset.class_counts)
    assert len(np.unique(subset.rows)) == len(subset.rows) == subset.class_counts.sum()
    assert chosen().class_counts.tolist() == available.tolist()  # 1,500 are more than there are


def test_neither_the_order_of_the_rows_nor_the_other_images_matter():
    expected = set(IDS[chosen(per_class=20, example_ids=IDS).rows])
    order = RNG.permutation(600)
    shuffled = robust_subset(
        ROBUST[order], LABELS[order], num_classes=3, per_class=20, example_ids=IDS[order]
    )
    assert set(IDS[order][shuffled.rows]) == expected
    kept = np.flatnonzero(ROBUST)
    alone = robust_subset(
        ROBUST[kept], LABELS[kept], num_classes=3, per_class=20, example_ids=IDS[kept]
    )
    assert set(IDS[kept][alone.rows]) == expected
    assert expected < set(IDS[chosen(per_class=40, example_ids=IDS).rows])
    assert expected != set(IDS[chosen(per_class=20, example_ids=IDS, seed=1).rows])


def test_the_choice_is_uniform():
    """4,000 seeds, 5 of 20 images: each is chosen 1,000 times, up to five standard deviations."""
    labels, robust = np.zeros(20, int), np.ones(20, bool)
    counts = np.zeros(20)
    for seed in range(4000):
        counts[robust_subset(robust, labels, num_classes=1, per_class=5, seed=seed).rows] += 1
    assert np.abs(counts - 1000).max() < 5 * (4000 * 0.25 * 0.75) ** 0.5


def test_the_control_has_the_same_class_counts_and_robust_images_by_chance_only():
    subset = chosen(per_class=60, example_ids=IDS)
    control = random_subset(LABELS, class_counts=subset.class_counts, example_ids=IDS)
    np.testing.assert_array_equal(np.bincount(LABELS[control.rows]), subset.class_counts)
    assert control.available.tolist() == np.bincount(LABELS).tolist()
    share = ROBUST[control.rows][LABELS[control.rows] == 1].mean()
    assert 0.25 < share < 0.75  # 60 images of which half are robust, four standard deviations
    order = RNG.permutation(600)
    shuffled = random_subset(
        LABELS[order], class_counts=subset.class_counts, example_ids=IDS[order]
    )
    assert set(IDS[order][shuffled.rows]) == set(IDS[control.rows])
    # Were both in one order of priority, the control would begin with the subset's own images.
    everyone = robust_subset(
        np.ones(600, bool), LABELS, num_classes=3, per_class=60, example_ids=IDS
    )
    same = random_subset(LABELS, class_counts=everyone.class_counts, example_ids=IDS)
    assert set(everyone.rows) != set(same.rows)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"robust": np.ones(599, bool)}, r"robust is bool of shape \(599,\); it must be bool"),
        ({"robust": ROBUST.astype(int)}, "robust is int64"),
        ({"robust": np.zeros(600, bool)}, "robust is False everywhere"),
        ({"num_classes": 2}, "labels holds 2; allowed: 0 to 1"),
        ({"per_class": 0}, "per_class is 0"),
        ({"example_ids": IDS[:5]}, "labels and example_ids have shapes"),
        ({"example_ids": -IDS}, "example_ids holds -"),
    ],
)
def test_mistakes_are_named(changes, message):
    arguments = {"robust": ROBUST, "labels": LABELS, "num_classes": 3, **changes}
    with pytest.raises(ValueError, match=message):
        robust_subset(**arguments)


def test_a_control_larger_than_a_class_is_refused():
    with pytest.raises(ValueError, match="class 0: 700 examples asked for"):
        random_subset(LABELS, class_counts=np.array([700, 1, 1]))


def test_groups_stay_whole_and_most_of_each_is_robust():
    groups = RNG.permutation(np.repeat(np.arange(120), 5))
    robust = np.isin(groups, np.arange(60)) & (RNG.random(600) < 0.9)
    share = np.bincount(groups, robust) / 5
    subset = robust_subset(robust, LABELS, num_classes=3, per_class=40, groups=groups)
    control = random_subset(LABELS, class_counts=subset.class_counts, groups=groups)
    for made in (subset, control):
        kept = np.unique(groups[made.rows])
        assert len(made.rows) == 5 * len(kept) > 0
        np.testing.assert_array_equal(np.bincount(LABELS[made.rows]), made.class_counts)
        assert np.abs(made.class_counts - subset.class_counts).sum() <= 15
    assert (share[np.unique(groups[subset.rows])] > 0.5).all()
    assert np.abs(subset.class_counts - 40).sum() <= 15
    assert subset.available.sum() == 5 * np.sum(share > 0.5)
    with pytest.raises(ValueError, match="groups is float64 of shape"):
        robust_subset(ROBUST, LABELS, num_classes=3, groups=groups / 2)
    with pytest.raises(ValueError, match="half of each group"):
        robust_subset(IDS[:4] == IDS[0], 0 * IDS[:4], num_classes=1, groups=np.array([1, 1, 2, 2]))
