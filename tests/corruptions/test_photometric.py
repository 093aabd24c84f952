"""Brightness, contrast and saturation against the conversions of Python's colorsys."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import corruptions

KEY = jax.random.key(0)
IMAGE = np.random.default_rng(0).integers(0, 256, (12, 12, 3)) / 255
IMAGE[:3] = IMAGE[:3, :, :1]  # grey
IMAGE[0] = 0
IMAGE[-1] = (1, 0, 0)


def corrupted(name, severity, image, profile="cifar"):
    corruption = corruptions.create(name, severity=severity, profile=profile)
    return np.asarray(corruption(KEY, jnp.asarray(image, jnp.float32)))


def through_hsv(change):
    """Every pixel to hue, saturation and value, changed, and back."""
    pixels = [colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*p))) for p in IMAGE.reshape(-1, 3)]
    return np.array(pixels).reshape(IMAGE.shape)


@pytest.mark.parametrize("severity", [1, 5])
def test_brightness_is_value_in_hsv(severity):
    (amount,) = corruptions.CONSTANTS["cifar"]["brightness"][severity - 1]
    theirs = through_hsv(lambda h, s, v: (h, s, min(v + amount, 1)))
    np.testing.assert_allclose(corrupted("brightness", severity, IMAGE), theirs, atol=1e-6)


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("profile", ["cifar", "imagenet"])
def test_saturate_is_saturation_in_hsv(profile, severity):
    a, b = corruptions.CONSTANTS[profile]["saturate"][severity - 1]
    theirs = through_hsv(lambda h, s, v: (h, min(s * a + b, 1), v))
    ours = corrupted("saturate", severity, IMAGE, profile)
    np.testing.assert_allclose(ours, theirs, atol=2e-6)
    if b > 0:
        assert np.all(ours[1, :, 0] > ours[1, :, 1])  # grey is reddish now


@pytest.mark.parametrize("channels", [1, 4])
def test_other_numbers_of_channels(channels):
    image = np.random.default_rng(1).random((8, 8, channels))
    brighter = corrupted("brightness", 5, image)
    value = image.max(-1, keepdims=True)
    np.testing.assert_allclose(brighter, image * np.minimum(value + 0.3, 1) / value, atol=1e-6)
    grey = np.repeat(image[..., :1], channels, axis=-1)
    np.testing.assert_array_equal(corrupted("saturate", 5, grey), grey.astype(np.float32))


def test_contrast_shrinks_about_each_channels_mean():
    ours = corrupted("contrast", 5, IMAGE)
    np.testing.assert_allclose(ours.mean((0, 1)), IMAGE.mean((0, 1)), atol=1e-6)
    np.testing.assert_allclose(ours.std((0, 1)), 0.15 * IMAGE.std((0, 1)), atol=1e-6)
