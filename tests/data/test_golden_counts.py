"""Class counts, subsets and statistics that must never change: all that reads real images."""

import hashlib

import numpy as np
import pytest

from rbjax.data import DATASETS, imbalance, info, load, subsample

OPTIONS = {
    "balanced": {},
    "exponential": {"imbalance_ratio": 100},
    "linear": {"imbalance_ratio": 100},
    "step": {"imbalance_ratio": 100},
    "target": {"target_class": 1, "target_count": 100},
    "power": {"power": 0.5},
}
# Of the first, the second and the last class, and of all.  CIFAR's exponential and step sums are
# those of Cui et al. (2019) and Cao et al. (2019).
COUNTS = {
    "digits": {
        "balanced": (142, 146, 144, 1437),
        "exponential": (138, 82, 1, 337),
        "linear": (138, 123, 1, 697),
        "step": (138, 138, 1, 695),
        "target": (142, 100, 144, 1391),
        "power": (139, 141, 140, 1402),
    },
    "mnist": {
        "balanced": (5923, 6742, 5949, 60000),
        "exponential": (5421, 3249, 54, 13449),
        "linear": (5421, 4825, 54, 27376),
        "step": (5421, 5421, 54, 27375),
        "target": (5923, 100, 5949, 53358),
        "power": (5666, 6045, 5678, 57007),
    },
    "fashion_mnist": {
        "balanced": (6000, 6000, 6000, 60000),
        "exponential": (6000, 3596, 60, 14886),
        "linear": (6000, 5340, 60, 30300),
        "step": (6000, 6000, 60, 30300),
        "target": (6000, 100, 6000, 54100),
        "power": (6000, 6000, 6000, 60000),
    },
    "cifar10": {
        "balanced": (5000, 5000, 5000, 50000),
        "exponential": (5000, 2997, 50, 12406),
        "linear": (5000, 4450, 50, 25250),
        "step": (5000, 5000, 50, 25250),
        "target": (5000, 100, 5000, 45100),
        "power": (5000, 5000, 5000, 50000),
    },
    "cifar100": {
        "balanced": (500, 500, 500, 50000),
        "exponential": (500, 477, 5, 10847),
        "linear": (500, 495, 5, 25250),
        "step": (500, 500, 5, 25250),
        "target": (500, 100, 500, 49600),
        "power": (500, 500, 500, 50000),
    },
    "svhn_cropped": {
        "balanced": (4948, 13861, 4659, 73257),
        "exponential": (4659, 2792, 46, 11557),
        "linear": (4659, 4147, 47, 23530),
        "step": (4659, 4659, 46, 23525),
        "target": (4948, 100, 4659, 59496),
        "power": (4801, 8036, 4659, 57483),
    },
    "tiny_imagenet": {
        "balanced": (500, 500, 500, 100000),
        "exponential": (500, 488, 5, 21549),
        "linear": (500, 498, 5, 50500),
        "step": (500, 500, 5, 50500),
        "target": (500, 100, 500, 99600),
        "power": (500, 500, 500, 100000),
    },
}
# The profiles that fall, of each class's own count n_i: by exact arithmetic, n_i 100^(-i/9),
# n_i (1 - 0.99 i / 9) and n_i / 100.
OF_NATURE = {
    "digits": {
        "exponential": (142, 87, 1, 351),
        "linear": (142, 130, 1, 727),
        "step": (142, 146, 1, 726),
    },
    "mnist": {
        "exponential": (5923, 4041, 59, 15202),
        "linear": (5923, 6000, 59, 30603),
        "step": (5923, 6742, 59, 30888),
    },
    "svhn_cropped": {
        "exponential": (4948, 8309, 46, 20936),
        "linear": (4948, 12336, 47, 42392),
        "step": (4948, 13861, 46, 45625),
    },
}
COUNTS["cifar100_superclasses"] = {
    "balanced": (2500, 2500, 2500, 50000),
    "exponential": (2500, 1961, 25, 11514),
    "linear": (2500, 2370, 25, 25250),
    "step": (2500, 2500, 25, 25250),
    "target": (2500, 100, 2500, 47600),
    "power": (2500, 2500, 2500, 50000),
}
# Whose training images are MNIST's.
COUNTS |= dict.fromkeys(("mnist_corrupted", "alignmnist", "alignmnist_generated"), COUNTS["mnist"])


def test_every_dataset_of_known_counts_has_golden_ones():
    assert set(COUNTS) == {
        name for name, known in DATASETS.items() if "train" in known.class_counts
    }
    assert set(OPTIONS) == set(imbalance.PROFILES)


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("profile", OPTIONS)
def test_class_counts(name, profile):
    available = np.array(DATASETS[name].class_counts["train"])
    falls = profile in ("exponential", "linear", "step")
    # Which all have before; elsewhere each has its own count.
    equal = {"num_max": int(available.min())} if falls else {}
    counts = imbalance.create(profile, class_counts=available, **OPTIONS[profile], **equal)
    assert (counts[0], counts[1], counts[-1], counts.sum()) == COUNTS[name][profile]
    assert np.all(counts <= available)
    own = imbalance.create(profile, class_counts=available, **OPTIONS[profile])
    assert np.all(own <= available)
    expected = OF_NATURE.get(name, COUNTS[name]).get(profile, COUNTS[name][profile])
    if np.ptp(available) == 0 or name in OF_NATURE:
        assert (own[0], own[1], own[-1], own.sum()) == expected


@pytest.mark.parametrize(
    ("power", "expected"),
    [
        (0.0, [10, 10, 10, 10]),  # every class as the scarcest
        (1.0, [600, 150, 150, 10]),  # as it is
        (2.0, [600, 37, 37, 0]),
        (0.5, [77, 38, 38, 10]),  # sqrt(600 * 10) = 77.5
    ],
)
def test_power_of_a_natural_imbalance(power, expected):
    available = np.array([600, 150, 150, 10])
    if 0 in expected:
        with pytest.raises(ValueError, match="class 3 would have no examples"):
            imbalance.create("power", class_counts=available, power=power)
        return
    counts = imbalance.create("power", class_counts=available, power=power)
    assert counts.tolist() == expected


def test_power_with_a_size_of_the_largest_class():
    counts = imbalance.create("power", class_counts=np.array([600, 150]), power=0.5, num_max=100)
    assert counts.tolist() == [100, 50]
    natural = imbalance.create("power", class_counts=np.array([600, 150]))
    assert natural.tolist() == [600, 150]  # power 1 where none is given
    with pytest.raises(ValueError, match="class 1: 300 examples asked for, 150 available"):
        imbalance.create("power", class_counts=np.array([600, 150]), power=0.5, num_max=600)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"power": -1.0}, "power is -1.0; it must be between 0 and 10"),
        ({"power": float("nan")}, "power is nan; it must be finite"),
        ({"power": 1.0, "decay": 0.5}, "imbalance profile 'power' has no option 'decay'"),
    ],
)
def test_power_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        imbalance.create("power", class_counts=np.array([5, 3]), **options)


SUBSETS = [
    ("digits", "exponential", 0, 559, "2ae9ed6b6d5118b8"),
    ("digits", "exponential", 1, 559, "7f154dadb36fcd43"),
    ("digits", "power", 0, 1404, "105694881b9aab16"),
    ("digits", "step", 0, 755, "ca2f27a50f04d8cf"),
    ("mnist", "exponential", 0, 22152, "d1cac2b8be124614"),
    ("mnist", "exponential", 1, 22152, "d9aa64714f5a9e58"),
    ("mnist", "power", 0, 53546, "7f316fb10d82c142"),
    ("cifar10", "exponential", 0, 20431, "b877bf599df3da99"),
    ("cifar10", "step", 0, 27500, "36d951c118a08324"),
]


@pytest.mark.parametrize(
    ("name", "profile", "seed", "size", "digest"),
    [
        pytest.param(*row, marks=() if row[0] == "digits" else pytest.mark.real_data)
        for row in SUBSETS
    ],
)
def test_the_same_images_for_the_same_seed(name, profile, seed, size, digest, require_dataset):
    if name != "digits":
        require_dataset(name)

    def counts(available):
        if profile == "power":
            return imbalance.create(profile, class_counts=available, power=2.0)
        size = {"imbalance_ratio": 10, "num_max": int(available.min())}
        return imbalance.create(profile, class_counts=available, **size)

    kept = subsample(load(name, "train"), counts, seed=seed)
    content = kept.labels.astype("<i4").tobytes() + kept.images.tobytes()
    assert kept.num_examples == size
    assert hashlib.sha256(content).hexdigest()[:16] == digest


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "std_too"), [("mnist", True), ("cifar10", False)])
def test_statistics_are_those_of_train(name, std_too, require_dataset):
    require_dataset(name)
    train = load(name, "train")
    dataset_info = info(name)
    mean = train.images.mean((0, 1, 2), dtype=np.float64) / 255
    np.testing.assert_allclose(mean, dataset_info.mean, atol=6e-5)
    if std_too:
        std = train.images.std((0, 1, 2), dtype=np.float64) / 255
        np.testing.assert_allclose(std, dataset_info.std, atol=6e-5)


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["mnist", "cifar10", "cifar100", "fashion_mnist", "svhn_cropped"])
def test_published_counts_are_those_of_the_files(name, require_dataset):
    require_dataset(name)
    for split, counts in info(name).class_counts.items():
        assert load(name, split).class_counts.tolist() == list(counts)
