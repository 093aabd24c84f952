"""Corruptions by name: what is allowed, defaults and 8 bits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import corruptions
from rbjax.inputs import truncate

WRONG = [
    ({"name": "gausian_noise"}, "did you mean 'gaussian_noise'"),
    ({"name": "contrast", "severity": 0}, "severity of contrast is 0"),
    ({"name": "contrast", "severity": 6}, "at most 5"),
    ({"name": "contrast", "severity": 2.5}, "whole number"),
    ({"name": "contrast", "profile": "cifar10"}, "did you mean 'cifar'"),
    ({"name": "contrast", "thickness": 1}, "no option 'thickness'"),
    ({"name": "stripe"}, "it is in: mnist"),
    ({"name": "stripe", "profile": "mnist", "severity": 2}, "at most 1"),
    ({"name": "saturate", "profile": "mnist"}, "it is in: cifar, tiny_imagenet, imagenet"),
]


@pytest.mark.parametrize(("given", "message"), WRONG)
def test_wrong_arguments_are_named(given, message):
    with pytest.raises(ValueError, match=message) as error:
        corruptions.create(**given)
    assert "\n" not in str(error.value)


def test_a_small_image_is_refused():
    with pytest.raises(ValueError, match="at least 8"):
        corruptions.create("contrast")(jax.random.key(0), jnp.zeros((7, 9, 3)))


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.int32, jnp.bool_])
def test_levels_are_refused(dtype):
    with pytest.raises(ValueError, match="needs floating values"):
        corruptions.create("contrast")(jax.random.key(0), jnp.ones((8, 8, 3), dtype))


def test_names_and_severities():
    assert len(corruptions.COMMON) == len(corruptions.MNIST_C) == 15
    for profile in corruptions.PROFILES:
        published = corruptions.names(profile)
        assert len(published) == (15 if profile == "mnist" else 19)
        for name in published:
            severities = corruptions.severities(name, profile)
            assert len(severities) == (1 if profile == "mnist" else 5)
            default = corruptions.create(name, profile=profile)
            assert default == corruptions.create(
                name, profile=profile, severity=severities[len(severities) // 2]
            )
    assert corruptions.severities("shot_noise", "mnist") == (5,)
    assert set(corruptions.CORRUPTIONS) == set().union(*corruptions.CONSTANTS.values())


@pytest.mark.parametrize(
    ("alias", "name"), [("frosted_glass_blur", "glass_blur"), ("elastic", "elastic_transform")]
)
def test_names_of_tfds(alias, name):
    assert corruptions.create(alias, severity=2) == corruptions.create(name, severity=2)


def test_eight_bits_are_cut_not_rounded():
    levels = np.arange(256)
    for slightly in (-3e-7, 0, 3e-7):  # what float32 arithmetic adds to a level
        kept = truncate(jnp.asarray(levels / 255 * (1 + slightly), jnp.float32))
        np.testing.assert_array_equal(np.round(255 * np.asarray(kept)), levels)
    cut = truncate(jnp.asarray((levels[:-1] + 0.99) / 255, jnp.float32))
    np.testing.assert_array_equal(np.round(255 * np.asarray(cut)), levels[:-1])


def test_quantized_results_are_the_others_cut():
    image = jax.random.uniform(jax.random.key(1), (9, 9, 3))
    exact, cut = (
        np.asarray(corruptions.create("contrast", quantize=q)(jax.random.key(0), image))
        for q in (False, True)
    )
    np.testing.assert_allclose(cut, np.floor(255 * exact) / 255, atol=1e-6)
    assert np.any(cut != exact)
