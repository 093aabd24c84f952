"""MNIST-C's own corruptions: the published loops in NumPy, and scikit-image's warps."""

import functools
import itertools
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from rbjax import corruptions
from rbjax.corruptions import glass, mnist

FIXTURES = Path(__file__).parents[1] / "peers" / "fixtures"
KEYS = jax.random.split(jax.random.key(0), 24)
BLACK = jnp.zeros((28, 28, 1))


@pytest.fixture(scope="module")
def kept():
    with np.load(FIXTURES / "mnist_shapes.npz") as file:
        return dict(file)


def drawn(name, image, severity=None, keys=KEYS):
    corruption = corruptions.create(name, severity=severity, profile="mnist")
    return np.asarray(jax.jit(jax.vmap(corruption, (0, None)))(keys, image))


@pytest.mark.parametrize("name", ["shear", "rotate", "scale"])
def test_shapes_are_scikit_image(kept, name):
    """At every severity the result is one of the two, and both occur."""
    picture = jnp.asarray(kept["pictures"][0], jnp.float32)[..., None] / 255
    warped = kept[name].reshape(5, -1, 28, 28)
    for severity, either in enumerate(warped, 1):
        ours = drawn(name, picture, severity, KEYS[:8])[..., 0]
        off = np.abs(ours[:, None] - either).max((2, 3))
        assert off.min(1).max() < 1e-5
        assert set(off.argmin(1)) == set(range(len(either)))


def test_translate_goes_to_the_four_corners():
    image = np.random.default_rng(0).random((12, 15, 2)).astype(np.float32)
    padded = np.pad(image, ((3, 3), (3, 3), (0, 0)))
    corners = [padded[y : y + 12, x : x + 15] for y in (0, 6) for x in (0, 6)]
    seen = set()
    for moved in drawn("translate", image, 3):
        matches = [np.array_equal(moved, corner) for corner in corners]
        assert sum(matches) == 1
        seen.add(matches.index(True))
    assert seen == {0, 1, 2, 3}


def published_line(start, end, side=28):
    """The published line from (column, row) to (column, row)."""
    (c0, r0), (c1, r1) = start, end
    rows, columns = np.indices((side, side))
    distance = np.abs(rows - ((r1 - r0) / (c1 - c0) * (columns - c0) + r0))
    bright = np.clip(np.log(1 - np.clip(distance, 0, 2.3 - 1e-10) / 2.3) + 1, 0, 1)
    bright[:, : math.floor(c0)] = 0
    bright[:, math.ceil(c1) :] = 0
    return bright


def test_dotted_line_is_the_published_loop():
    lines = drawn("dotted_line", BLACK)[..., 0]
    rows = jax.vmap(lambda key: jax.random.randint(key, (2,), 0, 27))(KEYS)
    for ours, (r0, r1) in zip(lines, np.asarray(rows, float), strict=True):
        expected = published_line((0, r0), (27, r1))
        for left in range(0, 28, 4):
            expected[:, left : left + 2] = 0
        np.testing.assert_allclose(ours, expected, atol=1e-4)
    assert np.mean(lines.max(1) > 0.75) == 13 / 28


def published_zigzag(r0, r1, side):
    """The published corners: teeth along a straight line, its end, all turned by its angle."""
    a = b = 2.0
    c0, c1 = 2, side - 3
    theta = np.arctan((r1 - r0) / (c1 - c0))
    d = (c1 - c0) / np.cos(theta)
    ends, height = [(0.0, 0.0)], 0.0
    for i in range(int((d - a) // (2 * a)) + 1):
        height = (-1) ** i * b
        ends.append(((2 * i + 1) * a, height))
    rest = d - 2 * a * (d // (2 * a))
    if rest:
        ends.append((d, height / (2 * rest)))
    turn = np.array([[np.cos(theta), -np.sin(theta)], [np.sin(theta), np.cos(theta)]])
    return np.array(ends) @ turn.T + [c0, r0]


@pytest.mark.parametrize("side", [28, 29, 30, 21])
def test_zigzag_is_the_published_loop(side):
    """At 29 the straight line ends on a tooth, at 30 the number of teeth depends on its slope."""
    corners = jax.jit(jax.vmap(lambda a, b: mnist.zigzag_corners(a, b, width=side)))
    rises = np.arange(-5.0, 5.0)
    for rise, ours in zip(rises, corners(np.full(10, 9.0), 9 + rises), strict=True):
        expected = published_zigzag(9.0, 9.0 + rise, side)
        np.testing.assert_allclose(ours[: len(expected)], expected, rtol=1e-4, atol=1e-4)
        for repeated in ours[len(expected) :]:
            np.testing.assert_array_equal(repeated, ours[len(expected) - 1])


def test_zigzag_is_drawn_over_the_image():
    image = 0.3 * jax.random.uniform(KEYS[0], (28, 28, 1))
    for key, ours in zip(KEYS, drawn("zigzag", image), strict=True):
        start_key, rise_key = jax.random.split(key)
        first = int(jax.random.randint(start_key, (), 0, 27))
        corners = published_zigzag(first, first + int(jax.random.randint(rise_key, (), -5, 5)), 28)
        expected = np.asarray(image)[..., 0]
        for start, end in itertools.pairwise(corners):
            expected = np.clip(expected + published_line(start, end), 0, 1)
        # Near its end the log is steep, and a corner in the last column may fall on either side.
        assert np.mean(np.abs(ours[..., 0] - expected) > 1e-3) < 0.01


def test_stripe_inverts_seven_columns_of_28_on_each_side():
    image = np.random.default_rng(0).random((28, 28, 1)).astype(np.float32)
    expected = image.copy()
    expected[:, :7] = 1 - expected[:, :7]
    expected[:, 21:] = 1 - expected[:, 21:]
    np.testing.assert_allclose(drawn("stripe", image)[0], expected, atol=1e-6)


def test_canny_edges_are_white_on_black(kept):
    picture = jnp.asarray(kept["pictures"][1], jnp.float32)[..., None] / 255
    edges = drawn("canny_edges", picture, keys=KEYS[:2])
    assert set(np.unique(edges)) == {0.0, 1.0}
    assert np.mean(edges[0, ..., 0] != kept["edges"][1]) < 0.005
    np.testing.assert_array_equal(edges[0], edges[1])


def published_shuffle(key, image, reach, num_passes):
    """The published loop, on the draws of `glass.swapped`."""
    image, (height, width) = image.copy(), image.shape
    coin_key, move_key = jax.random.split(key)
    count = num_passes * (height - 2 * reach) * (width - 2 * reach)
    moves = np.asarray(jax.random.randint(move_key, (2, count), -reach, reach)).T
    draws = iter(
        zip(np.asarray(jax.random.bernoulli(coin_key, shape=(count,))), moves, strict=True)
    )
    for _ in range(num_passes):
        for h in range(height - reach, reach, -1):
            for w in range(width - reach, reach, -1):
                coin, (down, right) = next(draws)
                if coin:
                    other = h + down, w + right
                    image[h, w], image[other] = image[other], image[h, w]
    assert next(draws, None) is None
    return image


def test_glass_blur_is_the_published_loop():
    """It blurs down the columns only, as the published code does on a grey image."""
    image = np.random.default_rng(0).random((16, 13, 1)).astype(np.float32)
    sigma, reach, num_passes = corruptions.CONSTANTS["mnist"]["glass_blur"][3]
    blur = functools.partial(scipy.ndimage.gaussian_filter, sigma=(sigma, 0), mode="nearest")
    ours = drawn("glass_blur", image, 4, KEYS[:3])
    for key, one in zip(KEYS, ours, strict=False):
        grey = published_shuffle(key, np.uint8(blur(image[..., 0]) * 255), reach, num_passes)
        expected = blur(grey / 255)
        np.testing.assert_allclose(one[..., 0], expected, atol=1e-5)


def test_swapped_is_a_permutation():
    held = glass.swapped(KEYS[0], (9, 8), max_shift=2, num_passes=3)
    np.testing.assert_array_equal(np.sort(np.ravel(held)), np.arange(72))
    moved = np.mean(np.asarray(held)[1:, 1:] != np.arange(72).reshape(9, 8)[1:, 1:])
    assert 0.3 < moved < 1
