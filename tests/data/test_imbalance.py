import numpy as np
import pytest

from rbjax.data import imbalance

CIFAR10 = np.full(10, 5000)
CIFAR100 = np.full(100, 500)
EXPONENTIAL = [  # K, n_max, ratio, the sum of the counts
    (10, 5000, 100, 12406),
    (10, 5000, 50, 13996),
    (10, 5000, 10, 20431),
    (100, 500, 100, 10847),
    (100, 500, 50, 12608),
    (100, 500, 10, 19573),
]


@pytest.mark.parametrize(("num_classes", "num_max", "ratio", "total"), EXPONENTIAL)
def test_exponential_has_the_published_sums_in_both_forms(num_classes, num_max, ratio, total):
    counts = imbalance.exponential(num_max=num_max, num_classes=num_classes, imbalance_ratio=ratio)
    decay = ratio ** (-1 / (num_classes - 1))
    same = imbalance.exponential(num_max=num_max, num_classes=num_classes, decay=decay)
    assert counts.sum() == total
    assert counts[0] == num_max
    assert counts[-1] == num_max // ratio
    np.testing.assert_array_equal(same, counts)


def test_exponential_counts_of_cifar10():
    counts = imbalance.exponential(num_max=5000, num_classes=10, imbalance_ratio=100)
    assert counts.dtype == np.int64
    assert counts.tolist() == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    counts = imbalance.exponential(num_max=5000, num_classes=10, imbalance_ratio=50)
    assert counts[-3:].tolist() == [238, 154, 100]
    counts = imbalance.exponential(num_max=5000, num_classes=10, imbalance_ratio=10)
    assert counts.tolist() == [5000, 3871, 2997, 2320, 1796, 1391, 1077, 834, 645, 500]


def test_exponential_counts_of_cifar100():
    counts = imbalance.exponential(num_max=500, num_classes=100, imbalance_ratio=100)
    assert counts[:3].tolist() == [500, 477, 455]
    assert counts[-1] == 5


def test_exponential_without_decay_is_balanced():
    for keywords in ({"decay": 1.0}, {"imbalance_ratio": 1}):
        counts = imbalance.PROFILES["exponential"](num_max=7, num_classes=3, **keywords)
        assert counts.tolist() == [7, 7, 7]


@pytest.mark.parametrize(("ratio", "total"), [(100, 25250), (10, 27500)])
@pytest.mark.parametrize(("num_classes", "num_max"), [(10, 5000), (100, 500)])
@pytest.mark.parametrize("profile", [imbalance.step, imbalance.linear])
def test_step_and_linear_sums(profile, num_classes, num_max, ratio, total):
    counts = profile(num_max=num_max, num_classes=num_classes, imbalance_ratio=ratio)
    assert counts.sum() == total
    assert counts[0] == num_max
    assert counts[-1] == num_max // ratio


def test_linear_counts():
    counts = imbalance.linear(num_max=5000, num_classes=10, imbalance_ratio=10)
    assert counts.tolist() == list(range(5000, 0, -500))


def test_step_counts():
    counts = imbalance.step(num_max=100, num_classes=5, imbalance_ratio=10)
    assert counts.tolist() == [100, 100, 10, 10, 10]
    counts = imbalance.step(num_max=100, num_classes=5, imbalance_ratio=10, minority_fraction=0.2)
    assert counts.tolist() == [100, 100, 100, 100, 10]


def test_balanced_counts():
    assert imbalance.balanced(num_max=4, num_classes=3).tolist() == [4, 4, 4]


def test_target_counts_of_p5():
    under = imbalance.target(num_classes=10, target_class=3, target_count=1000, other_count=5000)
    over = imbalance.target(num_classes=10, target_class=3, target_count=5000, other_count=1000)
    assert under.sum() == 46000
    assert over.sum() == 14000
    assert under[3] == 1000
    assert over[3] == 5000


SIZE = {"num_max": 100, "num_classes": 10}
TARGET = {"num_classes": 10, "target_class": 0, "target_count": 5, "other_count": 5}


@pytest.mark.parametrize(
    ("profile", "keywords", "message"),
    [
        ("exponential", SIZE, "give imbalance_ratio or decay, one of the two; none given"),
        ("exponential", {**SIZE, "imbalance_ratio": 2, "decay": 0.5}, "both given"),
        (
            "exponential",
            {**SIZE, "imbalance_ratio": 0.5},
            "imbalance_ratio is 0.5; it must be at least 1",
        ),
        (
            "exponential",
            {**SIZE, "imbalance_ratio": float("nan")},
            "imbalance_ratio is nan; it must be finite",
        ),
        (
            "exponential",
            {**SIZE, "imbalance_ratio": float("inf")},
            "imbalance_ratio is inf; it must be finite",
        ),
        ("exponential", {**SIZE, "imbalance_ratio": 200}, "class 8 would have no examples"),
        ("exponential", {**SIZE, "decay": 0.0}, "decay is 0.0; it must be above 0 and at most 1"),
        ("exponential", {**SIZE, "decay": 1.5}, "decay is 1.5"),
        ("exponential", {**SIZE, "decay": float("nan")}, "decay is nan"),
        ("linear", {**SIZE, "imbalance_ratio": 0}, "imbalance_ratio is 0"),
        ("step", {**SIZE, "imbalance_ratio": "10"}, "imbalance_ratio is '10'"),
        ("step", {**SIZE, "imbalance_ratio": 2, "minority_fraction": 2}, "minority_fraction is 2"),
        ("step", {"num_max": 0, "num_classes": 9, "imbalance_ratio": 2}, "num_max is 0"),
        (
            "balanced",
            {"num_max": 2.5, "num_classes": 9},
            "num_max is 2.5; it must be a whole number",
        ),
        (
            "balanced",
            {"num_max": 5, "num_classes": 1},
            "num_classes is 1; it must be .* at least 2",
        ),
        ("linear", {"num_classes": 9, "imbalance_ratio": 2}, "num_max is None; .*the 9 counts"),
        (
            "step",
            {"num_classes": 3, "imbalance_ratio": 2, "class_counts": np.ones(2, int)},
            "the 3 counts",
        ),
        ("target", {**TARGET, "target_class": 10}, r"target_class = 10: must be in 0\.\.9"),
        ("target", {**TARGET, "target_class": -1}, "target_class is -1"),
        ("target", {**TARGET, "target_count": 0}, "target_count is 0"),
        ("target", {**TARGET, "other_count": 0}, "other_count is 0"),
    ],
)
def test_wrong_values(profile, keywords, message):
    with pytest.raises(ValueError, match=message):
        imbalance.PROFILES[profile](**keywords)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("exponential", {"imbalance_ratio": 4, "decay": None}, [120, 50, 37]),
        ("exponential", {"decay": 0.5}, [120, 50, 37]),
        ("linear", {"imbalance_ratio": 2}, [120, 75, 75]),
        ("step", {"imbalance_ratio": 3, "minority_fraction": 0.5}, [120, 33, 50]),
        ("balanced", {}, [120, 100, 150]),
    ],
)
def test_classes_that_differ_by_nature_keep_a_share_of_their_own_count(name, options, expected):
    """P1: n_i lambda^i, n_i the original samples in the class."""
    available = np.array([120, 100, 150])
    counts = imbalance.create(name, class_counts=available, **options)
    assert counts.tolist() == expected
    available[:] = 0  # the counts are no view
    assert counts.tolist() == expected
    equal = imbalance.create(name, class_counts=np.array([120, 100, 150]), num_max=100, **options)
    shares = {"balanced": [1, 1, 1], "linear": [1, 0.75, 0.5], "step": [1, 1 / 3, 1 / 3]}
    np.testing.assert_array_equal(
        equal, np.floor(100 * np.array(shares.get(name, [1, 0.5, 0.25])) + 0.01)
    )


def test_create_balanced_leaves_a_dataset_as_it_is():
    available = np.array([120, 100, 150])
    assert imbalance.create("balanced", class_counts=available).tolist() == available.tolist()
    counts = imbalance.create("balanced", class_counts=available, num_max=90)
    assert counts.tolist() == [90, 90, 90]


def test_create_target():
    under = imbalance.create(
        "target", class_counts=CIFAR10, target_class=2, target_count=1000, other_count=None
    )
    assert under.tolist() == [5000, 5000, 1000, *[5000] * 7]
    over = imbalance.create("target", class_counts=CIFAR10, target_class=2, other_count=1000)
    assert over.tolist() == [1000, 1000, 5000, *[1000] * 7]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("exponental", {}, "imbalance profile 'exponental' is unknown.*did you mean 'exponential'"),
        ("step", {"imbalance_ration": 10}, "no option 'imbalance_ration'.*'imbalance_ratio'"),
        ("balanced", {"decay": 0.5}, "no option 'decay'; allowed: num_max"),
        ("linear", {}, "'linear' needs its option 'imbalance_ratio'"),
        ("balanced", {"num_max": 501}, "class 0: 501 examples asked for, 500 available"),
        ("target", {"target_class": 100}, "target_class = 100"),
        ("target", {"other_count": 0}, "other_count is 0"),
        ("target", {"target_count": 501}, "class 0: 501 examples asked for, 500 available"),
    ],
)
def test_create_refuses(name, options, message):
    with pytest.raises(ValueError, match=message):
        imbalance.create(name, class_counts=CIFAR100, **options)


def test_select_gives_the_counts_and_is_stable():
    labels = np.tile([0, 1, 2], 20)
    ids = np.arange(60)[::-1]
    rows = imbalance.select(labels, ids, np.array([20, 5, 1]), seed=0)
    assert np.bincount(labels[rows]).tolist() == [20, 5, 1]
    assert np.all(np.diff(rows) > 0)
    np.testing.assert_array_equal(rows, imbalance.select(labels, ids, np.array([20, 5, 1]), seed=0))
    golden = [4, 16, 31, 34, 48, 55]  # ids of classes 1 and 2
    assert sorted(ids[rows[labels[rows] > 0]].tolist()) == golden


def test_select_depends_on_the_seed_and_the_stream():
    labels, ids = np.tile([0, 1], 50), np.arange(100)
    counts = np.array([20, 20])
    picks = [
        imbalance.select(labels, ids, counts, seed=seed, name=name).tolist()
        for seed, name in ((0, "imbalance"), (1, "imbalance"), (0, "validation"))
    ]
    assert picks[0] != picks[1]
    assert picks[0] != picks[2]


def test_select_is_nested_and_independent_of_the_storage_order():
    rng = np.random.default_rng(0)
    labels, ids = rng.integers(0, 3, 90), rng.permutation(90)
    few = set(ids[imbalance.select(labels, ids, np.array([9, 4, 2]), seed=3)])
    many = set(ids[imbalance.select(labels, ids, np.array([9, 8, 7]), seed=3)])
    assert few < many
    shuffle = rng.permutation(90)
    rows = imbalance.select(labels[shuffle], ids[shuffle], np.array([9, 4, 2]), seed=3)
    assert set(ids[shuffle][rows]) == few


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([3, 1], "class 0: 3 examples asked for, 2 available"),
        ([1, -1], "must be at least 0"),
        ([1], "class_counts has 1 classes, the labels have 2"),
    ],
)
def test_select_refuses(counts, message):
    with pytest.raises(ValueError, match=message):
        imbalance.select(np.array([0, 0, 1]), np.arange(3), np.array(counts), seed=0)


def test_a_profile_from_outside_gets_the_seed_that_it_asks_for(tmp_path, monkeypatch):
    text = "import numpy as np\ndef drawn(*, class_counts, seed):\n"
    text += "    return np.random.default_rng(seed).integers(1, class_counts)\n"
    (tmp_path / "profiles_outside.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    counts = np.array([50, 60, 70])
    made = [imbalance.create("profiles_outside:drawn", class_counts=counts, seed=n) for n in (1, 2)]
    for n, own in zip((1, 2), made, strict=True):
        np.testing.assert_array_equal(own, np.random.default_rng(n).integers(1, counts))
