"""Noise against the distributions that it is drawn from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from rbjax import corruptions
from rbjax.corruptions import noise

GREY = jnp.full((64, 64, 3), 0.5)


@pytest.mark.parametrize("largest", [3, 60, 500])
def test_poisson_is_the_inverse_of_its_distribution_function(largest):
    key = jax.random.key(0)
    mean = jnp.linspace(0, largest, 40_000)
    drawn = jax.jit(noise.poisson, static_argnames="largest")(key, mean, largest=largest)
    uniform = np.asarray(jax.random.uniform(key, mean.shape), float) * (1 - 4e-6)
    below, above = (
        scipy.stats.poisson.ppf(np.clip(uniform + shift, 0, 1), np.asarray(mean, float))
        for shift in (-1e-5, 1e-5)
    )
    assert np.all((drawn >= below) & (drawn <= above))
    assert np.mean(below == above) > 0.995  # or the bounds say nothing
    assert float(drawn[0]) == 0


@pytest.mark.parametrize("implementation", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_shot_noise_takes_any_key(implementation):
    corruption = corruptions.create("shot_noise", severity=5, profile="cifar")
    shot = corruption(jax.random.key(0, impl=implementation), GREY)
    assert np.std(shot) == pytest.approx(np.sqrt(0.5 / 50), rel=0.03)
    np.testing.assert_allclose(shot * 50, np.round(shot * 50), atol=1e-4)  # whole photons


@pytest.mark.parametrize(
    ("name", "std"), [("gaussian_noise", 0.08), ("speckle_noise", 0.06), ("shot_noise", 0.0707)]
)
def test_deviation_on_grey(name, std):
    noisy = np.asarray(corruptions.create(name, severity=3)(jax.random.key(1), GREY))
    assert noisy.mean() == pytest.approx(0.5, abs=0.003)
    assert noisy.std() == pytest.approx(std, rel=0.03)  # 12,288 values: 0.6%


def test_impulses_are_of_values_half_of_them_white():
    noisy = np.asarray(corruptions.create("impulse_noise", severity=5)(jax.random.key(1), GREY))
    assert np.mean(noisy == 0) == pytest.approx(0.035, abs=0.006)
    assert np.mean(noisy == 1) == pytest.approx(0.035, abs=0.006)
    assert np.mean(noisy == 0.5) == pytest.approx(0.93, abs=0.01)
    assert np.any((noisy[..., 0] == 0) & (noisy[..., 1] == 0.5))
