import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax.data import pipeline


def test_gather(tiny):
    data = pipeline.replicate(tiny)
    rows = jnp.array([5, 0, 5])
    batch = jax.jit(pipeline.gather)(*data, rows)
    expected = tiny.images[[5, 0, 5]].astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(batch.images, expected)
    np.testing.assert_array_equal(batch.labels, tiny.labels[[5, 0, 5]])
    np.testing.assert_array_equal(batch.example_ids, tiny.example_ids[[5, 0, 5]])
    assert batch.mask.all()
    mask = jnp.array([True, False, True])
    np.testing.assert_array_equal(pipeline.gather(*data, rows, mask).mask, mask)


def test_replicate_puts_the_whole_split_on_every_device(tiny):
    data = pipeline.replicate(tiny)
    assert data.images.dtype == np.uint8
    assert data.images.sharding.is_fully_replicated
    assert len(data.images.sharding.device_set) == jax.local_device_count()
    np.testing.assert_array_equal(data.images, tiny.images)


@pytest.mark.parametrize("batch_size", [7, 60, 100])
def test_batches_take_each_example_once(tiny, batch_size):
    parts = list(pipeline.batches(tiny, batch_size))
    assert len(parts) == -(-60 // batch_size)
    for batch in parts:
        chex.assert_shape(batch.images, (batch_size, 4, 4, 1))
        assert batch.images.dtype == np.float32
    mask = np.concatenate([batch.mask for batch in parts])
    ids = np.concatenate([batch.example_ids for batch in parts])
    images = np.concatenate([batch.images for batch in parts])
    labels = np.concatenate([batch.labels for batch in parts])
    np.testing.assert_array_equal(ids[mask], tiny.example_ids)
    np.testing.assert_array_equal(labels[mask], tiny.labels)
    np.testing.assert_array_equal(images[mask], tiny.images / np.float32(255))


def test_batches_refuse_at_once(tiny):
    with pytest.raises(ValueError, match="batch_size = 0: must be at least 1"):
        pipeline.batches(tiny, 0)
