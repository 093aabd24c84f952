from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import cpab, perturbations

FIELD = cpab.Field()
IMAGE = jax.random.uniform(jax.random.key(1), (9, 8, 3))
KEYS = jax.random.split(jax.random.key(0), 2000)


def displacement(perturbation, size=31):
    """How far each draw moves what is in the middle: planes of x and y show it, 2,000 draws."""
    at = (jnp.arange(size) + 0.5) / size
    planes = jnp.stack(jnp.meshgrid(at, at), -1)
    middle = size // 2

    def draw(key):
        return perturbation(key, planes)[middle, middle] - 0.5

    return np.asarray(jax.jit(jax.vmap(draw))(KEYS))


def test_scale_is_about_how_far_things_move():
    """The middle of 1 x 1 cells is a vertex: its velocity is normal with the scale's deviation."""
    moved = displacement(perturbations.diffeomorphism(scale=0.02, num_cells=1))
    np.testing.assert_allclose(moved.std(axis=0), 0.02, rtol=0.08)
    assert np.abs(moved.mean(axis=0)).max() < 5 * 0.02 / len(moved) ** 0.5
    assert abs(np.corrcoef(moved.T)[0, 1]) < 5 / len(moved) ** 0.5


def test_long_scales_move_everything_alike():
    """Neighbours' moves correlate more with a longer scale."""
    at = (jnp.arange(16) + 0.5) / 16
    planes = jnp.stack(jnp.meshgrid(at, at), -1)
    correlation = []
    for length_scale in (0.05, 1.0):
        change = perturbations.diffeomorphism(scale=0.02, length_scale=length_scale)
        moved = jax.jit(jax.vmap(lambda key, change=change: change(key, planes) - planes))(KEYS)
        # A third of the image apart, both on vertices' rows.
        correlation.append(np.corrcoef(moved[:, 5, 5, 0], moved[:, 5, 10, 0])[0, 1])
    assert correlation[0] < 0.2
    assert correlation[1] > 0.7


def test_a_scale_of_zero_moves_nothing():
    for perturbation in (
        perturbations.diffeomorphism(scale=0),
        perturbations.gaussian_diffeomorphism(np.eye(FIELD.dimension), field=FIELD, scale=0),
    ):
        np.testing.assert_allclose(perturbation(KEYS[0], IMAGE), IMAGE, atol=1e-5)


def test_a_given_gaussian_is_drawn_from():
    """Only the centre's move down, with a deviation of 0.03 times the scale."""
    field = cpab.Field(1, 1, "zero")
    covariance = np.diag([0.0, 0.03**2])
    perturbation = perturbations.gaussian_diffeomorphism(covariance, field=field, scale=0.5)
    moved = displacement(perturbation)
    assert moved[:, 1].std() == pytest.approx(0.015, rel=0.08)
    assert np.abs(moved[:, 0]).max() < 1e-4  # the ridge that keeps the factor regular


def test_a_given_gaussian_keeps_the_contract():
    covariance = 0.05**2 * cpab.smooth_covariance(FIELD, length_scale=0.35)
    one = perturbations.gaussian_diffeomorphism(covariance, field=FIELD)
    other = perturbations.gaussian_diffeomorphism(covariance.copy(), field=FIELD)
    assert one == other
    assert hash(one) == hash(other)
    np.testing.assert_allclose(
        one(KEYS[3], IMAGE), perturbations.diffeomorphism()(KEYS[3], IMAGE), atol=1e-5
    )
    half = jax.eval_shape(one, KEYS[0], IMAGE.astype(jnp.bfloat16))
    assert (half.shape, half.dtype) == (IMAGE.shape, jnp.bfloat16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": -0.1}, "scale is -0.1; it must be between 0 and 1"),
        ({"length_scale": 0}, "length_scale is 0.0; it must be between 0.01 and 10"),
        ({"num_cells": 17}, "num_cells is 17; .*at most 16"),
        ({"boundary": "zero_normals"}, "boundary 'zero_normals' is unknown; .*'zero_normal'"),
        ({"num_steps": 0}, "num_steps is 0; .*at least 1"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        perturbations.create("diffeomorphism", **options)


@pytest.mark.parametrize(
    ("covariance", "message"),
    [
        (np.eye(3), r"covariance has shape \(3, 3\); allowed: \(34, 34\)"),
        (np.full((34, 34), np.nan), "not finite and symmetric"),
        (np.triu(np.ones((34, 34))), "not finite and symmetric"),
        (-np.eye(34), "covariance has the eigenvalue -1; allowed: at least 0"),
    ],
)
def test_wrong_covariances(covariance, message):
    with pytest.raises(ValueError, match=message):
        perturbations.gaussian_diffeomorphism(covariance, field=FIELD)
