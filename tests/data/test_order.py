import hashlib

import numpy as np
import pytest

from rbjax.data.order import example_ids, priorities


def test_ids_are_ranks_of_the_digest_of_label_and_pixels():
    images = np.arange(3 * 4, dtype=np.uint8).reshape(3, 2, 2, 1)
    labels = np.array([2, 0, 1])
    digests = [
        hashlib.sha256(int(label).to_bytes(4, "little") + image.tobytes()).hexdigest()
        for label, image in zip(labels, images, strict=True)
    ]
    assert example_ids(images, labels).tolist() == [sorted(digests).index(d) for d in digests]


def test_ids_follow_the_examples_through_a_shuffle(tiny_arrays):
    images, labels = tiny_arrays
    ids = example_ids(images, labels)
    assert ids.dtype == np.int32
    np.testing.assert_array_equal(np.sort(ids), np.arange(60))
    shuffle = np.random.default_rng(1).permutation(60)
    shuffled = example_ids(images[shuffle], labels[shuffle])
    distinct = shuffle > 1  # rows 0 and 1 are equal, and may change places
    np.testing.assert_array_equal(shuffled[distinct], ids[shuffle][distinct])
    assert set(shuffled[~distinct]) == set(ids[:2])


def test_equal_examples_take_consecutive_ids_as_stored(tiny_arrays):
    ids = example_ids(*tiny_arrays)
    assert ids[1] == ids[0] + 1


def test_the_label_counts():
    images = np.zeros((2, 2, 2, 1), np.uint8)
    one = example_ids(images, np.array([0, 1]))
    np.testing.assert_array_equal(example_ids(images, np.array([1, 0])), one[::-1])


def test_priorities_never_change():
    golden = [18339365160562209686, 17206294298048103150, 5066644303163941031]
    assert priorities(np.arange(3), seed=0, name="imbalance").tolist() == golden
    assert priorities(np.array([2, 0]), seed=0, name="imbalance").tolist() == golden[2::-2]


def test_priorities_differ_by_seed_name_and_epoch():
    numbers = np.arange(5)
    first = priorities(numbers, seed=0, name="a")
    for other in ({"seed": 1, "name": "a"}, {"seed": 0, "name": "b"}):
        assert not np.any(priorities(numbers, **other) == first)
    assert not np.any(priorities(numbers, seed=0, name="a", epoch=1) == first)
    assert priorities(np.empty(0, int), seed=0, name="a").size == 0


@pytest.mark.parametrize("seed", [-1, 0.5, True, "0"])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(ValueError, match=r"seed = .*: must be an integer of at least 0"):
        priorities(np.arange(3), seed=seed, name="a")
