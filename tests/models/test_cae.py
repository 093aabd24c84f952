"""The compressive autoencoder, and every distortion of it that is published."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import prng
from rbjax.models import cae
from rbjax.models import cae_distortions as distortions

IMAGES = prng.uniform(prng.key(0), (2, 9, 11, 2))
NETWORK = cae.create(channels=2, width=4)
PARAMS = NETWORK.init(prng.key(1), IMAGES)
NAMES = list(distortions.WEIGHT_DISTORTIONS)


def test_parameters_as_published():
    form = jax.eval_shape(cae.CAE(3).init, prng.key(0), jnp.zeros((1, 32, 32, 3)))["params"]
    assert sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(form)) == 2_241_859
    assert sorted(form) == sorted(f"layer_{number}" for number in range(21))


def test_the_code_has_a_quarter_of_the_size():
    module, images = cae.CAE(3), jnp.zeros((1, 32, 48, 3))
    params = jax.eval_shape(module.init, prng.key(0), images)
    code = jax.eval_shape(partial(module.apply, method="encode"), params, images)
    assert code.shape == (1, 8, 12, 32)


@pytest.mark.parametrize("shape", [(28, 28, 1), (65, 65, 11), (1, 5, 3)])
def test_any_size_and_channels(shape):
    network = cae.create(channels=shape[-1], width=4)
    images = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    params = network.init(prng.key(0), jnp.zeros((1, *shape)))
    keys = jax.eval_shape(lambda: prng.split(prng.key(0), 2))
    assert jax.eval_shape(network.reconstruct, params, images).shape == images.shape
    assert jax.eval_shape(network.distort, params, images, keys).shape == images.shape


def test_every_distortion_of_the_weights_changes_the_images():
    reconstruct, distorted = jax.jit(NETWORK.reconstruct), []
    for change in distortions.WEIGHT_DISTORTIONS.values():
        distorted.append(reconstruct(change(prng.key(3), PARAMS), IMAGES))
    plain = reconstruct(PARAMS, IMAGES)
    for name, images in zip(NAMES, distorted, strict=True):
        assert np.all(np.isfinite(images))
        assert np.abs(images - plain).max() > 1e-5, name
    assert len(np.unique(np.round(distorted, 6), axis=0)) == 8


def test_every_distortion_is_drawn(monkeypatch):
    for number, name in enumerate(NAMES):
        monkeypatch.setitem(
            distortions.WEIGHT_DISTORTIONS,
            name,
            lambda key, params, n=number: params.at[n].set(1),
        )
    keys = prng.split(prng.key(4), 100)
    drawn = np.stack([distortions.distort_weights(key, jnp.zeros(8)) for key in keys])
    assert drawn.sum(axis=1).tolist() == [1] * 100
    assert drawn.max(axis=0).tolist() == [1] * 8


def test_published_layers_are_changed():
    """Of the transposed convolution, filters are its input's; elsewhere its output's."""
    layer = {"kernel": jnp.ones((2, 2, 50, 50)), "bias": jnp.ones(50)}
    params = {f"layer_{number}": layer for number in range(8, 17)}
    touched = set()
    for key in prng.split(prng.key(5), 40):
        zeroed = distortions.WEIGHT_DISTORTIONS["zero filters"](key, params)
        (name,) = [name for name in params if np.any(zeroed[name]["bias"] == 0)]
        kernel, bias = zeroed[name].values()
        axes = (0, 1, 3) if name == "layer_10" else (0, 1, 2)
        np.testing.assert_array_equal(np.all(kernel == 0, axis=axes), bias == 0)
        assert 10 <= np.sum(bias == 0) <= 25
        touched.add(name)
    assert touched == {f"layer_{number}" for number in range(8, 14)}


@pytest.mark.parametrize("name", ["reverse channels", "negate a fifth", "negate filters"])
def test_twice_the_same_is_nothing(name):
    change = distortions.WEIGHT_DISTORTIONS[name]
    once = change(prng.key(6), PARAMS)
    twice = change(prng.key(6), once)
    pairs = zip(jax.tree.leaves(once), jax.tree.leaves(PARAMS), strict=True)
    assert any(np.any(a != b) for a, b in pairs)
    for a, b in zip(jax.tree.leaves(twice), jax.tree.leaves(PARAMS), strict=True):
        np.testing.assert_array_equal(a, b)


CODE = prng.uniform(prng.key(7), (6, 5, 12), minval=-1.0, maxval=1.0)


def test_the_changes_of_the_code():
    changes = jax.jit(lambda key: [change(key, CODE) for change in distortions._CHANGES])
    zero, negate, permute, five, flip, noise, mix, shift = map(np.asarray, changes(prng.key(8)))
    kept, code = np.all(zero == CODE, axis=-1), np.asarray(CODE)
    np.testing.assert_array_equal(kept, ~np.all(zero == 0, axis=-1))
    assert 0 < kept.mean() < 1
    np.testing.assert_array_equal(np.abs(negate), np.abs(code))
    assert 0 < np.mean(negate == code) < 1
    np.testing.assert_array_equal(np.sort(permute, axis=-1), np.sort(code, axis=-1))
    np.testing.assert_array_equal(permute[..., 10:], code[..., 10:])
    assert np.any(permute != code)
    flips = [code[::-1], code[:, ::-1], code[::-1, ::-1]]
    (which,) = [n for n, candidate in enumerate(flips) if np.all(flip == candidate)]
    channels = np.all(five == flips[which], axis=(0, 1))
    assert 1 <= channels.sum() <= 5
    np.testing.assert_array_equal(five[..., ~channels], code[..., ~channels])
    assert 0.01 < np.abs(noise - code).max() <= 0.1 * 9 * 12
    alone = np.all(np.abs(mix - code) < 1e-6, axis=(0, 1))
    assert 0 < alone.sum() < 12
    padded = np.pad(code, ((1, 1), (1, 1), (0, 0)))
    windows = [padded[r : r + 6, c : c + 5] for r in range(3) for c in range(3)]
    for channel in range(12):
        matches = [np.allclose(shift[..., channel], w[..., channel], atol=1e-6) for w in windows]
        assert sum(matches) == 1
        if not alone[channel]:  # one tap of another channel is added, at one of nine places
            added = mix[..., channel] - code[..., channel]
            found = [np.all(np.abs(w - added[..., None]) < 1e-5, axis=(0, 1)) for w in windows]
            assert np.sum(found) == 1


def test_every_distortion_of_the_code_changes_the_bits():
    def distort(key):
        bits = distortions.sample_bits(prng.split(prng.named(key, "code"), 3)[2], CODE)
        distorted = jax.vmap(lambda number: distortions.distort_code(key, CODE, number))(
            jnp.arange(9)
        )
        return bits, distorted, distortions.distort_code(key, CODE)

    plain, bits, drawn = map(np.asarray, jax.jit(jax.vmap(distort))(prng.split(prng.key(8), 60)))
    changed = np.any(bits != plain[:, None], axis=(2, 3, 4)).mean(axis=0)
    assert len(distortions.CODE_DISTORTIONS) == len(changed) == 9
    assert np.all(changed > 0.9), dict(zip(distortions.CODE_DISTORTIONS, changed, strict=True))
    which = np.all(bits == drawn[:, None], axis=(2, 3, 4))
    assert np.all(which.sum(axis=1) >= 1)
    assert np.all(which.any(axis=0))  # each is drawn


def test_bits_have_the_code_as_their_mean():
    """4,000 draws of bits: a standard error of at most 0.016."""
    code = jnp.linspace(-1, 1, 9).reshape(3, 3, 1)
    keys = prng.split(prng.key(9), 4000)
    bits = jax.jit(jax.vmap(partial(distortions.sample_bits, code=code)))(keys)
    assert set(np.unique(bits).tolist()) == {-1, 1}
    np.testing.assert_allclose(bits.mean(axis=0), code, atol=0.06)


def test_the_code_is_scaled_after_its_bits_are_drawn():
    distort = jax.jit(lambda code: distortions.distort_code(prng.key(10), code, 0))
    scaled, bits = distort(CODE), distort(jnp.sign(CODE))
    for values in (scaled, bits):  # 0 and 1 times 3 to 7, then in -1 and 1
        assert np.all((values == -1) | ((values >= 5) & (values <= 13)))
    np.testing.assert_array_equal(bits == -1, CODE < 0)


def test_distorted_images_follow_from_their_keys_alone():
    keys, images = prng.split(prng.key(11), 60), jnp.repeat(IMAGES[:1], 60, axis=0)
    distort = jax.jit(NETWORK.distort)
    whole = distort(PARAMS, images, keys)
    assert len(np.unique(np.asarray(whole), axis=0)) == 60
    order = np.arange(60)[::-1]
    np.testing.assert_allclose(distort(PARAMS, images, keys[order]), whole[order], atol=1e-6)


def test_training_sees_random_bits_and_their_gradient():
    keys = prng.split(prng.key(12), 2)
    gradient = jax.jit(jax.grad(NETWORK.loss))(PARAMS, IMAGES, keys)
    assert np.abs(gradient["layer_0"]["kernel"]).max() > 0  # through the bits, straight
