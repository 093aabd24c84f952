from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from rbjax import perturbations
from rbjax.perturbations.chain import Clipped

IMAGE = jax.random.uniform(jax.random.key(1), (6, 6, 1))


def lighten(key, image):
    return image + 0.8


def darken(key, image):
    return image - 0.8


def test_clipped_once_at_the_end():
    """Clipping between would leave 0.2 of every white pixel, and of every other one too."""
    chain = perturbations.compose(Clipped(lighten), Clipped(darken))
    np.testing.assert_allclose(chain(jax.random.key(0), IMAGE), IMAGE, atol=1e-6)
    # Outside the chain each is clipped by itself.
    assert float(jnp.max(Clipped(lighten)(jax.random.key(0), IMAGE))) == 1.0


def test_a_chain_of_chains_is_clipped_once():
    chain = perturbations.compose(perturbations.compose(lighten), perturbations.compose(darken))
    np.testing.assert_allclose(chain(jax.random.key(0), IMAGE), IMAGE, atol=1e-6)


def test_the_same_perturbation_twice_draws_twice():
    noise = perturbations.gaussian_noise(sigma=0.01)
    grey = jnp.full((30, 30, 1), 0.5)
    change = perturbations.compose(noise, noise)(jax.random.key(0), grey) - grey
    # Two independent draws add in square (0.0141), one drawn twice would double (0.02).
    assert 0.013 < float(change.std()) < 0.0155


def test_order_matters():
    halve = perturbations.compose(lighten, lambda key, image: image / 2)
    np.testing.assert_allclose(halve(jax.random.key(0), IMAGE), (IMAGE + 0.8) / 2, atol=1e-6)


def test_nothing_is_the_identity():
    np.testing.assert_array_equal(perturbations.compose()(jax.random.key(0), IMAGE), IMAGE)
