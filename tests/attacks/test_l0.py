from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import prng
from rbjax.attacks import norms
from rbjax.attacks.l0 import project_l0_in_box, sample_l0, size_l0


def nearest(delta, count, low, high):
    """Returns the distance to the nearest point of at most `count` values, by trying all places."""
    inside, least = np.clip(delta, low, high), np.inf
    for places in itertools.combinations(range(delta.size), count):
        kept = np.zeros_like(delta)
        kept[list(places)] = inside[list(places)]
        least = min(least, np.linalg.norm(kept - delta))
    return least


@pytest.mark.parametrize("count", [0, 1, 3, 6])
def test_the_projection_on_ball_and_box_is_the_nearest_point(count):
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 1, (40, 6)).round(1)
    images[:20] = images[:20].round()  # at the edge, where one of two ways is shut
    delta = rng.normal(0, 0.7, (40, 6))
    stacked = jnp.asarray([delta, -images, 1 - images], jnp.float32).reshape(3, 40, 6, 1, 1)
    project = jax.vmap(lambda d, low, high: project_l0_in_box(d, jnp.float32(count), low, high))
    moved = project(*stacked)
    found = np.asarray(moved, np.float64).reshape(40, 6)
    assert np.all(np.sum(found != 0, axis=1) <= count)
    assert np.all((images + found >= -1e-6) & (images + found <= 1 + 1e-6))
    for d, x, p in zip(delta, images, found, strict=True):
        assert np.linalg.norm(p - d) == pytest.approx(nearest(d, count, -x, 1 - x), abs=1e-5)


def test_of_values_that_tie_the_first_are_kept():
    delta = jnp.array([0.5, -1.0, 1.0, 0.0, -1.0, 1.0]).reshape(1, 6, 1, 1)
    for count, expected in ((2.0, [0, -1, 1, 0, 0, 0]), (2.9, [0, -1, 1, 0, 0, 0])):
        np.testing.assert_array_equal(norms.project(delta, count, "l0").ravel(), expected)
    for count in (5.0, 100.0, np.inf):
        np.testing.assert_array_equal(norms.project(delta, count, "l0"), delta)
    np.testing.assert_array_equal(norms.project(0 * delta, 3.0, "l0"), 0 * delta)
    np.testing.assert_array_equal(norms.steepest(delta, "l0").ravel(), [0, -1, 0, 0, 0, 0])


def test_a_sample_has_as_many_values_at_places_all_alike():
    """2,000 draws of 3 in 12 places: each is drawn in a quarter, five standard deviations."""
    keys = prng.per_example(jax.random.key(0), jnp.arange(2000))
    drawn = jax.vmap(lambda key: sample_l0(key, (2, 3, 2), jnp.float32(3)))(keys)
    np.testing.assert_array_equal(jax.vmap(size_l0)(drawn), np.full(2000, 3))
    drawn = np.asarray(drawn)
    share = np.mean(drawn != 0, axis=0)
    assert np.all(np.abs(share - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 2000))
    values = drawn[drawn != 0]
    assert np.all(np.abs(values) <= 1)
    assert abs(np.mean(values)) < 5 / np.sqrt(3 * len(values))
