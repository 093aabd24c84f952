import colorsys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import perturbations, photometric, prng
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
    crop = jax.jit(augment.create(crop_padding=2))(key, image)
    cut = jax.jit(augment.create(crop_padding=2, cutout_size=2))(key, image)
    assert np.sum(np.any(cut != crop, axis=-1)) <= 4
    np.testing.assert_array_equal(
        cut, augment.random_cutout(prng.named(key, "cutout"), crop, size=2)
    )
    both = jax.jit(augment.create(crop_padding=2, flip_horizontal=True))(key, image)
    assert np.array_equal(both, crop) or np.array_equal(both, crop[:, ::-1])


def test_what_is_left_empty_has_the_colour_of_the_fill(image):
    fill = (0.25, 0.5, 0.75)
    moved = augment.pad_and_crop(image, 0, 3, padding=2, fill=fill)
    np.testing.assert_array_equal(moved[2:, :5], image[:4, 1:])
    np.testing.assert_array_equal(moved[:2], np.broadcast_to(fill, (2, 6, 3)))
    # An image of the fill's colour stays what it is under all that fills.
    plain = jnp.broadcast_to(jnp.array(fill), (8, 8, 3))
    augmentation = augment.create(
        crop_padding=3, rotation_degrees=180.0, cutout_size=3, flip_vertical=True, fill=fill
    )
    keys = jax.random.split(jax.random.key(2), 16)
    np.testing.assert_allclose(
        jax.jit(jax.vmap(augmentation, (0, None)))(keys, plain), [plain] * 16, atol=1e-6
    )
    turned = jax.vmap(augment.create(rotation_degrees=180.0), (0, None))
    assert (
        np.min(jax.jit(turned)(keys, plain)[:, 0, 0]) == 0
    )  # which it does not if the fill is black


@pytest.mark.parametrize(("size", "row", "column"), [(2, 0, 0), (3, 0, 5), (4, 3, 3), (20, 2, 1)])
def test_cutout_is_a_square_cut_off_at_the_border(size, row, column, image):
    expected = np.array(image)
    top, left = row - size // 2, column - size // 2
    expected[max(top, 0) : top + size, max(left, 0) : left + size] = (0.5, 0.0, 1.0)
    actual = augment.cutout(image, row, column, size=size, fill=(0.5, 0.0, 1.0))
    np.testing.assert_array_equal(actual, expected)


def test_random_cutouts_have_their_centre_anywhere():
    keys = jax.random.split(jax.random.key(3), 400)
    cut = jax.jit(jax.vmap(partial(augment.random_cutout, size=1), (0, None)))
    where = np.argwhere(np.asarray(cut(keys, jnp.ones((3, 4, 1)))) == 0)
    assert len(where) == 400
    seen = np.bincount(where[:, 1] * 4 + where[:, 2], minlength=12)
    assert seen.min() > 400 / 12 - 4 * np.sqrt(400 / 12)


def test_jitter_by_its_formulas(image):
    grey = (image * jnp.array([0.2989, 0.587, 0.114])).sum(-1, keepdims=True)
    np.testing.assert_allclose(photometric.adjust_brightness(image, 1.3), 1.3 * image, rtol=1e-6)
    np.testing.assert_allclose(
        photometric.adjust_contrast(image, 0.4), 0.4 * image + 0.6 * grey.mean(), rtol=1e-5
    )
    np.testing.assert_allclose(
        photometric.adjust_saturation(image, 1.7), 1.7 * image - 0.7 * grey, atol=1e-6
    )
    one = image[..., :1]
    np.testing.assert_allclose(
        photometric.adjust_contrast(one, 0.4), 0.4 * one + 0.6 * one.mean(), rtol=1e-5
    )


def test_hue_against_the_standard_library(image):
    turned = np.asarray(photometric.adjust_hue(image, 0.3)).reshape(-1, 3)
    for pixel, mine in zip(np.asarray(image).reshape(-1, 3).tolist(), turned, strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
        expected = colorsys.hsv_to_rgb((hue + 0.3) % 1, saturation, value)
        np.testing.assert_allclose(mine, expected, atol=1e-5)


def test_jitter_draws_factors_from_the_whole_range(keys):
    """64 draws: the extremes within a sixteenth of the range."""
    white = jnp.ones((1, 1, 3))
    factors = jax.vmap(partial(augment.random_brightness, size=0.4), (0, None))(keys, white)
    assert 0.6 <= factors.min() < 0.65
    assert 1.35 < factors.max() <= 1.4
    dark = jax.vmap(partial(augment.random_brightness, size=3.0), (0, None))(keys, white)
    assert 0 <= dark.min() < 0.25


def test_jitter_comes_in_its_order_clipped_after_each(image):
    key = jax.random.key(4)
    actual = augment.create(brightness=0.9, contrast=0.9, saturation=0.9, hue=0.4)(key, image)
    expected = image
    for name, size in (("brightness", 0.9), ("contrast", 0.9), ("saturation", 0.9), ("hue", 0.4)):
        change = getattr(augment, f"random_{name}")
        expected = jnp.clip(change(prng.named(key, name), expected, size=size), 0, 1)
    np.testing.assert_array_equal(actual, expected)
    assert np.abs(actual - image).max() > 0.1


@pytest.mark.parametrize(
    ("options", "channels", "message"),
    [
        ({"saturation": 0.1}, 1, "saturation of 1 channels is not defined; allowed: 3"),
        ({"hue": 0.1}, 1, "hue of 1 channels is not defined; allowed: 3"),
        ({"contrast": 0.1}, 4, "contrast of 4 channels is not defined; allowed: 1 or 3"),
        ({"cutout_size": 1, "fill": (0.1, 0.2)}, 3, "fill has 2 numbers; allowed: 1 or 3"),
    ],
)
def test_an_augmentation_refuses_channels_it_is_not_defined_on(options, channels, message):
    with pytest.raises(ValueError, match=message):
        augment.create(**options)(jax.random.key(0), jnp.zeros((4, 4, channels)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rotation_degrees": -1.0}, r"rotation_degrees is -1.0; it must be between 0 and 180"),
        ({"rotation_degrees": float("nan")}, "rotation_degrees is nan"),
        ({"deformation": -0.1}, "deformation is -0.1"),
        ({"crop_padding": -1}, "crop_padding is -1; it must be a whole number of at least 0"),
        ({"crop_padding": 1.5}, "crop_padding is 1.5"),
        ({"cutout_size": -2}, "cutout_size is -2"),
        ({"brightness": -0.1}, "brightness is -0.1; it must be at least 0"),
        ({"hue": 0.6}, "hue is 0.6; it must be between 0 and 0.5"),
        ({"fill": (2.0,)}, "fill is 2.0; it must be between 0 and 1"),
    ],
)
def test_create_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        augment.create(**options)


def test_deformation_is_the_perturbation_of_its_stream():
    """The same flow as `perturbations.diffeomorphism`; small ones move little, constants stay."""
    key = jax.random.key(3)
    image = jax.random.uniform(jax.random.key(4), (9, 11, 3))
    deform = jax.jit(augment.create(deformation=0.05))
    deformed = deform(key, image)
    perturbation = jax.jit(perturbations.diffeomorphism(scale=0.05))
    expected = perturbation(prng.named(key, "deformation"), image)
    np.testing.assert_allclose(deformed, expected, atol=1e-6)
    less = jax.jit(augment.create(deformation=1e-4))(key, image)
    assert np.abs(less - image).mean() < 0.02 * np.abs(deformed - image).mean()
    flat = jnp.full((9, 11, 3), 0.25)
    np.testing.assert_allclose(deform(key, flat), flat, atol=1e-6)
