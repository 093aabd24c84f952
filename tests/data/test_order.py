import hashlib

import numpy as np
import pytest

from rbjax.data.order import epoch_order, example_ids, priorities


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


def test_an_epoch_takes_each_row_at_most_once():
    order = epoch_order(100, seed=0, epoch=0, batch_size=30)
    assert order.shape == (3, 30)
    assert order.dtype == np.int32
    assert len(set(order.ravel())) == 90
    whole = epoch_order(100, seed=0, epoch=0, batch_size=25)
    np.testing.assert_array_equal(np.sort(whole.ravel()), np.arange(100))
    np.testing.assert_array_equal(whole.ravel()[:90], order.ravel())


def test_epochs_and_seeds_differ_and_a_resumed_run_gets_the_same():
    orders = [
        epoch_order(50, seed=seed, epoch=epoch, batch_size=50).tolist()
        for seed, epoch in ((0, 0), (0, 1), (1, 0), (0, 0))
    ]
    assert orders[0] != orders[1]
    assert orders[0] != orders[2]
    assert orders[1] != orders[2]
    assert orders[0] == orders[3]


def test_the_order_never_changes():
    order = epoch_order(8, seed=0, epoch=2, batch_size=4)
    assert order.tolist() == [[5, 4, 0, 2], [3, 1, 7, 6]]


@pytest.mark.parametrize("batch_size", [0, 11])
def test_a_batch_has_to_fit(batch_size):
    with pytest.raises(ValueError, match=rf"batch_size = {batch_size}: must be in 1\.\.10"):
        epoch_order(10, seed=0, epoch=0, batch_size=batch_size)
