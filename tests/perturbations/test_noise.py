from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import perturbations

GREY = jnp.full((40, 50, 3), 0.5)


def test_gaussian_moments():
    """6,000 values, five standard errors; 0.05 is ten deviations from the edges."""
    noise = perturbations.gaussian_noise(sigma=0.05)(jax.random.key(0), GREY) - 0.5
    assert abs(float(noise.mean())) < 5 * 0.05 / 6000**0.5
    assert float(noise.std()) == pytest.approx(0.05, rel=5 / 12000**0.5)


def test_uniform_moments():
    noise = perturbations.uniform_noise(epsilon=0.2)(jax.random.key(0), GREY) - 0.5
    assert 0.19 < float(jnp.max(jnp.abs(noise))) <= 0.2
    assert abs(float(noise.mean())) < 5 * 0.2 / (3 * 6000) ** 0.5
    assert float(noise.std()) == pytest.approx(0.2 / 3**0.5, rel=0.05)


def test_truncated_uniform_fills_the_part_of_the_ball_in_the_box():
    """Black is lifted to a mean of epsilon / 2; clipped, half of it stays and the mean is half."""
    black = jnp.zeros((40, 50, 3))
    noise = perturbations.uniform_noise(epsilon=0.2, truncated=True)
    lifted = noise(jax.random.key(0), black)
    assert 0.19 < float(lifted.max()) <= 0.2
    assert float(jnp.mean(lifted == 0)) < 0.01
    assert float(lifted.mean()) == pytest.approx(0.1, abs=5 * 0.2 / (12 * 6000) ** 0.5)
    clipped = perturbations.uniform_noise(epsilon=0.2)(jax.random.key(0), black)
    assert float(clipped.mean()) == pytest.approx(0.05, rel=0.1)
    grey = noise(jax.random.key(0), GREY) - 0.5
    assert float(grey.std()) == pytest.approx(0.2 / 3**0.5, rel=0.05)


def test_nothing_added_changes_nothing():
    image = jax.random.uniform(jax.random.key(1), (6, 6, 1))
    for perturbation in (
        perturbations.gaussian_noise(sigma=0.0),
        perturbations.uniform_noise(epsilon=0.0),
        perturbations.impulse_noise(amount=0.0),
    ):
        np.testing.assert_array_equal(perturbation(jax.random.key(0), image), image)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gaussian_noise", {"sigma": -0.1}, "sigma is -0.1"),
        ("gaussian_noise", {"sigma": float("nan")}, "sigma is nan"),
        ("uniform_noise", {"epsilon": 1.5}, "epsilon is 1.5; it must be between 0 and 1"),
        ("impulse_noise", {"amount": 1.1}, "amount is 1.1; it must be between 0 and 1"),
        ("gausian_noise", {}, "did you mean 'gaussian_noise'"),
    ],
)
def test_wrong_options(name, options, message):
    with pytest.raises(ValueError, match=message):
        perturbations.create(name, **options)


def test_share_of_impulses():
    """Of 60,000 values, within five standard deviations; each channel by itself."""
    grey = jnp.full((100, 200, 3), 0.5)
    image = np.asarray(perturbations.impulse_noise(amount=0.1)(jax.random.key(0), grey))
    assert set(np.unique(image)) == {0.0, 0.5, 1.0}
    for value in (0.0, 1.0):
        assert abs(np.mean(image == value) - 0.05) < 5 * (0.05 * 0.95 / image.size) ** 0.5
    changed = np.mean(np.any(image != 0.5, axis=-1))  # 1 - 0.9^3 = 0.271, not 0.1
    assert changed == pytest.approx(0.271, abs=5 * (0.271 * 0.729 / 20000) ** 0.5)
