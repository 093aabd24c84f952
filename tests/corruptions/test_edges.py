"""Edges, distances and histograms: closed forms, SciPy, and OpenCV's and scikit-image's output."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from rbjax.corruptions import edges

FIXTURES = Path(__file__).parents[1] / "peers" / "fixtures"


@pytest.fixture(scope="module")
def kept():
    with np.load(FIXTURES / "spatter.npz") as file:
        return dict(file)


def each(function, images):
    return np.asarray(jax.jit(jax.vmap(function))(jnp.asarray(images)))


def test_canny_is_opencv(kept):
    levels = kept["levels"].astype(np.int32)
    ours = each(lambda level: edges.canny(level, low=200, high=500), levels[:2])
    np.testing.assert_array_equal(ours, kept["edges"][:2] > 0)
    ours = each(lambda level: edges.canny(level, low=50, high=150), levels[2:])
    np.testing.assert_array_equal(ours, kept["edges"][2:] > 0)
    assert 0.02 < (kept["edges"] > 0).mean() < 0.5


def test_distance_is_opencv_and_near_the_euclidean(kept):
    ours = each(lambda sparse: edges.chamfer_distance(sparse > 0, limit=60), kept["sparse"])
    np.testing.assert_allclose(ours / edges.UNIT, kept["distances"], atol=1e-5)
    exact = [np.asarray(scipy.ndimage.distance_transform_edt(x == 0)) for x in kept["sparse"]]
    np.testing.assert_allclose(ours / edges.UNIT, np.stack(exact), rtol=0.03)
    near = each(lambda sparse: edges.chamfer_distance(sparse > 0, limit=3), kept["sparse"])
    np.testing.assert_array_equal(near, np.minimum(ours, 3 * edges.UNIT))


def test_distance_without_any_edge_is_the_limit():
    assert np.all(edges.chamfer_distance(jnp.zeros((9, 11), bool), limit=20) == 20 * edges.UNIT)


def test_equalised_histogram_is_opencv(kept):
    ours = each(edges.equalize_histogram, kept["levels"].astype(np.int32))
    np.testing.assert_array_equal(ours, kept["equalized"])
    few = edges.equalize_histogram(jnp.asarray(kept["levels"][2], jnp.int32), num_values=86)
    np.testing.assert_array_equal(few, kept["equalized"][2])
    np.testing.assert_array_equal(edges.equalize_histogram(jnp.full((8, 9), 7)), 7)


def test_interpolated_canny_is_scikit_image():
    with np.load(FIXTURES / "mnist_shapes.npz") as file:
        pictures, theirs = file["pictures"] / np.float32(255), file["edges"]
    ours = each(lambda x: edges.interpolated_canny(x, sigma=1.0, low=0.1, high=0.2), pictures)
    # Ties between neighbours, frequent on drawn lines, are broken by the last bit.
    assert np.mean(ours != theirs) <= 0.01 * theirs.mean()


def test_what_grows_is_what_is_connected():
    allowed = np.random.default_rng(0).random((6, 15, 19)) < 0.45
    seeds = allowed & (np.random.default_rng(1).random(allowed.shape) < 0.03)
    ours = np.asarray(jax.jit(jax.vmap(edges.grow))(seeds, allowed))
    for our, seed, can in zip(ours, seeds, allowed, strict=True):
        labels = np.zeros(can.shape, np.int32)
        scipy.ndimage.label(can, np.ones((3, 3)), output=labels)
        np.testing.assert_array_equal(our, np.isin(labels, np.unique(labels[seed])) & can)
    assert not np.asarray(edges.grow(jnp.zeros((4, 5), bool), jnp.ones((4, 5), bool))).any()


def test_smoothing_is_scipy():
    image = np.random.default_rng(2).random((17, 12))
    for sigma in (0.7, 3.0):
        theirs = scipy.ndimage.gaussian_filter(image, sigma, mode="nearest")
        np.testing.assert_allclose(edges.smooth(jnp.float32(image), sigma), theirs, atol=1e-6)
    inside = scipy.ndimage.gaussian_filter(image, 1.0, mode="constant")
    inside /= scipy.ndimage.gaussian_filter(np.ones_like(image), 1.0, mode="constant")
    ours = edges.smooth(jnp.float32(image), 1.0, inside_only=True)
    np.testing.assert_allclose(ours, inside, atol=1e-6)


def test_sobel_and_box_sum_are_scipy():
    image = np.random.default_rng(3).random((9, 14)).astype(np.float32)
    for axis, ours in enumerate(edges.sobel(jnp.asarray(image))):
        theirs = scipy.ndimage.sobel(image, axis, mode="nearest")
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    theirs = scipy.ndimage.uniform_filter(image, 3, mode="mirror")
    np.testing.assert_allclose(edges.box_sum(jnp.asarray(image)) / 9, theirs, atol=1e-6)
