"""The space of fields, their flows against the matrix exponential, and the warp."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from rbjax import cpab

FIELD = cpab.Field()
POINTS = jax.random.uniform(jax.random.key(0), (200, 2))
THETAS = 0.1 * jax.random.normal(jax.random.key(1), (4, FIELD.dimension))
INSIDE = ((jnp.arange(14.0) + 0.5) / 14, (jnp.arange(13.0) + 0.5) / 13)


def theta_of(field, function):
    """The field with a function's velocities at the vertices."""
    values = function(cpab.vertices(field))
    return jnp.array([values[vertex, axis] for vertex, axis in cpab.components(field)])


@functools.cache
def flows():
    """Of the four thetas: to and fro, with many steps and with few."""

    @jax.jit
    @jax.vmap
    def run(theta):
        far = cpab.integrate(FIELD, theta, POINTS, num_steps=200)
        back = cpab.integrate(FIELD, -theta, far, num_steps=200)
        coarse = [cpab.integrate(FIELD, theta, POINTS, num_steps=n) for n in (10, 20)]
        return far, back, *coarse

    return [np.asarray(flow) for flow in run(THETAS)]


@pytest.mark.parametrize(
    ("boundary", "dimensions"),
    [("free", (10, 26, 50, 82)), ("zero_normal", (2, 14, 34, 62)), ("zero", (2, 10, 26, 50))],
)
def test_dimensions_are_those_of_the_null_space(boundary, dimensions):
    assert tuple(cpab.Field(n, n, boundary).dimension for n in (1, 2, 3, 4)) == dimensions


def test_velocities_at_the_vertices_are_theta():
    field = cpab.Field(3, 2, "free")
    theta = jax.random.normal(jax.random.key(2), (field.dimension,))
    velocities = cpab.velocity(field, theta, jnp.asarray(cpab.vertices(field), jnp.float32))
    np.testing.assert_allclose(velocities.reshape(-1), theta, atol=1e-5)


def test_a_field_is_affine_on_each_triangle_and_no_further():
    """Halfway between two points of one triangle it is the mean; across a cell it is not."""
    field = cpab.Field(2, 2, "free")
    theta = jax.random.normal(jax.random.key(3), (field.dimension,))
    weights = jax.random.dirichlet(jax.random.key(4), jnp.ones(3), (2, 30))
    triangle = jnp.array([[0.5, 0.0], [1.0, 0.0], [0.75, 0.25]])
    one, other = weights @ triangle
    ends = 0.5 * (cpab.velocity(field, theta, one) + cpab.velocity(field, theta, other))
    np.testing.assert_allclose(cpab.velocity(field, theta, 0.5 * (one + other)), ends, atol=1e-5)
    across = jnp.array([[0.75, 0.05], [0.75, 0.45], [0.75, 0.25]])
    top, bottom, middle = cpab.velocity(field, theta, across)
    assert np.abs(middle - 0.5 * (top + bottom)).max() > 0.1


@pytest.mark.parametrize(("boundary", "axes"), [("zero_normal", "normal"), ("zero", "both")])
def test_boundaries(boundary, axes):
    field = cpab.Field(3, 3, boundary)
    theta = jax.random.normal(jax.random.key(5), (field.dimension,))
    along = jnp.linspace(0, 1, 31)
    left = cpab.velocity(field, theta, jnp.stack([jnp.zeros(31), along], -1))
    bottom = cpab.velocity(field, theta, jnp.stack([along, jnp.ones(31)], -1))
    np.testing.assert_array_equal(left[:, 0], 0)
    np.testing.assert_array_equal(bottom[:, 1], 0)
    slides = np.abs(left[:, 1]).max() > 0.1
    assert slides == (axes == "normal")


def test_the_flow_of_an_affine_field_is_the_matrix_exponential():
    """With x' = A x + b, (x, 1) goes to expm([[A, b], [0, 0]]) (x, 1)."""
    matrix, offset = np.array([[0.3, -0.4], [0.5, -0.2]]), np.array([0.02, -0.05])
    field = cpab.Field(3, 2, "free")
    theta = theta_of(field, lambda at: at @ matrix.T + offset)
    points = 0.35 + 0.3 * POINTS  # stay inside
    generator = np.zeros((3, 3))
    generator[:2, :2], generator[:2, 2] = matrix, offset
    expected = np.c_[points, np.ones(len(points))] @ scipy.linalg.expm(generator)[:2].T
    assert np.abs(expected - points).max() > 0.15
    moved = cpab.integrate(field, theta, points, num_steps=200)
    np.testing.assert_allclose(moved, expected, atol=2e-6)


def test_the_flow_of_minus_theta_is_the_inverse():
    far, back, _, _ = flows()
    assert np.abs(far - POINTS).max() > 0.1
    np.testing.assert_allclose(back, np.broadcast_to(POINTS, back.shape), atol=5e-6)


def test_few_steps_are_near_and_the_error_falls_with_the_square():
    far, _, ten, twenty = flows()
    coarse, fine = np.abs(ten - far).mean(), np.abs(twenty - far).mean()
    assert np.abs(ten - far).max() < 0.02
    assert 3 < coarse / fine < 6


def test_nothing_leaves_a_square_with_no_velocity_across_its_border():
    far = flows()[0]
    assert far.min() > -1e-6
    assert far.max() < 1 + 1e-6


def test_flows_keep_the_orientation():
    """The Jacobian's determinant is positive: nothing folds."""
    flow = functools.partial(cpab.integrate, FIELD, THETAS[0], num_steps=20)
    determinants = jnp.linalg.det(jax.jit(jax.vmap(jax.jacfwd(flow)))(POINTS))
    assert determinants.min() > 0
    assert np.abs(determinants - 1).max() > 0.1


def test_warp_is_the_image_where_the_flow_ends():
    """A plane of x and of y shows the flow itself, inside of the outermost pixels' centres."""
    x, y = jnp.meshgrid(*INSIDE)
    theta = 0.4 * THETAS[1]
    warped = cpab.warp(FIELD, theta, jnp.stack([x, y], -1))
    flow = cpab.integrate(FIELD, theta, jnp.stack([x, y], -1))
    np.testing.assert_allclose(warped[1:-1, 1:-1], flow[1:-1, 1:-1], atol=1e-5)


@pytest.mark.parametrize("shape", [(6, 7, 3), (1, 5, 1), (5, 1, 2), (1, 1, 1)])
def test_a_theta_of_zero_is_the_identity(shape):
    image = jax.random.uniform(jax.random.key(6), shape)
    warped = cpab.warp(FIELD, jnp.zeros(FIELD.dimension), image)
    np.testing.assert_allclose(warped, image, atol=1e-5)


def test_a_warp_is_undone():
    """Of a smooth image, away from its border."""
    at = (jnp.arange(40) + 0.5) / 40
    x, y = jnp.meshgrid(at, at)
    image = (0.5 + 0.4 * jnp.sin(4 * x) * jnp.cos(3 * y))[..., None]
    theta = THETAS[0]
    there = cpab.warp(FIELD, theta, image)
    back = cpab.warp(FIELD, -theta, there)
    assert np.abs(there - image).max() > 0.1
    assert np.abs(back - image)[2:-2, 2:-2].max() < 0.03


def test_beyond_the_square_its_edge_goes_on():
    """Everything is taken from the right of the image, by one width."""
    field = cpab.Field(1, 1, "free")
    image = jax.random.uniform(jax.random.key(7), (5, 4, 1))
    theta = theta_of(field, lambda at: np.broadcast_to([1.0, 0.0], at.shape))
    expected = np.broadcast_to(image[:, -1:], image.shape)
    np.testing.assert_allclose(cpab.warp(field, theta, image), expected, atol=1e-5)


def test_a_factor_gives_its_covariance_back():
    covariance = cpab.smooth_covariance(FIELD, length_scale=0.35)
    np.testing.assert_allclose(np.diag(covariance), 1.0)
    factor = cpab.factor(covariance).astype(np.float64)
    np.testing.assert_allclose(factor @ factor.T, covariance, atol=3e-6)
    assert not cpab.factor(np.zeros((3, 3))).any()
    vertex, axis = np.array(cpab.components(FIELD)).T
    assert not covariance[axis == 0][:, axis == 1].any()
    one, other = np.flatnonzero(axis == 0)[[0, 3]]
    distance = np.linalg.norm(np.subtract(*cpab.vertices(FIELD)[vertex[[one, other]]]))
    expected = np.exp(-0.5 * (distance / 0.35) ** 2)
    np.testing.assert_allclose(covariance[one, other], expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 3, "free"), "columns is 0"),
        ((3, 33, "free"), "rows is 33; .* at most 32"),
        ((3, 3, "zero_norm"), "boundary 'zero_norm' is unknown; .*mean 'zero_normal'"),
    ],
)
def test_wrong_fields(arguments, message):
    with pytest.raises(ValueError, match=message):
        cpab.field(*arguments)
