"""Blurs against SciPy's filters."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from rbjax import corruptions
from rbjax.corruptions import blur, separable
from rbjax.perturbations.blur import motion_blur

KEY = jax.random.key(0)
IMAGE = np.random.default_rng(0).random((19, 32, 3)).astype(np.float32)
SQUARE = np.random.default_rng(1).random((32, 32, 3)).astype(np.float32)
sides = st.integers(8, 40)


@hypothesis.settings(deadline=None, max_examples=20, database=None)
@hypothesis.given(height=sides, width=sides, sigma=st.floats(0, 7))
def test_gaussian_is_scipys(height, width, sigma):
    image = np.random.default_rng(0).random((height, width, 2))
    rows, columns = separable.gaussian(height, sigma), separable.gaussian(width, sigma)
    ours = np.einsum("ih,hwc,jw->ijc", rows, image, columns)
    theirs = scipy.ndimage.gaussian_filter(image, (sigma, sigma, 0), mode="nearest")
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_gaussian_blur_of_an_image():
    ours = corruptions.create("gaussian_blur", severity=3, profile="imagenet")(
        KEY, jnp.asarray(IMAGE)
    )
    theirs = scipy.ndimage.gaussian_filter(IMAGE, (3, 3, 0), mode="nearest")
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    ours = corruptions.create("gaussian_blur", severity=2, profile="mnist")(
        KEY, jnp.asarray(IMAGE[..., :1])
    )
    theirs = scipy.ndimage.gaussian_filter(IMAGE[..., :1], (2, 0, 0), mode="nearest")
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


CIFAR_TAPS = ((0.04039, 0.91922), (0.10651, 0.78699), (0.16638, 0.66724))


def test_disks_of_cifar():
    """Smaller than a pixel they are the smoothing alone; then a cross, then a box."""
    of_cifar = corruptions.CONSTANTS["cifar"]["defocus_blur"]
    for constants, (side, middle) in zip(of_cifar, CIFAR_TAPS, strict=False):
        taps = np.array([side, middle, side])
        np.testing.assert_allclose(blur.disk(*constants), np.outer(taps, taps), atol=2e-5)
    cross = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]]) / 5
    np.testing.assert_allclose(blur.disk(*of_cifar[3])[1:-1, 1:-1], cross, atol=2e-5)
    np.testing.assert_allclose(blur.disk(*of_cifar[4]), np.full((3, 3), 1 / 9), atol=1e-12)


@pytest.mark.parametrize("severity", [1, 3, 5])
@pytest.mark.parametrize("profile", ["cifar", "imagenet"])
def test_defocus_is_scipys_correlation(profile, severity):
    radius, sigma = corruptions.CONSTANTS[profile]["defocus_blur"][severity - 1]
    reach, rim = (8, 1) if radius <= 8 else (radius, 2)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    weights = (x**2 + y**2 <= radius**2) / np.sum(x**2 + y**2 <= radius**2)
    weights = scipy.ndimage.gaussian_filter(weights, sigma, radius=rim, mode="mirror")
    ours = corruptions.create("defocus_blur", severity=severity, profile=profile)(
        KEY, jnp.asarray(IMAGE)
    )
    theirs = scipy.ndimage.correlate(IMAGE, weights[..., None], mode="mirror")
    np.testing.assert_allclose(ours, np.clip(theirs, 0, 1), atol=1e-6)


def test_motion_blur_is_smeared_and_rounded():
    corruption = corruptions.create("motion_blur", severity=2)
    degrees = jax.random.uniform(KEY, minval=-45.0, maxval=45.0)
    smeared = motion_blur(jnp.asarray(IMAGE), degrees, radius=6, sigma=1.5)
    np.testing.assert_allclose(
        corruption(KEY, jnp.asarray(IMAGE)), np.round(smeared * 255) / 255, atol=1e-6
    )


def zoomed(image, factor):
    """SciPy's zoom of the middle, trimmed to the image's size."""
    size = len(image)
    part = int(np.ceil(size / factor))
    top = (size - part) // 2
    middle = image[top : top + part, top : top + part]
    large = np.asarray(scipy.ndimage.zoom(middle, (factor, factor, 1), order=1, mode="nearest"))
    trim = (len(large) - size) // 2
    return large[trim : trim + size, trim : trim + size]


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_zoom_blur_is_scipys_zoom(severity):
    stop = (1.06, 1.11, 1.16, 1.21, 1.26)[severity - 1]
    factors = np.arange(1, stop, 0.01)
    assert len(factors) == (7, 12, 16, 21, 26)[severity - 1]  # floating point: 7, not 6
    images = [SQUARE, *(zoomed(SQUARE, factor) for factor in factors)]
    ours = corruptions.create("zoom_blur", severity=severity)(KEY, jnp.asarray(SQUARE))
    np.testing.assert_allclose(ours, np.mean(images, axis=0), atol=1e-5)


@pytest.mark.parametrize("factor", [1.3, 3, 4.5])
def test_zoom_of_any_factor_is_scipys(factor):
    """From a factor of 1.5 on there may be more than one pixel to trim."""
    zoom = separable.zoom(32, factor)
    ours = np.einsum("ih,hwc,jw->ijc", zoom, SQUARE, zoom)
    np.testing.assert_allclose(ours, zoomed(SQUARE, factor), atol=1e-5)
