from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from rbjax import perturbations
from rbjax.perturbations.blur import blur, motion_blur

IMAGE = jax.random.uniform(jax.random.key(1), (9, 12, 2))


@pytest.mark.parametrize("sigma", [0.3, 0.8, 2.0])
def test_blur_is_scipys(sigma):
    radius = 5
    expected = scipy.ndimage.gaussian_filter(
        np.asarray(IMAGE), sigma, mode="nearest", radius=radius, axes=(0, 1)
    )
    np.testing.assert_allclose(blur(IMAGE, sigma, radius=radius), expected, atol=1e-6)


def test_blur_keeps_constants_and_the_mean():
    """Constants up to the edge; the mean where nothing reaches it."""
    grey = jnp.full((6, 7, 1), 0.3)
    np.testing.assert_allclose(blur(grey, 1.5, radius=6), grey, atol=1e-6)
    inside = jnp.pad(IMAGE, ((4, 4), (4, 4), (0, 0)))
    blurred = blur(inside, 1.0, radius=4)
    np.testing.assert_allclose(blurred.mean((0, 1)), inside.mean((0, 1)), rtol=1e-5)


def test_no_blur_is_the_image():
    np.testing.assert_array_equal(blur(IMAGE, 0.0, radius=3), IMAGE)
    no_blur = perturbations.gaussian_blur(max_sigma=0.0)
    np.testing.assert_array_equal(no_blur(jax.random.key(0), IMAGE), IMAGE)


def test_sigma_is_uniform_up_to_the_largest():
    """The weight left at a point is that of its sigma: 400 draws, five standard errors."""
    point = jnp.zeros((13, 13, 1)).at[6, 6].set(1.0)
    keys = jax.random.split(jax.random.key(0), 400)
    draw = jax.jit(jax.vmap(perturbations.gaussian_blur(max_sigma=1.5), (0, None)))
    images = np.asarray(draw(keys, point))[..., 0]
    # Of a row's sum over columns: variance = sigma^2 where the kernel is sampled finely enough.
    variance = np.sum(images.sum(2) * (np.arange(13) - 6) ** 2, axis=1)
    sigma = np.sqrt(variance)
    assert sigma.max() < 1.51
    assert sigma.max() > 1.45
    upper = sigma[sigma > 0.75]
    assert len(upper) / 400 == pytest.approx(0.5, abs=5 * 0.5 / 400**0.5)
    assert upper.mean() == pytest.approx(1.125, abs=5 * 0.75 / 12**0.5 / len(upper) ** 0.5)


def test_motion_blur_is_its_formula():
    """Against a sum over neighbours, at 20 angles."""
    image, weights = np.asarray(IMAGE), np.exp(-(np.arange(5) ** 2) / (2 * 1.3**2))
    smear = jax.jit(lambda degrees: motion_blur(IMAGE, degrees, radius=2, sigma=1.3))
    y, x = np.mgrid[:9, :12]
    for degrees in np.linspace(-180, 171, 20):
        angle, expected = np.deg2rad(degrees), np.zeros_like(image)
        for i, weight in enumerate(weights / weights.sum()):
            down, right = np.ceil(i * np.sin(angle) - 0.5), np.ceil(i * np.cos(angle) - 0.5)
            rows = np.clip(y + int(down), 0, 8)
            expected += weight * image[rows, np.clip(x + int(right), 0, 11)]
        np.testing.assert_allclose(smear(degrees), expected, atol=1e-5)


def test_wrong_options():
    with pytest.raises(ValueError, match=r"max_sigma is 11\.0; it must be between 0 and 10"):
        perturbations.create("gaussian_blur", max_sigma=11)
