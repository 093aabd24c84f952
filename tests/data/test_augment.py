from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import prng
from rbjax.data import augment


@pytest.fixture(scope="module")
def image():
    return jax.random.uniform(jax.random.key(0), (6, 6, 3))


@pytest.fixture(scope="module")
def keys():
    return prng.per_example(jax.random.key(1), jnp.arange(64))


@pytest.mark.parametrize(
    ("flip", "axis"), [(augment.random_flip_horizontal, 1), (augment.random_flip_vertical, 0)]
)
def test_a_flip_is_exact_and_happens_half_of_the_time(flip, axis, image, keys):
    images = jax.vmap(flip, (0, None))(keys, image)
    flipped = np.all(images == jnp.flip(image, axis), axis=(1, 2, 3))
    kept = np.all(images == image, axis=(1, 2, 3))
    assert np.all(flipped ^ kept)
    assert 20 <= flipped.sum() <= 44  # 3 standard deviations of a fair coin


def test_pad_and_crop(image):
    np.testing.assert_array_equal(augment.pad_and_crop(image, 2, 2, padding=2), image)
    moved = augment.pad_and_crop(image, 0, 3, padding=2)
    np.testing.assert_array_equal(moved[2:, :5], image[:4, 1:])
    assert not moved[:2].any()
    assert not moved[:, 5:].any()


def test_random_crops_reach_every_window(image):
    keys = jax.random.split(jax.random.key(3), 400)
    crop = partial(augment.random_pad_and_crop, padding=1)
    crops = np.asarray(jax.jit(jax.vmap(crop, (0, None)))(keys, image))
    windows = [
        np.asarray(augment.pad_and_crop(image, i, j, padding=1)).tobytes()
        for i in range(3)
        for j in range(3)
    ]
    seen = [windows.index(one.tobytes()) for one in crops]
    assert np.bincount(seen, minlength=9).min() > 400 / 9 - 4 * np.sqrt(400 / 9)


def test_create_of_nothing_is_the_image(image):
    np.testing.assert_array_equal(augment.create()(jax.random.key(0), image), image)


def test_create_is_deterministic_by_example_and_does_not_depend_on_the_batch(image, keys):
    augmentation = augment.create(
        flip_horizontal=True, flip_vertical=True, rotation_degrees=15.0, crop_padding=2
    )
    batch = jax.jit(jax.vmap(augmentation, (0, None)))
    images = np.asarray(batch(keys, image))
    assert images.shape == (64, 6, 6, 3)
    assert images.min() >= 0
    assert images.max() <= 1
    assert len({one.tobytes() for one in images}) == 64
    np.testing.assert_array_equal(batch(keys[::-1], image)[::-1], images)
    np.testing.assert_allclose(batch(keys[5:6], image)[0], images[5], atol=1e-6)


def test_one_operation_more_does_not_change_the_others(image):
    key = jax.random.key(7)
    crop = augment.create(crop_padding=2)(key, image)
    both = augment.create(crop_padding=2, flip_horizontal=True)(key, image)
    assert np.array_equal(both, crop) or np.array_equal(both, crop[:, ::-1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rotation_degrees": -1.0}, r"rotation_degrees = -1.0: must be in \[0, 180\]"),
        ({"rotation_degrees": float("nan")}, "rotation_degrees = nan"),
        ({"crop_padding": -1}, "crop_padding = -1: must be an integer of at least 0"),
        ({"crop_padding": 1.5}, "crop_padding = 1.5"),
    ],
)
def test_create_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        augment.create(**options)
