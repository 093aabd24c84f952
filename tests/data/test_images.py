"""Images that are not in memory stay where they are until they are indexed."""

import numpy as np
import pytest

from rbjax.data import from_arrays, images, split_validation, subsample


class Counting:
    """An ImageArray that says which rows were read."""

    dtype = np.dtype(np.uint8)

    def __init__(self, base):
        self.base, self.shape, self.read = base, base.shape, []

    def __len__(self):
        return len(self.base)

    def __getitem__(self, rows):
        found = np.arange(len(self.base))[rows]
        self.read.extend(np.atleast_1d(found).tolist())
        return self.base[rows]


@pytest.fixture
def lazy(tiny_arrays):
    return Counting(tiny_arrays[0])


def test_nothing_is_read_by_what_selects(lazy, tiny_arrays, tiny_info):
    dataset = from_arrays(tiny_info, "train", lazy, tiny_arrays[1])
    np.testing.assert_array_equal(dataset.example_ids, np.arange(60))  # the record's number
    train, validation = split_validation(dataset, 0.2)
    few = subsample(train, lambda counts: counts // 4).take(np.array([5, 0, 3]))
    assert validation is not None
    assert lazy.read == []
    np.testing.assert_array_equal(few.images[:], tiny_arrays[0][few.index])
    np.testing.assert_array_equal(few.images[1], tiny_arrays[0][few.index[1]])
    np.testing.assert_array_equal(few.labels, tiny_arrays[1][few.index])
    assert sorted(set(lazy.read)) == sorted(few.index.tolist())
    held_out = validation.images[2:4]
    np.testing.assert_array_equal(held_out, tiny_arrays[0][validation.index[2:4]])
    assert few.images.shape == (3, 4, 4, 1)
    assert len(few.images) == 3


def test_views_of_views_have_one_base(lazy):
    view = images.View(lazy, np.arange(10, 30)).take(np.array([3, 4]))
    assert view._base is lazy
    np.testing.assert_array_equal(np.asarray(view), lazy.base[13:15])
    np.testing.assert_array_equal(view[np.array([True, False])], lazy.base[13:14])


def test_a_memory_map_stays_mapped(tiny_arrays, tiny_info, tmp_path):
    np.save(tmp_path / "images.npy", tiny_arrays[0])
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    dataset = from_arrays(tiny_info, "train", mapped, tiny_arrays[1])
    assert isinstance(dataset.images, np.memmap)
    assert isinstance(dataset.take(np.array([1, 2])).images, images.View)
    assert not images.is_resident(mapped)
    assert images.is_resident(tiny_arrays[0])


def test_arrays_are_taken_as_arrays(tiny):
    assert isinstance(tiny.take(np.array([1, 2])).images, np.ndarray)


def test_channels_are_chosen_where_images_are_read(lazy):
    two = Counting(np.concatenate([lazy.base, 255 - lazy.base], axis=-1))
    chosen = images.channels(two, [1])
    assert two.read == []
    assert chosen.shape == (60, 4, 4, 1)
    np.testing.assert_array_equal(chosen[4:6], 255 - lazy.base[4:6])
    assert two.read == [4, 5]
    np.testing.assert_array_equal(images.channels(two.base, [1, 0]), two.base[..., ::-1])
