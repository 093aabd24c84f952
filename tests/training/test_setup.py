"""The part of a dataset that `dataset.max_train_examples` and its like ask for."""

import numpy as np

from rbjax.data import DatasetInfo, from_arrays
from rbjax.data.images import View
from rbjax.training import setup

INFO = DatasetInfo(
    name="tiny",
    image_shape=(2, 2, 1),
    class_names=("a", "b", "c", "d"),
    num_examples={"test": 400},
    mean=(0.5,),
    std=(0.25,),
    source="made up",
    licence="none",
)
LABELS = np.repeat(np.arange(4), 100)


def test_the_first_examples_are_of_every_class_however_they_are_stored():
    images = np.random.default_rng(0).integers(0, 256, (400, 2, 2, 1), np.uint8)
    for stored in (images, View(images, np.arange(400))):
        whole = from_arrays(INFO, "test", stored, LABELS)
        some = setup.first(whole, 80)
        assert some.num_examples == 80
        assert some.class_counts.min() >= 10
        assert np.all(np.diff(some.example_ids) > 0)
        np.testing.assert_array_equal(some.images[:], images[some.index])
        fewer = setup.first(whole, 30)
        assert set(fewer.example_ids.tolist()) < set(some.example_ids.tolist())
        for all_of_them in (None, 400, 1000):
            assert setup.first(whole, all_of_them) is whole
