from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import prng
from rbjax.attacks import norms
from rbjax.attacks.norms import NORMS

pytestmark = pytest.mark.optimized

DELTA = jnp.array([[3.0, -4.0], [0.3, -0.4], [0.0, 0.0]]).reshape(3, 1, 2, 1)


def flat(array):
    return np.asarray(array).reshape(len(array), -1)


def test_golden_projection():
    """Image by image: one is scaled, the one inside stays bit for bit."""
    moved = flat(norms.project(DELTA, 1.0, "l2"))
    np.testing.assert_allclose(moved[0], [0.6, -0.8], rtol=1e-6)
    np.testing.assert_array_equal(moved[1:], flat(DELTA)[1:])
    moved = flat(norms.project(DELTA, jnp.array([1.0, 0.35, 1.0]), "linf"))
    np.testing.assert_array_equal(moved, np.array([[1, -1], [0.3, -0.35], [0, 0]], np.float32))


RADIUS = {"l0": 3.0}


@pytest.mark.parametrize("norm", NORMS)
def test_projection_is_the_nearest_point(norm):
    """It is in the ball, no farther than any point of it, and projecting again does nothing."""
    delta, radius = jax.random.normal(jax.random.key(0), (1, 3, 3, 2)), RADIUS.get(norm, 0.7)
    moved = norms.project(delta, radius, norm)
    assert float(NORMS[norm].size(moved[0])) <= radius + 1e-6
    keys = jax.random.split(jax.random.key(1), 200)
    others = norms.sample(keys, (3, 3, 2), radius, norm)
    distances = np.linalg.norm(flat(others - delta), axis=1)
    assert np.all(distances >= np.linalg.norm(moved - delta) - 1e-6)
    np.testing.assert_allclose(norms.project(moved, radius, norm), moved, atol=1e-6)


def test_golden_steepest():
    steps = flat(norms.steepest(DELTA, "l2"))
    np.testing.assert_allclose(steps, [[0.6, -0.8], [0.6, -0.8], [0, 0]], rtol=1e-6)
    np.testing.assert_array_equal(flat(norms.steepest(DELTA, "linf")), [[1, -1], [1, -1], [0, 0]])


@pytest.mark.parametrize("scale", [1e-37, 1e-20, 1e30])
def test_steepest_of_tiny_and_huge_gradients(scale):
    step = flat(norms.steepest(scale * DELTA, "l2"))
    np.testing.assert_allclose(step[0], [0.6, -0.8], rtol=1e-5)
    assert np.all(np.isfinite(step))


@pytest.mark.parametrize("norm", [norm for norm in NORMS if norm != "l0"])
def test_sample_is_uniform_in_the_ball(norm):
    """The share within radius r is r^d: n = 4,000 in 3 dimensions, five standard deviations."""
    keys = prng.per_example(jax.random.key(0), jnp.arange(4000))
    points = norms.sample(keys, (1, 3, 1), 2.0, norm)
    size = np.asarray(jax.vmap(NORMS[norm].size)(points))
    assert size.max() <= 2.0 + 1e-6
    for radius in (0.5, 0.8):
        share = radius**3
        bound = 5 * math.sqrt(share * (1 - share) / 4000)
        assert abs(np.mean(size < 2 * radius) - share) < bound
    assert np.all(np.abs(flat(points).mean(0)) < 5 * 2 / math.sqrt(3 * 4000))


@pytest.mark.parametrize(
    ("norm", "value", "message"),
    [
        ("linf", -0.1, "epsilon is -0.1; with norm 'linf' it must be between 0 and 1"),
        ("linf", 8.0, "epsilon is 8.0"),
        ("linf", float("nan"), "epsilon is nan"),
        ("linf", np.array([0.1, 1.1]), "epsilon is 1.1"),
        ("l2", -1.0, "epsilon is -1.0; with norm 'l2' it must be at least 0"),
        ("l2", float("inf"), "epsilon is inf"),
    ],
)
def test_wrong_sizes(norm, value, message):
    with pytest.raises(ValueError, match=message):
        norms.check_size("epsilon", value, norm)


def test_any_positive_size_is_allowed_in_l2():
    norms.check_size("epsilon", 128.0, "l2")
