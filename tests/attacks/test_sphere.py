"""Steps of an exact length inside [0, 1]."""

import jax
import jax.numpy as jnp
import numpy as np

from rbjax import prng
from rbjax.attacks.sphere import step_in_box


def moved(image, direction, distance):
    shape = (1, 1, 1, len(image))
    image, direction = (
        jnp.array(values, jnp.float32).reshape(shape) for values in (image, direction)
    )
    return step_in_box(image, direction, distance)[0, 0, 0]


def test_known_values():
    """The rest of the length goes to the pixels that are not at their border; nothing: nothing."""
    cases = [
        ((0.9, 0.5), (1, 1), 0.5, (1, 0.989898)),
        ((0.9, 0.5, 0.2), (1, -2, 0.5), 0.5, (1, 0.024729, 0.318818)),
        ((0.9, 0.5), (1e-30, 1e-30), 0.5, (1, 0.989898)),
        ((0.9, 0.5, 0.2), (1, -2, 0), 5.0, (1, 0, 0.2)),
        ((0.9, 0.5), (1, 1), 0.0, (0.9, 0.5)),
        ((0.9, 0.5), (0, 0), 0.5, (0.9, 0.5)),
        ((0.5, 0.5), (1, 0), 0.1, (0.6, 0.5)),
        ((0.9, 0.5, 0.0), (1, 1, 0), 0.5, (1, 0.989898, 0)),
    ]
    for image, direction, distance, expected in cases:
        np.testing.assert_allclose(moved(image, direction, distance), expected, atol=1e-6)


def test_the_same_as_by_bisection_where_directions_have_zeros():
    """In float64; 400 images of key 4, half of their pixels 0 or 1, and up to nine tenths of g."""
    images = jnp.clip(2 * prng.uniform(prng.key(4), (400, 3, 3, 1)) - 0.5, 0, 1)
    share = jnp.linspace(0.0, 0.9, 400)[:, None, None, None]
    is_zero = prng.uniform(prng.key(5), images.shape) < share
    directions = jnp.where(is_zero, 0.0, prng.normal(prng.key(6), images.shape))
    distances = prng.uniform(prng.key(7), (400,), maxval=1.2)
    result = np.asarray(jax.jit(step_in_box)(images, directions, distances))

    x, g, distance = (np.asarray(a, np.float64) for a in (images, directions, distances))

    def after(eta):
        return np.clip(x + eta[:, None, None, None] * g, 0, 1)

    def size(eta):
        return np.linalg.norm((after(eta) - x).reshape(400, -1), axis=1)

    low, high = np.zeros(400), np.full(400, 1e6)
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (
            np.where((size(middle) < distance) == c, middle, e)
            for c, e in ((True, low), (False, high))
        )
    assert 20 < np.sum(size(high) < distance - 1e-6) < 200  # the box ends before
    assert np.sum(is_zero) > 1000
    np.testing.assert_allclose(result, after(high), atol=2e-6)


def test_every_image_goes_its_own_distance_and_the_gradient_is_along_the_sphere():
    """Half of the values are 0 or 1, as MNIST's; against central differences at one image."""
    number = prng.uniform(prng.key(0), (16, 9, 8, 1))
    images = jnp.clip(2 * number - 0.5, 0, 1)
    directions = prng.normal(prng.key(1), images.shape)
    distances = jnp.linspace(0.1, 4.0, 16)
    result = jax.jit(step_in_box)(images, directions, distances)
    sizes = np.linalg.norm(np.asarray(result - images).reshape(16, -1), axis=1)
    np.testing.assert_allclose(sizes, distances, rtol=1e-5)
    assert result.min() == 0 and result.max() == 1  # noqa: PT018

    image, direction, weights = images[7:8], directions[7:8], prng.normal(prng.key(2), (9, 8, 1))

    @jax.jit
    def value(direction):
        return jnp.sum(weights * step_in_box(image, direction, distances[7]))

    gradient = jax.grad(value)(direction)
    across = prng.normal(prng.key(3), direction.shape)
    slope = (value(direction + 1e-3 * across) - value(direction - 1e-3 * across)) / 2e-3
    np.testing.assert_allclose(jnp.sum(gradient * across), slope, rtol=0.02)
    np.testing.assert_allclose(jnp.sum(gradient * direction), 0.0, atol=1e-4)
