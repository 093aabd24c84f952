"""Pixelate and JPEG against Pillow."""

import functools
import io

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
import scipy.ndimage

from rbjax import corruptions
from rbjax.corruptions import digital

KEY = jax.random.key(0)
SIZES = (0.5, 2, 6)


def smooth_images(shape, *, number=8):
    """Noise of all sizes, as photographs have it, in 8 bits."""
    rng = np.random.default_rng(0)
    images = []
    for _ in range(number):
        noise = [
            scipy.ndimage.gaussian_filter(rng.normal(size=shape), (s, s, 0)) * s
            for s in (0.5, 2, 6)
        ]
        image = 128 + 60 * sum(noise)
        images.append(np.clip(image, 0, 255).astype(np.uint8))
    return np.stack(images)


def corrupted(name, images, **options):
    function = corruptions.CORRUPTIONS[name]
    change = jax.jit(jax.vmap(lambda image: function(KEY, image, **options)))
    return 255 * np.asarray(change(jnp.asarray(images / 255, jnp.float32)))


def through_jpeg(image, quality):
    stored = io.BytesIO()
    PIL.Image.fromarray(image).save(stored, "JPEG", quality=quality)
    return np.asarray(PIL.Image.open(stored), float)


@pytest.mark.parametrize("factor", [0.95, 0.75, 0.5, 0.25])
def test_pixelate_is_pillows(factor):
    images = smooth_images((32, 28, 3))
    size = int(28 * factor), int(32 * factor)
    box = PIL.Image.Resampling.BOX
    theirs = [
        np.asarray(PIL.Image.fromarray(i).resize(size, box).resize((28, 32), box)) for i in images
    ]
    ours = corrupted("pixelate", images, factor=factor)
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


@pytest.mark.parametrize("quality", [80, 50, 25, 7])
def test_jpeg_is_pillows(quality):
    images = smooth_images((32, 32, 3))
    theirs = np.stack([through_jpeg(image, quality) for image in images])
    ours = corrupted("jpeg_compression", images, quality=quality)
    assert np.abs(ours - theirs).mean() < 0.6
    assert np.abs(ours - images).mean() > 2 * np.abs(ours - theirs).mean()


@pytest.mark.parametrize("shape", [(27, 19, 3), (16, 40, 3), (9, 8, 1)])
def test_jpeg_of_any_shape(shape):
    images = smooth_images(shape, number=4)
    squeezed = images[..., 0] if shape[2] == 1 else images
    theirs = np.stack([through_jpeg(image, 30) for image in squeezed]).reshape(images.shape)
    ours = corrupted("jpeg_compression", images, quality=30)
    assert np.abs(ours - theirs).mean() < 0.3


def test_jpeg_of_bands_is_of_each_alone():
    images = smooth_images((16, 16, 4), number=2)
    jpeg = functools.partial(corrupted, "jpeg_compression", quality=20)
    ours = jpeg(images)
    np.testing.assert_allclose(ours[..., 2:3], jpeg(images[..., 2:3]), atol=1e-3)


def test_quantization_tables_are_pillows():
    for quality in (7, 40, 49, 50, 80, 100):
        stored = io.BytesIO()
        PIL.Image.new("RGB", (8, 8)).save(stored, "JPEG", quality=quality)
        tables = PIL.Image.open(stored).quantization  # pyright: ignore[reportAttributeAccessIssue]
        for number, chrominance in enumerate((False, True)):
            ours = digital.quantization(quality, chrominance=chrominance)
            np.testing.assert_array_equal(ours.reshape(-1), tables[number])
