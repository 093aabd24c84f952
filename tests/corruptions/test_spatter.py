"""Spatter: the masks that OpenCV's steps give on the same noise, and what is put on the image."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import corruptions
from rbjax.corruptions import spatter

FIXTURES = Path(__file__).parents[1] / "peers" / "fixtures"
KEY = jax.random.key(3)
IMAGE = np.random.default_rng(0).random((24, 28, 3), np.float32)


@pytest.fixture(scope="module")
def kept():
    with np.load(FIXTURES / "spatter.npz") as file:
        return dict(file)


water = jax.jit(jax.vmap(lambda liquid, strength: spatter.water_mask(liquid, strength=strength)))


def masks(noise, constants):
    mean, std, sigma, threshold, strength, is_mud = constants

    def drops(noise):
        return spatter.drops(noise, mean=mean, std=std, sigma=sigma, threshold=threshold)

    liquid = jax.vmap(drops)(noise)
    if not is_mud:
        return water(liquid, jnp.full(len(liquid), strength))
    return jax.vmap(lambda x: spatter.mud_mask(x, threshold=threshold, sigma=strength))(liquid)


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("profile", ["cifar", "imagenet"])
def test_masks_are_opencv(kept, profile, severity):
    name = f"{profile} {severity}"
    constants = corruptions.CONSTANTS[profile]["spatter"][severity - 1]
    ours = masks(kept[f"{name} noise"].astype(np.float32), constants)
    np.testing.assert_allclose(ours, kept[f"{name} mask"], atol=1e-5)
    assert kept[f"{name} mask"].max() > 0


def test_water_is_added_in_turquoise(monkeypatch):
    mask = np.random.default_rng(1).random((24, 28)).astype(np.float32)
    monkeypatch.setattr(spatter, "water_mask", lambda liquid, *, strength: strength * mask)
    corruption = corruptions.create("spatter", severity=3, profile="tiny_imagenet")
    for channels, colour in ((3, [175, 238, 238]), (1, 0.2125 * 175 + 0.7875 * 238)):
        image = jnp.asarray(IMAGE[..., :channels])
        expected = image + 0.6 * mask[..., None] * np.array(colour) / 255
        np.testing.assert_allclose(corruption(KEY, image), expected.clip(0, 1), atol=1e-5)


def test_mud_covers_in_brown():
    constants = corruptions.CONSTANTS["cifar"]["spatter"][4]
    mask = np.asarray(masks(jax.random.normal(KEY, (1, 24, 28)), constants))[0][..., None]
    expected = (1 - mask) * IMAGE + mask * np.array([63, 42, 20]) / 255
    corruption = corruptions.create("spatter", severity=5)
    np.testing.assert_allclose(corruption(KEY, jnp.asarray(IMAGE)), expected, atol=1e-5)
    assert 0.05 < np.mean(mask > 0) < 0.6


def test_mnist_has_mud_at_every_severity():
    black = jnp.zeros((28, 28, 1))
    for severity in (3, 4):
        corruption = corruptions.create("spatter", severity=severity, profile="mnist")
        muddy = np.asarray(jax.jit(corruption)(KEY, black))
        assert 0 < np.max(muddy) <= 63 / 255 + 1e-6


def test_without_water_nothing_changes():
    """The published code divides 0 by 0 there."""
    assert not np.asarray(water(jnp.zeros((3, 24, 28)), jnp.ones(3))).any()
