from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import perturbations

KEYS = jax.random.split(jax.random.key(0), 1000)
IMAGE = 0.4 + 0.2 * jax.random.uniform(jax.random.key(1), (6, 7, 3))


def drawn(perturbation):
    return np.asarray(jax.jit(jax.vmap(perturbation, (0, None)))(KEYS, IMAGE))


def check_uniform(values, low, high):
    """1,000 values, five standard errors."""
    assert values.min() > low - 1e-5
    assert values.max() < high + 1e-5
    width = high - low
    assert abs(values.mean() - (low + high) / 2) < 5 * width / (12 * 1000) ** 0.5
    assert values.std() == pytest.approx(width / 12**0.5, rel=0.07)


def test_brightness_adds_one_uniform_number():
    change = drawn(perturbations.brightness(max_delta=0.2)) - np.asarray(IMAGE)
    np.testing.assert_allclose(change, change[:, :1, :1, :1] + np.zeros(IMAGE.shape), atol=1e-6)
    check_uniform(change[:, 0, 0, 0], -0.2, 0.2)


def test_contrast_stretches_about_the_mean_of_each_channel():
    images = drawn(perturbations.contrast(max_contrast=0.5))
    mean = np.mean(IMAGE, axis=(0, 1))
    np.testing.assert_allclose(images.mean((1, 2)), mean + np.zeros((1000, 3)), atol=1e-5)
    factor = (images - mean)[:, 0, 0, 0] / (np.asarray(IMAGE) - mean)[0, 0, 0]
    check_uniform(factor, 0.5, 1.5)
    expected = mean + factor[:, None, None, None] * (np.asarray(IMAGE) - mean)
    np.testing.assert_allclose(images, expected, atol=1e-5)


@pytest.mark.parametrize(("name", "option"), [("brightness", "max_delta"), ("contrast", None)])
def test_nothing_and_wrong_options(name, option):
    option = option or "max_contrast"
    same = perturbations.create(name, **{option: 0.0})(KEYS[0], IMAGE)
    np.testing.assert_allclose(same, IMAGE, atol=1e-6)
    with pytest.raises(ValueError, match=f"{option} is 1.5; it must be between 0 and 1"):
        perturbations.create(name, **{option: 1.5})


def test_no_contrast_is_the_mean():
    grey = jnp.full((6, 7, 3), 0.25)
    perturbation = perturbations.contrast(max_contrast=1.0)
    np.testing.assert_allclose(perturbation(KEYS[0], grey), grey, atol=1e-6)
