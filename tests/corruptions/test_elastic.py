"""Elastic transform against SciPy's interpolation and the map that moves three points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from rbjax import corruptions
from rbjax.corruptions import elastic

RNG = np.random.default_rng(0)
IMAGE = RNG.random((15, 12, 2))
MODES = {"reflect": "mirror", "symmetric": "reflect", "zero": "grid-constant", "none": "constant"}


@pytest.mark.parametrize("beyond", MODES)
def test_sample_is_scipys(beyond):
    places = RNG.uniform(-40, 55, (2, 400))
    places[:, :200] = RNG.uniform(-1.5, 15, (2, 200))
    ours = elastic.sample(jnp.asarray(IMAGE), *jnp.asarray(places), beyond=beyond)
    theirs = [
        scipy.ndimage.map_coordinates(IMAGE[..., c], places, order=1, mode=MODES[beyond])
        for c in (0, 1)
    ]
    np.testing.assert_allclose(ours, np.stack(theirs, -1), atol=2e-5)


def test_the_affine_map_moves_three_points():
    moved = np.array([[2, -1], [-3, 2], [1, 1]])
    rows, columns = elastic.affine_places((32, 32), jnp.asarray(moved, jnp.float32))
    for (x, y), (right, down) in zip([(26, 26), (26, 6), (6, 6)], moved, strict=True):
        at = (y + down, x + right)
        np.testing.assert_allclose([columns[at], rows[at]], [x, y], atol=1e-4)


def test_without_any_motion_nothing_changes():
    image = jnp.asarray(IMAGE, jnp.float32)
    for strength, sigma, profile in ((0, 0, "mnist"), (1e-9, 0.1, "cifar")):
        still = elastic.elastic_transform(
            jax.random.key(0), image, strength=strength, sigma=sigma, reach=0, profile=profile
        )
        np.testing.assert_allclose(still, image, atol=1e-5)


def test_a_field_moves_pixels_by_what_it_says():
    """Of an image that is its own columns' number, what is read off is where pixels come from."""
    ramp = jnp.tile(jnp.linspace(0, 1, 32)[None, :, None], (32, 1, 1))
    strength, sigma = 0.1, 0.04
    moved = elastic.elastic_transform(
        jax.random.key(0), ramp, strength=strength, sigma=sigma, reach=0, profile="cifar"
    )
    field = 31 * (np.asarray(moved) - np.asarray(ramp))[8:-8, 8:-8]
    # Variance of blurred noise: 1/3 of the sum of squared weights, 1 / (4 pi sigma^2).
    expected = 32 * strength * np.sqrt(1 / 3 / (4 * np.pi * (32 * sigma) ** 2))
    assert field.std() == pytest.approx(expected, rel=0.2)  # 256 pixels, neighbours alike


def test_sizes_are_shares_of_the_side():
    image = jnp.zeros((64, 64, 3)).at[20:40, 20:40].set(1.0)
    small = image[::2, ::2]
    change = corruptions.create("elastic_transform", severity=1, profile="cifar")
    areas = [float(jnp.mean(change(jax.random.key(2), one))) for one in (image, small)]
    assert areas[0] == pytest.approx(areas[1], rel=0.1)
    larger = 244 / 224
    of_imagenet, of_cifar = (
        elastic.elastic_transform(
            jax.random.key(2),
            image,
            strength=0.1 * scale,
            sigma=0.04 * scale,
            reach=0.05 * scale,
            profile=profile,
        )
        for profile, scale in (("imagenet", 1), ("cifar", larger))
    )
    np.testing.assert_allclose(of_imagenet, of_cifar, atol=1e-3)
