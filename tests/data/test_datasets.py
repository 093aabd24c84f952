import numpy as np
import pytest

from rbjax.data import DATASETS, info, load, names


@pytest.mark.parametrize("name", DATASETS)
def test_info_is_consistent(name):
    dataset_info = info(name)
    channels = dataset_info.image_shape[-1]
    assert len(dataset_info.mean) == len(dataset_info.std) == channels
    assert len(set(dataset_info.class_names)) == dataset_info.num_classes
    blocks = {split for split in dataset_info.num_examples if split.startswith("block_")}
    assert set(dataset_info.num_examples) - blocks <= {"train", "validation", "test"}
    assert len(blocks) in (0, 75)
    assert dataset_info.storage in ("memory", "mapped", "records")
    for split, counts in dataset_info.class_counts.items():
        assert len(counts) == dataset_info.num_classes
        assert sum(counts) == dataset_info.num_examples[split]
    assert dataset_info.source
    assert dataset_info.licence


def test_number_of_classes():
    classes = {name: dataset_info.num_classes for name, dataset_info in DATASETS.items()}
    assert classes == {
        "digits": 10,
        "mnist": 10,
        "fashion_mnist": 10,
        "cifar10": 10,
        "cifar100": 100,
        "cifar100_superclasses": 20,
        "svhn_cropped": 10,
        "droughtwatch": 4,
        "alignmnist": 10,
        "alignmnist_generated": 10,
        "tiny_imagenet": 200,
        "imagenet2012": 1000,
        "imagenet_lt": 1000,
        "cifar10_corrupted": 10,
        "mnist_corrupted": 10,
        "imagenet2012_corrupted": 1000,
        "cifar10_1": 10,
    }


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(
        ValueError, match=r"'cifra10' is unknown; allowed: .*did you mean 'cifar10'"
    ):
        info("cifra10")


def test_digits_statistics_are_those_of_train():
    pixels = load("digits", "train").images / 255
    dataset_info = info("digits")
    np.testing.assert_allclose(pixels.mean((0, 1, 2)), dataset_info.mean, atol=5e-5)
    np.testing.assert_allclose(pixels.std((0, 1, 2)), dataset_info.std, atol=5e-5)


# The superclass of each class in the order of the labels, ten a line, as published by others.
COARSE = """
     4  1 14  8  0  6  7  7 18  3
     3 14  9 18  7 11  3  9  7 11
     6 11  5 10  7  6 13 15  3 15
     0 11  1 10 12 14 16  9 11  5
     5 19  8  8 15 13 14 17 18 10
    16  4 17  4  2  0 17  4 18 17
    10  3  2 12 12 16 12  1  9 19
     2 10  0  1 16 12  9 13 15 13
    16 19  2  4  6 19  5  5  8 19
    18  1  2 15  6  0 17  8 14 13
"""


@pytest.mark.real_data
def test_superclasses_are_a_dataset_of_the_same_images(require_dataset):
    require_dataset("cifar100")
    fine, whole = load("cifar100", "test"), load("cifar100_superclasses", "test")
    assert whole.class_counts.tolist() == [500] * 20
    np.testing.assert_array_equal(_stored(whole)[:50], _stored(fine)[:50])
    groups = info("cifar100").superclasses
    assert groups is not None
    of_class = np.array(groups.of_class)
    labels = fine.labels[np.argsort(fine.index)]
    np.testing.assert_array_equal(whole.labels[np.argsort(whole.index)], of_class[labels])


def _stored(dataset):
    return dataset.images[np.argsort(dataset.index)]


def test_superclasses_of_cifar100():
    groups = info("cifar100").superclasses
    assert groups is not None
    assert groups.of_class == tuple(map(int, COARSE.split()))
    assert np.bincount(groups.of_class).tolist() == [5] * 20
    assert groups.names[0] == "aquatic_mammals"
    assert groups.names[19] == "vehicles_2"


def test_a_config_has_its_own_name_and_size():
    assert info("cifar10_corrupted/fog_3").name == "cifar10_corrupted/fog_3"
    assert info("cifar10_corrupted/fog_3").configs == ()
    assert info("cifar10_1/v4").num_examples == {"test": 2021}
    assert "v4" in info("cifar10_1").configs
    assert len(info("cifar10_corrupted").configs) == len(info("imagenet2012_corrupted").configs)
    assert len(info("cifar10_corrupted").configs) == 95
    assert len(info("mnist_corrupted").configs) == 16


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar10_corrupted/fgo_3", "config of cifar10_corrupted 'fgo_3' is unk.*mean 'fog_3'"),
        ("cifar10_corrupted/", "config of cifar10_corrupted '' is unknown"),
        ("mnist/fog", "config of mnist 'fog' is unknown"),
    ],
)
def test_configs_that_are_not_there(name, message):
    with pytest.raises(ValueError, match=message):
        info(name)


def test_a_name_that_leaves_the_config_open():
    with pytest.raises(ValueError, match="has 2 configs; name one, such as cifar10_1/v4"):
        load("cifar10_1", "test")


def test_every_name_can_be_looked_up():
    assert {info(name).name for name in names()} == set(names())
    assert "cifar10" in names()
    assert "cifar10_corrupted" not in names()


def test_configs_and_checksums_are_tfds_own():
    import tensorflow_datasets as tfds

    for name in ("cifar10_corrupted", "mnist_corrupted", "imagenet2012_corrupted", "cifar10_1"):
        theirs = {config.name for config in tfds.builder_cls(name).BUILDER_CONFIGS}
        assert set(info(name).configs) == theirs
    theirs = tfds.builder_cls("imagenet2012").url_infos or {}
    known = {url.rpartition("/")[2]: (value.size, value.checksum) for url, value in theirs.items()}
    for file in info("imagenet2012").files:
        assert known[file.name] == (file.num_bytes, file.sha256)


def test_the_classes_of_imagenet_are_in_tfds_order():
    import importlib.util
    import pathlib

    spec = importlib.util.find_spec("tensorflow_datasets")
    assert spec is not None
    assert spec.origin is not None
    labels = pathlib.Path(spec.origin).parent / "datasets/imagenet2012/labels.txt"
    assert info("imagenet2012").class_names == tuple(labels.read_text().split())
    assert set(info("tiny_imagenet").class_names) < set(info("imagenet2012").class_names)


def test_the_digits_have_their_counts():
    for split, counts in info("digits").class_counts.items():
        assert load("digits", split).class_counts.tolist() == list(counts)
