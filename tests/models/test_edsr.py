"""EDSR, and every distortion of it that is published."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import prng
from rbjax.models import edsr
from rbjax.models import edsr_distortions as distortions

IMAGES = prng.uniform(prng.key(0), (4, 6, 6, 2))
NETWORK = edsr.create(channels=2, mean=(0.4, 0.5), num_blocks=2, width=4)
PARAMS = NETWORK.init(prng.key(1), IMAGES)
NAMES = list(distortions.WEIGHT_DISTORTIONS)


def test_parameters_as_published():
    module = edsr.EDSR(channels=3, mean=(0.5, 0.5, 0.5))
    form = jax.eval_shape(module.init, prng.key(0), jnp.zeros((1, 8, 8, 3)))
    assert sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(form)) == 1_517_571


def test_initial_kernels_are_uniform_to_one_over_the_root_of_the_fan_in():
    for kernels, fan_in in ((PARAMS["head"]["kernel"], 9 * 2), (PARAMS["kernels"], 9 * 4)):
        assert np.abs(kernels).max() == pytest.approx(fan_in**-0.5, rel=0.05)
        assert np.std(kernels) == pytest.approx((3 * fan_in) ** -0.5, rel=0.2)
    assert not np.any(PARAMS["biases"])


@pytest.mark.parametrize("shape", [(28, 28, 1), (65, 65, 11), (1, 5, 3)])
def test_any_size_and_channels(shape):
    network = edsr.create(channels=shape[-1], mean=(0.5,) * shape[-1], width=4)
    images = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    params = network.init(prng.key(0), jnp.zeros((1, *shape)))
    keys = jax.eval_shape(lambda: prng.split(prng.key(0), 2))
    assert jax.eval_shape(network.reconstruct, params, images).shape == images.shape
    assert jax.eval_shape(network.distort, params, images, keys).shape == images.shape


def test_every_distortion_of_the_weights_changes_the_images():
    assert len(NAMES) == 17

    reconstruct, distorted = jax.jit(NETWORK.reconstruct), []
    for change in distortions.WEIGHT_DISTORTIONS.values():
        kernels, biases = change(prng.key(3), PARAMS["kernels"], PARAMS["biases"])
        distorted.append(reconstruct({**PARAMS, "kernels": kernels, "biases": biases}, IMAGES))
    plain = reconstruct(PARAMS, IMAGES)
    for name, images in zip(NAMES, distorted, strict=True):
        assert np.all(np.isfinite(images))
        assert np.abs(images - plain).max() > 1e-5, name
    assert len(np.unique(np.round(distorted, 6), axis=0)) == 17  # no two the same


def test_every_distortion_is_drawn(monkeypatch):
    for number, name in enumerate(NAMES):
        entry = lambda key, kernels, biases, n=number: (kernels, biases.at[n].set(1))
        monkeypatch.setitem(distortions.WEIGHT_DISTORTIONS, name, entry)
    params = {"kernels": jnp.zeros(1), "biases": jnp.zeros(17)}
    keys = prng.split(prng.key(4), 100)
    drawn = np.stack([distortions.distort_weights(key, params)["biases"] for key in keys])
    counts = drawn.sum(axis=1)  # three with replacement: 3, 2 or 1 different ones
    assert set(counts.tolist()) <= {1, 2, 3}
    assert np.mean(counts == 3) == pytest.approx(16 * 15 / 17**2, abs=0.12)
    assert drawn.max(axis=0).tolist() == [1] * 17


@pytest.mark.parametrize(
    "name", ["negate", "mirror and negate", "random signs", "reverse channels"]
)
def test_twice_the_same_is_nothing(name):
    change, weights = (
        distortions.WEIGHT_DISTORTIONS[name],
        (PARAMS["kernels"], PARAMS["biases"] + 1),
    )
    once = change(prng.key(5), *weights)
    twice = change(prng.key(5), *once)
    assert any(np.any(a != b) for a, b in zip(once, weights, strict=True))
    for a, b in zip(twice, weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_convolved_kernels_by_hand():
    """A kernel that is one at its middle, convolved with taps, is the taps mirrored."""
    kernels = jnp.zeros((1, 2, 3, 3, 1, 1)).at[0, 0, 1, 1].set(1)
    taps = jnp.arange(9.0).reshape(3, 3, 1, 1)
    after = distortions._convolve_kernel(kernels, (0, 0), taps)[0, 0]
    np.testing.assert_array_equal(after, taps[::-1, ::-1])


def test_activations_are_distorted_as_often_as_published():
    """1,000 keys and 100 activations: a standard error of 0.0007 for 5 %, 0.0005 for 2.5 %."""
    x = jnp.broadcast_to(jnp.arange(1.0, 5.0), (5, 5, 4))
    keys = prng.split(prng.key(6), 1000)
    heads = jax.jit(
        jax.vmap(lambda key, number: distortions.distort_head(key, x, number), (0, None))
    )
    copies, zeros, signs, same = (heads(keys, number) for number in range(4))
    assert np.mean(zeros == 0) == pytest.approx(0.05, abs=0.003)
    assert np.mean(signs == -x) == pytest.approx(0.025, abs=0.002)
    np.testing.assert_array_equal(same, jnp.broadcast_to(x, same.shape))
    assert set(np.unique(copies).tolist()) == {1, 2, 3, 4}
    assert np.mean(np.any(copies[:, 0, 0] != x[0, 0], axis=1)) > 0.9


def test_each_distortion_of_the_body():
    x = prng.normal(prng.key(7), (3, 5, 4))
    body = jax.jit(lambda key, number: distortions.distort_body(prng.key(key), x, number))
    np.testing.assert_array_equal(body(0, 0), -x)
    rectified = [body(key, 1) for key in range(12)]
    relu = [bool(np.all(y == np.maximum(x, 0))) for y in rectified]
    assert any(relu)
    for y, is_relu in zip(rectified, relu, strict=True):
        if not is_relu:
            np.testing.assert_allclose(y, jax.nn.gelu(x, approximate=False), atol=1e-6)
    flips = [x[::-1, :, ::-1], x[:, ::-1, ::-1]]
    found = [[bool(np.all(body(key, 2) == flip)) for flip in flips] for key in range(12)]
    assert np.all(np.sum(found, axis=1) == 1)
    assert np.all(np.sum(found, axis=0) > 0)
    np.testing.assert_array_equal(body(0, 4), x)


def test_distorted_images_follow_from_their_keys_alone():
    """Each is distorted or, for one key in 20, given back as it is."""
    keys = prng.split(prng.key(8), 100)
    images = jnp.broadcast_to(IMAGES[:1], (100, 6, 6, 2))
    distort = jax.jit(NETWORK.distort)
    whole = distort(PARAMS, images, keys)
    plain = jnp.clip(NETWORK.reconstruct(PARAMS, IMAGES[:1]), 0, 1)
    same = np.all(np.abs(whole - plain) < 1e-6, axis=(1, 2, 3))
    assert 1 <= same.sum() <= 15
    order = np.arange(100)[::-1]
    np.testing.assert_allclose(distort(PARAMS, images, keys[order]), whole[order], atol=1e-6)


def test_skipped_layers_leave_the_last_one(monkeypatch):
    """As published: every layer is given the head's activations, so that the last one counts.

    200 images, of which 40 are expected to be distorted so: a standard deviation of 6.
    """
    monkeypatch.setattr(edsr, "distort_body", lambda key, x, distortion: x)
    layers = [lambda y, n=n: y + 2.0**n for n in range(17)]
    distort = jax.jit(lambda keys: edsr._distorted_body(layers, jnp.zeros((200, 1, 1, 1)), keys))
    sums = distort(prng.split(prng.key(10), 200)).ravel().tolist()
    assert set(sums) <= {2.0**17 - 1, *(2.0**n for n in (16, 15, 14, 13))}
    assert 200 - sums.count(2.0**17 - 1) == pytest.approx(40, abs=20)
    # 16 and 15 are each among the three of 15 left out with probability 0.19.
    assert sums.count(2.0**16) == pytest.approx(0.81 * 40, abs=18)
    assert sums.count(2.0**15) >= 1
