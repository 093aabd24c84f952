"""What every entry of `PERTURBATIONS` must do, and that a wrong perturbation does not pass.

A perturbation is tested by being listed, with its default options. The checks are functions of a
perturbation, so that mutants can be fed to them at the end.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import perturbations, prng

KEYS = prng.per_example(jax.random.key(0), jnp.arange(16))
SHAPES = ((6, 6, 1), (5, 7, 3))


def make_images(shape):
    images = jax.random.uniform(jax.random.key(1), (16, *shape))
    return images.at[:, 0].set(0.0).at[:, 1].set(1.0)


def check_range(perturbation):
    """Shape and dtype are kept, values stay in [0, 1], and something changes."""
    for shape in SHAPES:
        images = make_images(shape)
        perturbed = jax.jit(jax.vmap(perturbation))(KEYS, images)
        assert perturbed.shape == images.shape
        assert perturbed.dtype == images.dtype
        assert np.all((perturbed >= 0) & (perturbed <= 1))
        assert np.any(perturbed != images)
    half = jax.eval_shape(perturbation, KEYS[0], jnp.zeros(SHAPES[1], jnp.bfloat16))
    assert (half.shape, half.dtype) == (SHAPES[1], jnp.bfloat16)


def check_pure(perturbation):
    """One key, one result: at any row, alone or in a batch, under jit or not."""
    images, order = make_images(SHAPES[1]), jnp.arange(16)[::-1]
    compiled = jax.jit(jax.vmap(perturbation))
    perturbed, moved = compiled(KEYS, images), compiled(KEYS[order], images[order])
    np.testing.assert_allclose(moved[order], perturbed, atol=1e-6)
    alone = perturbation(KEYS[4], images[4])
    np.testing.assert_allclose(alone, perturbed[4], atol=1e-6)


def check_random(perturbation):
    """Another key gives another image."""
    images = jnp.tile(make_images(SHAPES[1])[:1], (16, 1, 1, 1))
    perturbed = np.asarray(jax.jit(jax.vmap(perturbation))(KEYS, images)).reshape(16, -1)
    assert len(np.unique(perturbed, axis=0)) == 16


CHECKS = (check_range, check_pure, check_random)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", perturbations.PERTURBATIONS)
def test_contract(name, check):
    check(perturbations.create(name))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_chain(check):
    """One of each kind."""
    check(perturbations.create("rotation+gaussian_blur+contrast+fog+rain+uniform_noise"))


@pytest.mark.parametrize("name", perturbations.PERTURBATIONS)
def test_equal_options_make_equal_perturbations(name):
    """So that a compiled program of one serves the other."""
    one, other = perturbations.create(name), perturbations.create(name)
    assert one == other
    assert hash(one) == hash(other)


MUTANTS = {
    "identity": (lambda key, image: image, check_range),
    "unclipped": (
        lambda key, image: image + 0.1 * jax.random.normal(key, image.shape),
        check_range,
    ),
    "float32": (lambda key, image: jax.random.uniform(key, image.shape), check_range),
    "one key": (
        lambda key, image: jax.random.uniform(jax.random.key(0), image.shape),
        check_random,
    ),
    "impure": (lambda key, image: image * np.random.default_rng().random(), check_pure),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_wrong_perturbation_fails(mutant):
    perturbation, check = MUTANTS[mutant]
    with pytest.raises(AssertionError):
        check(perturbation)
