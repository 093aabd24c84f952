from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import geometry

IMAGE = jax.random.uniform(jax.random.key(0), (6, 6, 3))


def test_rotation_by_nothing_is_the_image():
    np.testing.assert_array_equal(geometry.rotate(IMAGE, 0.0), IMAGE)


@pytest.mark.parametrize("turns", [-1, 1, 2, 3])
def test_rotation_by_right_angles(turns):
    rotated = geometry.rotate(IMAGE, 90.0 * turns)
    np.testing.assert_allclose(rotated, np.rot90(IMAGE, turns), atol=2e-6)


def test_rotation_by_45_degrees_is_black_in_the_corners():
    rotated = np.asarray(geometry.rotate(jnp.ones((9, 9, 1)), 45.0))[..., 0]
    assert rotated[0, 0] == rotated[0, 8] == rotated[8, 0] == rotated[8, 8] == 0
    assert rotated[4, 4] == 1
    assert rotated.min() >= 0
    assert rotated.max() <= 1 + 1e-6


def test_rotation_is_bilinear():
    ramp = jnp.broadcast_to(jnp.arange(9.0)[:, None, None], (9, 9, 1))
    angle = np.deg2rad(10.0)
    y, x = np.mgrid[-2:3, -2:3]
    expected = np.cos(angle) * y + np.sin(angle) * x + 4  # a plane stays one
    rotated = geometry.rotate(ramp, 10.0)
    np.testing.assert_allclose(rotated[2:7, 2:7, 0], expected, atol=1e-5)


def test_rotation_of_an_oblong_image_keeps_its_shape():
    shape = jax.eval_shape(geometry.rotate, jnp.ones((4, 7, 2)), 30.0).shape
    assert shape == (4, 7, 2)


def test_random_rotation_stays_within_its_range():
    ramp = jnp.broadcast_to(jnp.arange(9.0)[:, None, None], (9, 9, 1))
    keys = jax.random.split(jax.random.key(2), 200)
    turn = partial(geometry.random_rotate, max_degrees=20.0)
    rotated = np.asarray(jax.jit(jax.vmap(turn, (0, None)))(keys, ramp))
    degrees = np.rad2deg(np.arcsin(rotated[:, 4, 5, 0] - rotated[:, 4, 4, 0]))
    assert np.abs(degrees).max() <= 20.01
    assert degrees.min() < -18
    assert degrees.max() > 18
    assert abs(degrees.mean()) < 3 * 20 / np.sqrt(3 * 200)


def test_half_precision_moves_no_pixel():
    """Though bfloat16 does not tell the rows beyond 256 apart."""
    image = jnp.zeros((601, 9, 1)).at[550].set(1.0)
    half = geometry.rotate(image.astype(jnp.bfloat16), 0.2)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), geometry.rotate(image, 0.2), atol=0.01)


def test_between_pixels_it_is_their_mean_and_black_outside():
    """Half a pixel to the right is the mean of two, and of one and the black outside."""
    image = jnp.arange(1.0, 7.0).reshape(2, 3, 1) / 6
    row, column = jnp.meshgrid(jnp.arange(2.0), jnp.arange(3.0) + 0.5, indexing="ij")
    expected = np.array([[1.5, 2.5, 1.5], [4.5, 5.5, 3.0]]) / 6
    np.testing.assert_allclose(geometry.read_at(image, row, column)[..., 0], expected, atol=1e-6)
    assert not np.any(geometry.read_at(image, row + 7.0, column))
