import numpy as np
import pytest

from rbjax.data import order, sampling

COUNTS = np.array([400, 100, 25, 4])
LABELS = np.repeat(np.arange(4), COUNTS)[np.random.default_rng(0).permutation(COUNTS.sum())]


def rows(name, *, epoch=0, seed=0, num_steps=33, batch_size=16, labels=LABELS, **options):
    sampler = sampling.create(name, **options)
    return sampler(labels, seed=seed, epoch=epoch, batch_size=batch_size, num_steps=num_steps)


def class_shares(taken):
    return np.bincount(LABELS[taken.reshape(-1)], minlength=4) / taken.size


def test_uniform_is_the_order_of_an_epoch():
    expected = order.epoch_order(len(LABELS), seed=3, epoch=2, batch_size=16)
    np.testing.assert_array_equal(rows("uniform", seed=3, epoch=2), expected)
    with pytest.raises(ValueError, match="num_steps = 34: must be at most 33, the number of"):
        rows("uniform", num_steps=34)


def test_class_aware_takes_every_class_in_each_round():
    taken = rows("class_aware", num_steps=100).reshape(-1)
    rounds = LABELS[taken].reshape(400, 4)
    np.testing.assert_array_equal(np.sort(rounds), np.broadcast_to(np.arange(4), (400, 4)))
    assert len({tuple(one) for one in rounds.tolist()}) == 24  # every order of four


def test_class_aware_takes_every_row_before_one_comes_again():
    taken = rows("class_aware", num_steps=100).reshape(-1)  # K max n_c: the largest class once
    np.testing.assert_array_equal(np.bincount(taken), 400 // COUNTS[LABELS])
    smallest = taken[LABELS[taken] == 3].reshape(100, 4)
    members = np.flatnonzero(LABELS == 3)
    np.testing.assert_array_equal(np.sort(smallest), np.broadcast_to(members, (100, 4)))
    assert len({tuple(one) for one in smallest.tolist()}) >= 20


@pytest.mark.parametrize(
    ("name", "options", "weights"),
    [
        ("square_root", {}, np.sqrt(COUNTS)),
        ("effective_number", {"beta": 0.0}, COUNTS),
        ("effective_number", {"beta": 0.99}, COUNTS * 0.01 / (1 - 0.99**COUNTS)),
        ("effective_number", {"beta": 1.0}, np.ones(4)),
    ],
)
def test_classes_are_drawn_by_their_weight(name, options, weights):
    """16,000 draws: within 4 standard deviations of a binomial share."""
    taken = rows(name, num_steps=1000, **options)
    expected = weights / weights.sum()
    deviation = np.sqrt(expected * (1 - expected) / taken.size)
    assert np.all(np.abs(class_shares(taken) - expected) < 4 * deviation)


def test_within_a_drawn_class_every_row_comes_before_one_comes_again():
    taken = rows("square_root", num_steps=1000).reshape(-1)
    for label in range(4):
        counts = np.bincount(taken, minlength=len(LABELS))[label == LABELS]
        assert counts.max() - counts.min() <= 1
        assert counts.min() >= 1


@pytest.mark.parametrize("name", ["class_aware", "square_root", "effective_number"])
def test_an_epoch_is_a_function_of_its_number(name):
    first = rows(name)
    assert first.shape == (33, 16)
    assert first.dtype == np.int32
    np.testing.assert_array_equal(rows(name), first)
    assert not np.array_equal(rows(name, epoch=1), first)
    assert not np.array_equal(rows(name, seed=1), first)
    # More steps go on where fewer end.
    np.testing.assert_array_equal(rows(name, num_steps=50)[:33], first)
    np.testing.assert_array_equal(rows(name, num_steps=33, labels=LABELS.copy()), first)


def test_the_rows_never_change():
    labels = np.array([0, 0, 0, 1, 0, 2, 0, 1])
    keywords = {"labels": labels, "num_steps": 2, "batch_size": 4, "epoch": 1}
    assert rows("class_aware", **keywords).tolist() == [[5, 2, 7, 0], [3, 5, 5, 3]]
    assert rows("square_root", **keywords).tolist() == [[2, 5, 0, 6], [7, 5, 1, 4]]


def test_classes_of_no_rows_are_left_out():
    labels = np.array([5, 2, 2, 5, 5, 2])
    taken = rows("class_aware", labels=labels, num_steps=3, batch_size=2)
    np.testing.assert_array_equal(np.sort(labels[taken]), [[2, 5]] * 3)


def test_deferred_is_uniform_until_its_epoch():
    for epoch in (0, 4):
        early = rows("class_aware", start_epoch=5, epoch=epoch)
        np.testing.assert_array_equal(early, rows("uniform", epoch=epoch))
    late = rows("class_aware", start_epoch=5, epoch=5)
    np.testing.assert_array_equal(late, rows("class_aware", epoch=5))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (("clas_aware", {}), "sampler 'clas_aware' is unknown; .*did you mean 'class_aware'"),
        (("square_root", {"beta": 0.5}), "sampler 'square_root' has no option 'beta'"),
        (("effective_number", {"beta": 1.5}), "beta is 1.5; it must be between 0 and 1"),
        (("class_aware", {"start_epoch": -1}), "start_epoch is -1; it must be a whole number"),
    ],
)
def test_create_refuses(call, message):
    name, options = call
    with pytest.raises(ValueError, match=message):
        sampling.create(name, **options)
