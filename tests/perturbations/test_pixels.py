from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import perturbations
from rbjax.perturbations.pixels import random_pixels

# Every value that is set differs from -1: a pixel is altered where the result is not -1.
BLANK = -jnp.ones((5, 7, 3))


def altered(perturbation, num_draws=400, image=BLANK):
    """Returns (num_draws, H, W) which pixels were altered, and the images."""
    keys = jax.random.split(jax.random.key(0), num_draws)
    images = np.asarray(jax.jit(jax.vmap(lambda key: perturbation(key, image)))(keys))
    changed = images != np.asarray(image)
    # All channels of a pixel are altered, or none.
    assert np.all(changed.all(-1) == changed.any(-1))
    return changed.any(-1), images


@pytest.mark.parametrize(("exactly", "replace"), list(itertools.product([True, False], repeat=2)))
def test_number_of_pixels(exactly, replace):
    where, _ = altered(random_pixels(max_pixels=4, exactly=exactly, replace=replace))
    counts = np.bincount(where.sum((1, 2)), minlength=5)
    assert counts[0] == 0
    assert len(counts) == 5
    if exactly and not replace:
        assert counts[4] == 400
    elif exactly:
        # P(all four positions differ) = 35 34 33 32 / 35^4 = 0.8373; five standard deviations.
        assert abs(counts[4] / 400 - 0.8373) < 5 * (0.8373 * 0.1627 / 400) ** 0.5
    elif not replace:
        assert np.all(np.abs(counts[1:] / 400 - 0.25) < 5 * (0.25 * 0.75 / 400) ** 0.5)


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("exactly", [True, False])
def test_every_pixel_is_as_likely(replace, exactly):
    where, _ = altered(random_pixels(max_pixels=9, exactly=exactly, replace=replace), 4000)
    share = where.mean(0)
    expected = share.mean()
    assert np.all(np.abs(share - expected) < 5 * (expected * (1 - expected) / 4000) ** 0.5)


def test_distinct_sets_are_equally_likely():
    """Each of the 10 pairs of 5 pixels is as frequent as another, also where count < k."""
    where, _ = altered(random_pixels(max_pixels=3), 9000, -jnp.ones((1, 5, 1)))
    pairs = where[:, 0][where.sum((1, 2)) == 2]
    numbers = np.bincount(pairs @ (1 << np.arange(5)), minlength=32)
    numbers = numbers[numbers > 0]
    assert len(numbers) == 10
    assert np.all(np.abs(numbers / len(pairs) - 0.1) < 5 * (0.09 / len(pairs)) ** 0.5)


def test_all_pixels_can_be_altered():
    where, _ = altered(random_pixels(max_pixels=35, exactly=True), 10)
    assert where.all()


@pytest.mark.parametrize(
    ("values", "levels", "mean", "variance"),
    [("uniform", None, 0.5, 1 / 12), ("binary", 1, 0.5, 1 / 4), ("byte", 255, 0.5, 0.0840)],
)
def test_law_of_the_values(values, levels, mean, variance):
    where, images = altered(random_pixels(max_pixels=5, exactly=True, values=values))
    drawn = images[where]
    assert drawn.size == 400 * 5 * 3
    assert np.all((drawn >= 0) & (drawn <= 1))
    if levels is not None:
        np.testing.assert_allclose(drawn * levels, np.round(drawn * levels), atol=1e-4)
        assert len(np.unique(drawn)) == levels + 1
    # Five standard errors of 6,000 values.
    assert abs(drawn.mean() - mean) < 5 * (variance / drawn.size) ** 0.5
    assert drawn.var() == pytest.approx(variance, rel=0.08)


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize(("values", "expected"), [("white", 1.0), ("inverted", 0.75)])
def test_values_without_a_law(values, expected, replace):
    perturbation = random_pixels(max_pixels=9, exactly=True, replace=replace, values=values)
    where, images = altered(perturbation, 20, jnp.full((5, 7, 3), 0.25))
    assert np.all(images[where] == expected)
    # A pixel that is drawn twice is inverted once.
    assert np.all(where.sum((1, 2)) <= 9)
    assert np.all(where.sum((1, 2)) >= (4 if replace else 9))


def test_default_is_the_square_root_of_the_pixels():
    where, _ = altered(random_pixels(exactly=True), 3, -jnp.ones((28, 28, 1)))
    assert list(where.sum((1, 2))) == [28, 28, 28]
    where, _ = altered(random_pixels(exactly=True), 3)
    assert list(where.sum((1, 2))) == [5, 5, 5]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_pixels": 0}, "max_pixels is 0"),
        ({"max_pixels": 2.5}, "max_pixels is 2.5"),
        ({"max_pixels": True}, "max_pixels is True"),
        ({"values": "bytes"}, "did you mean 'byte'"),
        ({"max_pixel": 3}, "did you mean 'max_pixels'"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        perturbations.create("random_pixels", **options)


def test_more_pixels_than_there_are():
    with pytest.raises(ValueError, match="max_pixels is 36; an image has 35"):
        random_pixels(max_pixels=36)(jax.random.key(0), BLANK)
