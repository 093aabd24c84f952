import numpy as np
import pytest

from rbjax.data import DATASETS, info, load


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
