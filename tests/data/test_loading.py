import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from rbjax.data import (
    from_arrays,
    hold_out_last,
    imbalance,
    info,
    load,
    load_train,
    loading,
    split_validation,
    subsample,
)


def step(counts):
    return imbalance.create("step", class_counts=counts, imbalance_ratio=5)


def test_the_two_numbers_of_an_example(tiny, tiny_arrays):
    images, labels = tiny_arrays
    np.testing.assert_array_equal(tiny.example_ids, np.arange(60))
    np.testing.assert_array_equal(np.sort(tiny.index), np.arange(60))
    np.testing.assert_array_equal(tiny.images, images[tiny.index])
    np.testing.assert_array_equal(tiny.labels, labels[tiny.index])


def test_two_preparations_differ_in_nothing_but_index(tiny, tiny_info, tiny_arrays):
    shuffle = np.random.default_rng(5).permutation(60)
    other = from_arrays(tiny_info, "train", *(array[shuffle] for array in tiny_arrays))
    for field in ("images", "labels", "example_ids"):
        np.testing.assert_array_equal(getattr(other, field), getattr(tiny, field))
    assert not np.array_equal(other.index, tiny.index)
    for one, two in zip(split_validation(tiny, 0.2), split_validation(other, 0.2), strict=True):
        assert one is not None
        assert two is not None
        np.testing.assert_array_equal(one.images, two.images)
        np.testing.assert_array_equal(one.example_ids, two.example_ids)


def test_take_keeps_the_numbers(tiny):
    taken = tiny.take(np.array([7, 3]))
    assert taken.num_examples == 2
    assert taken.example_ids.tolist() == [7, 3]
    np.testing.assert_array_equal(taken.index, tiny.index[[7, 3]])
    np.testing.assert_array_equal(taken.images, tiny.images[[7, 3]])


def test_validation_is_stratified_and_disjoint(tiny):
    train, validation = split_validation(tiny, 0.2, seed=1)
    assert validation is not None
    assert validation.split == "validation"
    assert tiny.class_counts.tolist() == [30, 20, 10]
    assert validation.class_counts.tolist() == [6, 4, 2]
    assert train.class_counts.tolist() == [24, 16, 8]
    together = np.concatenate([train.example_ids, validation.example_ids])
    np.testing.assert_array_equal(np.sort(together), np.arange(60))
    other = split_validation(tiny, 0.2, seed=2)[1]
    assert other is not None
    assert set(other.example_ids) != set(validation.example_ids)


def test_no_validation(tiny):
    train, validation = split_validation(tiny, 0.0)
    assert train is tiny
    assert validation is None


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan"), 0.01, 0.99])
def test_validation_refuses(tiny, fraction):
    with pytest.raises(ValueError, match="validation_fraction = "):
        split_validation(tiny, fraction)


def test_the_last_as_stored_are_held_out(tiny):
    train, validation = hold_out_last(tiny, 0.25)
    assert sorted(train.index) == list(range(45))
    assert sorted(validation.index) == list(range(45, 60))
    assert validation.split == "validation"
    for part in (train, validation):
        assert (np.diff(part.example_ids) > 0).all()
    with pytest.raises(ValueError, match="would hold out 1 of the 1 "):
        hold_out_last(tiny.take(np.arange(1)), 0.25)
    grouped = dataclasses.replace(tiny, groups=np.arange(60))
    with pytest.raises(ValueError, match="would divide groups"):
        hold_out_last(grouped, 0.25)


def test_subsample(tiny):
    kept = subsample(tiny, lambda counts: counts // 5, seed=1)
    assert kept.class_counts.tolist() == [6, 4, 2]
    assert set(kept.example_ids) != set(subsample(tiny, lambda c: c // 5, seed=2).example_ids)


def test_load_train_holds_out_first_and_then_thins_out_train_alone():
    whole = load("digits", "train")
    plain, validation = load_train("digits", validation_fraction=0.1, seed=3)
    train, same = load_train("digits", validation_fraction=0.1, imbalance=step, seed=3)
    assert validation is not None
    assert same is not None
    assert validation.class_counts.tolist() == np.floor(whole.class_counts * 0.1 + 0.5).tolist()
    np.testing.assert_array_equal(same.example_ids, validation.example_ids)
    there = plain.class_counts
    assert train.class_counts.tolist() == [*there[:5], *(there[5:] // 5)]
    assert not set(train.example_ids) & set(validation.example_ids)
    _, thinned = load_train(
        "digits", validation_fraction=0.1, imbalance=step, apply_to_validation=True, seed=3
    )
    assert thinned is not None
    there = validation.class_counts
    assert thinned.class_counts.tolist() == [*there[:5], *(there[5:] // 5)]


def test_load_train_of_everything():
    train, validation = load_train("digits")
    assert train.num_examples == 1437
    assert validation is None


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("cifarr10", "train", "dataset 'cifarr10' is unknown.*did you mean 'cifar10'"),
        ("digits", "tests", "digits split 'tests' is unknown; allowed: train, test.*'test'"),
    ],
)
def test_load_refuses(name, split, message):
    with pytest.raises(ValueError, match=message):
        load(name, split)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda images, labels: (images / 255, labels), "images are float64"),
        (lambda images, labels: (images[:, :3], labels), r"must be uint8, or .*\(N, 4, 4, 1\)"),
        (lambda images, labels: (images, labels[:-1]), r"labels are \(59,\) for 60 images"),
        (lambda images, labels: (images, labels + 1), r"labels are in 1\.\.3; must be in 0\.\.2"),
        (lambda images, labels: (images, labels - 1), r"labels are in -1\.\.1"),
    ],
)
def test_from_arrays_refuses(tiny_info, tiny_arrays, change, message):
    with pytest.raises(ValueError, match=message):
        from_arrays(tiny_info, "train", *change(*tiny_arrays))


def imported_after(code):
    watched = ("tensorflow", "tensorflow_datasets", "sklearn")
    code = f"{code}\nimport sys\nprint([m for m in {watched} if m in sys.modules])"
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_what_digits_imports():
    assert imported_after("import rbjax.data; rbjax.data.info('mnist')") == "[]"
    assert imported_after("import rbjax.data as d; d.load('digits', 'test')") == "['sklearn']"


@pytest.mark.real_data
def test_what_mnist_imports(require_dataset):
    require_dataset("mnist")
    code = """
from rbjax.data import storage
folder = storage.find("mnist")
storage.decode(storage.as_array_record(folder, folder.parents[1]), "test")
"""
    assert imported_after(code) == "['tensorflow_datasets']"


@pytest.mark.real_data
def test_mnist(require_dataset):
    require_dataset("mnist")
    test = load("mnist", "test")
    assert test.images.shape == (10000, 28, 28, 1)
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert test.class_counts.tolist() == counts


@pytest.mark.real_data
def test_long_tailed_cifar10(require_dataset):
    require_dataset("cifar10")
    train, _ = load_train(
        "cifar10",
        imbalance=lambda counts: imbalance.create(
            "exponential", class_counts=counts, imbalance_ratio=100
        ),
    )
    assert train.num_examples == 12406
    assert train.class_counts.tolist() == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    assert load("cifar10", "test").class_counts.tolist() == [1000] * 10


def test_counts_that_are_not_published_are_said(capsys):
    known = info("mnist")
    labels = np.repeat(np.arange(10), known.class_counts["test"]).astype(np.int32)
    loading._compare_with_published(known, "test", labels)
    assert capsys.readouterr().err == ""
    loading._compare_with_published(known, "test", labels[:20])
    assert "mnist test has 20 examples; published are 10,000: not" in capsys.readouterr().err
    labels[0] = 1
    loading._compare_with_published(known, "test", labels)
    assert "mnist test has 979 examples of class 0; published are 980" in capsys.readouterr().err
