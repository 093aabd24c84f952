"""Noise2Net: a random network an image."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import prng
from rbjax.models import noise2net as module
from rbjax.models.noise2net import noise2net

IMAGES = prng.uniform(prng.key(0), (6, 7, 9, 3))
MEAN, STD = jnp.array([0.5, 0.4, 0.45]), jnp.array([0.25, 0.2, 0.3])
KEYS = prng.split(prng.key(1), 6)


@jax.jit
def apply(keys, images, epsilon):
    run = partial(noise2net, mean=MEAN, std=STD, epsilon=epsilon)
    return jax.vmap(run)(keys, images)


def test_epsilon_0_is_the_identity():
    np.testing.assert_array_equal(apply(KEYS, IMAGES, 0.0), IMAGES)


def test_parameters_as_published():
    """Beside 278 a block that cancel, or are 1 and 0: biases of convolutions, and normalisations'.

    All 3x3: 30,296; all 1x1: 5,720.
    """
    form = jax.eval_shape(partial(module.init, channels=3), prng.key(0))
    shapes = {name: np.prod(leaf.shape) for name, leaf in form.items() if name != "dilations"}
    assert module.NUM_BLOCKS * (sum(shapes.values()) + 278) == 30_296
    small = shapes | {"taps": shapes["taps"] // 9}
    assert module.NUM_BLOCKS * (sum(small.values()) + 278) == 5_720
    init = jax.jit(jax.vmap(partial(module.init, channels=3)))
    blocks = init(prng.split(prng.key(2), 60))
    used = np.any(blocks["taps"] != 0, axis=(3, 4))
    assert set(used.sum(axis=2).ravel().tolist()) == {1, 9}
    assert np.all(used[:, :, 4])
    assert set(np.unique(blocks["dilations"]).tolist()) == {1, 2, 3}


def test_a_block_adds_mean_0_and_variance_1():
    block = jax.jit(lambda key: module._block(module.init(key, 3), (IMAGES[0] - MEAN) / STD))
    added = block(prng.key(3))
    np.testing.assert_allclose(added.mean(axis=(0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(added.var(axis=(0, 1)), 1, atol=1e-2)


@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_neighbours_are_those_of_a_dilated_convolution(dilation):
    x, taps = prng.normal(prng.key(4), (7, 9, 2)), prng.normal(prng.key(5), (9, 2, 4))
    ours = jnp.einsum("hwti,tio->hwo", module._neighbours(x, jnp.int32(dilation)), taps)
    theirs = jax.lax.conv_general_dilated(
        x[None],
        taps.reshape(3, 3, 2, 4),
        (1, 1),
        [(dilation, dilation)] * 2,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )[0]
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_an_image_follows_from_its_key_alone():
    whole = apply(KEYS, IMAGES, 0.5)
    assert np.abs(whole - IMAGES).mean() > 0.05
    order = np.array([3, 1, 5, 0, 2, 4])
    np.testing.assert_allclose(apply(KEYS[order], IMAGES[order], 0.5), whole[order], atol=1e-6)
