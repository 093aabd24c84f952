"""AugMix's views: their chains are Pillow's, and whatever a view depends on is its key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import prng
from rbjax.data import augmix as module
from rbjax.data.augmix import augmix, draw
from rbjax.data.operations import OPERATIONS, Operation
from rbjax.inputs import UNIT_INTERVAL
from tests.data.test_operations import PILLOW, make_images

Image = pytest.importorskip("PIL.Image")
NAMES = [name for name in OPERATIONS if not OPERATIONS[name].corrupts]
OPTIONS = {"severity": 3.0, "width": 3, "depth": None, "alpha": 1.0}


def by_pillow(image, weights, calls):
    """Chain after chain, call after call, on a Pillow image."""
    mixed = image / 255
    chains = zip(*map(np.asarray, calls), strict=True)
    for weight, chain in zip(np.asarray(weights), chains, strict=True):
        pillow = Image.fromarray(image.squeeze())
        for number, level, sign in zip(*chain, strict=True):
            if number < len(NAMES):
                parameter = OPERATIONS[NAMES[number]].parameter
                own = () if parameter is None else (float(parameter(level, sign, image.shape[1])),)
                pillow = PILLOW[NAMES[number]](pillow, *own)
        mixed = mixed + weight * (np.asarray(pillow).reshape(image.shape) / 255.0 - image / 255)
    return mixed


def test_equals_pillow_chain_by_chain():
    """And no view depends on the batch: it is the same from one in another order."""
    images = np.tile(make_images(24, 24, 3), (5, 1, 1, 1))
    keys = prng.per_example(prng.key(3), jnp.arange(len(images)))
    run = jax.jit(augmix)
    mixed = run(keys, jnp.asarray(UNIT_INTERVAL[images]))
    drawing = jax.vmap(lambda key: draw(key, num_operations=len(NAMES), **OPTIONS))
    weights, calls = jax.device_get(jax.jit(drawing)(keys))
    for row, image in enumerate(images):
        own = [values[row] for values in calls]
        np.testing.assert_allclose(mixed[row], by_pillow(image, weights[row], own), atol=2e-6)
    changed = np.abs(mixed - images / 255).max(axis=(1, 2, 3)) > 0.02
    assert changed.mean() > 0.5
    order = np.random.default_rng(0).permutation(len(images))
    again = run(keys[order], jnp.asarray(UNIT_INTERVAL[images[order]]))
    np.testing.assert_array_equal(again, mixed[order])


def test_identity_operations_return_the_image_bit_for_bit(monkeypatch):
    """Also one that does not lie on 8 bits."""
    monkeypatch.setattr(module, "OPERATIONS", {"same": Operation(lambda image: image)})
    monkeypatch.setattr(module, "apply", lambda name, image, level, sign: image)
    images = prng.uniform(prng.key(0), (4, 5, 6, 2))
    mixed = jax.jit(lambda *batch: augmix(*batch))(prng.split(prng.key(1), 4), images)
    np.testing.assert_array_equal(mixed, images)


def test_any_size_and_number_of_channels():
    images = prng.uniform(prng.key(0), (6, 13, 9, 11))
    keys = prng.split(prng.key(1), 6)
    mixed = jax.jit(lambda *batch: augmix(*batch, depth=2, width=2, alpha=0.5))(keys, images)
    assert mixed.shape == images.shape
    assert mixed.dtype == jnp.float32
    assert mixed.min() >= 0
    assert mixed.max() <= 1
    assert np.abs(mixed - images).max() > 0.1
    with pytest.raises(ValueError, match="all_ops is True and an image has 11 channels"):
        augmix(keys, images, all_ops=True)


def test_draws_are_augmixs():
    """20,000 images of key 5; bounds are five standard errors."""
    keys = prng.split(prng.key(5), 20_000)
    drawing = jax.vmap(lambda key: draw(key, num_operations=9, **OPTIONS))
    weights, calls = jax.device_get(jax.jit(drawing)(keys))
    share = weights.sum(axis=1)  # uniform, as Beta(1, 1)
    np.testing.assert_allclose([share.mean(), share.var()], [1 / 2, 1 / 12], atol=0.0102)
    own = weights / share[:, None]  # Dirichlet(1, 1, 1)
    np.testing.assert_allclose(own.mean(axis=0), 1 / 3, atol=0.0084)
    np.testing.assert_allclose(own.var(axis=0), 1 / 18, atol=0.0025)
    depths = (calls.operation < 9).sum(axis=-1)
    np.testing.assert_allclose(
        np.bincount(depths.reshape(-1)) / 60_000, [0, *[1 / 3] * 3], atol=0.0097
    )
    counts = np.bincount(calls.operation.reshape(-1), minlength=10)
    np.testing.assert_allclose(counts / 180_000, [*[2 / 27] * 9, 1 / 3], atol=0.0056)
    assert calls.level.min() >= 0.1
    assert calls.level.max() <= 3.0
    np.testing.assert_allclose(calls.level.mean(), 1.55, atol=0.01)
    np.testing.assert_allclose(calls.sign.mean(), 0.0, atol=0.0118)
    assert set(np.unique(calls.sign)) == {-1.0, 1.0}
