"""Selections that keep groups whole."""

import numpy as np
import pytest

from rbjax import atomic, command_line
from rbjax import config as schema
from rbjax.data import groups, loading, subset
from rbjax.training import setup

LABELS = np.repeat([0, 1, 2], [120, 60, 30])
TRACKS = np.arange(210) // 10 + 100
"""12, 6 and 3 tracks of 10 frames."""


def whole(rows, of):
    """Whether of each group all or nothing is among the rows."""
    kept = np.isin(np.arange(len(of)), rows)
    return not np.intersect1d(of[kept], of[~kept]).size


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ((120, 60, 30), (120, 60, 30)),
        ((50, 20, 10), (50, 20, 10)),
        ((54, 16, 14), (50, 20, 10)),  # to the nearest
        ((120, 15, 2), (120, 10, 10)),  # a tie stays below; a tail keeps one track at least
        ((0, 0, 30), (0, 0, 30)),
    ],
)
def test_tracks_of_one_class_each(asked, expected, seed):
    rows = groups.select(LABELS, TRACKS, np.array(asked), seed=seed)
    assert whole(rows, TRACKS)
    assert tuple(np.bincount(LABELS[rows], minlength=3)) == expected


def test_the_choice_is_random_by_seed_and_not_by_order_or_name():
    asked = np.array([50, 20, 10])
    rows = [groups.select(LABELS, TRACKS, asked, seed=seed) for seed in range(4)]
    assert len({tuple(r) for r in rows}) > 1
    shuffled = np.random.default_rng(0).permutation(len(LABELS))
    again = groups.select(LABELS[shuffled], TRACKS[shuffled] * 7, asked, seed=0)
    np.testing.assert_array_equal(np.sort(shuffled[again]), rows[0])


def test_groups_of_several_classes():
    """Patients with images of both classes: the counts come near, and no patient is divided."""
    generator = np.random.default_rng(1)
    labels, patients = generator.integers(0, 2, 400), generator.integers(0, 60, 400)
    counts = np.bincount(labels)
    rows = groups.select(labels, patients, counts // 5, seed=3)
    assert whole(rows, patients)
    assert np.abs(np.bincount(labels[rows]) - counts // 5).sum() <= 8


def test_the_first_of_whole_groups():
    rows = groups.first(TRACKS, 57, name="first")
    assert len(rows) == 50
    assert whole(rows, TRACKS)
    with pytest.raises(ValueError, match=r"9 examples: not even the smallest group.*10"):
        groups.first(TRACKS, 9, name="first")


@pytest.fixture
def arrays():
    generator = np.random.default_rng(0)
    return {
        "train_images": generator.integers(0, 256, (210, 6, 6), np.uint8),
        "train_labels": LABELS,
        "test_images": generator.integers(0, 256, (30, 6, 6), np.uint8),
        "test_labels": np.arange(30) % 3,
        "train_tracks": np.array([f"track {number}" for number in TRACKS]),
    }


@pytest.fixture
def resolve(arrays, tmp_path):
    """Returns a function that resolves a config on these arrays."""
    np.savez(tmp_path / "mine.npz", **arrays)

    def make(**fields):
        config = schema.default()
        config.batch_size = 10
        config.dataset.update(name="npz", path=str(tmp_path / "mine.npz"), groups="train_tracks")
        config.validation.attack = "none"
        for path, value in fields.items():
            group, field = path.split("__")
            config[group][field] = value
        return command_line.resolve(config, str(tmp_path / "run"))

    return make


def tracks(dataset):
    return set(np.asarray(TRACKS)[dataset.index].tolist())


def test_no_track_is_on_both_sides_and_every_selection_keeps_them_whole(resolve, tmp_path):
    config = resolve(dataset__validation_fraction=0.2, dataset__max_train_examples=77)
    train, validation = setup.load_train(config)
    assert validation is not None
    assert not tracks(train) & tracks(validation)
    for part in (train, validation):
        assert part.num_examples == 10 * len(tracks(part))
        assert part.groups is not None
        assert part.groups.shape == (part.num_examples,)
    assert train.num_examples == 70
    # A fifth of 12, 6 and 3 tracks, to the nearest whole one.
    np.testing.assert_array_equal(validation.class_counts, [20, 10, 10])
    assert train.index.max() < 210  # the row as stored
    np.testing.assert_array_equal(LABELS[train.index], train.labels)
    tailed, _ = setup.load_train(
        resolve(
            dataset__validation_fraction=0.2,
            imbalance__name="linear",
            imbalance__imbalance_ratio=5.0,
        )
    )
    # The profile asks for all of 100, 3 / 5 of 50 and a fifth of 20.
    np.testing.assert_array_equal(tailed.class_counts, [100, 30, 10])
    assert tailed.num_examples == 10 * len(tracks(tailed))
    # Without groups, frames of one track are on both sides: what it is for.
    with config.unlocked():
        config.dataset.groups = None
    train, validation = setup.load_train(config)
    assert tracks(train) & tracks(validation)


def test_a_class_of_one_track_is_trained_on():
    info = loading.info("digits")._replace(image_shape=(2, 2, 1), class_names=("a", "b"))
    labels = np.repeat([0, 1], [80, 20])
    images = np.random.default_rng(0).integers(0, 256, (100, 2, 2, 1), np.uint8)
    dataset = loading.from_arrays(info, "train", images, labels, np.arange(100) // 20)
    train, validation = loading.split_validation(dataset, 0.75)
    assert validation is not None
    np.testing.assert_array_equal(train.class_counts, [20, 20])
    np.testing.assert_array_equal(validation.class_counts, [60, 0])
    kept = loading.subsample(dataset, lambda counts: np.array([25, 5]))
    np.testing.assert_array_equal(kept.class_counts, [20, 20])


def test_a_subset_that_divides_a_track_is_refused(resolve, tmp_path):
    train, _ = setup.load_train(resolve())
    assert train.groups is not None
    some = np.isin(train.groups, train.groups[:3])
    path = tmp_path / "some.npz"
    atomic.write_npz(path, example_ids=train.example_ids[some])
    assert subset.keep(train, path).num_examples == some.sum()
    atomic.write_npz(path, example_ids=train.example_ids[some][1:])
    with pytest.raises(ValueError, match=r"divides 1 groups.*it holds 9 of 10 examples"):
        subset.keep(train, path)


def test_mistakes_are_named(resolve, arrays, tmp_path):
    with pytest.raises(ValueError, match=r"groups = 'train_track'.*mean 'train_tracks'"):
        resolve(dataset__groups="train_track")
    with pytest.raises(ValueError, match=r"'test_labels': is int64 \(30,\); must be .*\(210,\)"):
        resolve(dataset__groups="test_labels")
    with pytest.raises(ValueError, match=r"max_train_examples: 9 examples: not even"):
        setup.load_train(resolve(dataset__max_train_examples=9))
    with pytest.raises(ValueError, match=r"dataset.groups.*not a field of 'digits'"):
        resolve(dataset__name="digits", dataset__path=None)
    train, _ = setup.load_train(resolve())
    with pytest.raises(ValueError, match=r"groups has shape \(3,\); it must be \(210,\)"):
        loading.Dataset(
            train.info,
            "train",
            train.images,
            train.labels,
            train.index,
            train.example_ids,
            np.zeros(3, np.int32),
        )
