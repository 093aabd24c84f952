import jax
import jax.numpy as jnp
import numpy as np

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
