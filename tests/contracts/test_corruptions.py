"""What every entry of `CORRUPTIONS` must do in every profile, and that a wrong one does not pass.

A corruption is tested by being listed. Severities that differ in numbers alone are one program; the
checks read its results, and are functions, so that mutants can be fed to them at the end.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.datasets

from rbjax import corruptions, prng
from rbjax.variants import variants

KEYS = prng.per_example(jax.random.key(0), jnp.arange(16))

UNCHANGING = (
    "defocus_blur",
    "zoom_blur",
    "gaussian_blur",
    "brightness",
    "contrast",
    "saturate",
    "pixelate",
    "jpeg_compression",
    "scale",
    "stripe",
    "canny_edges",
)
"""Those that draw nothing."""

NOT_MONOTONE = {
    ("cifar", "glass_blur"): (11.08, 11.13, 10.96, 17.90, 17.12),
    ("cifar", "elastic_transform"): (22.12, 20.21, 18.12, 16.59, 13.71),
    ("cifar", "saturate"): (12.31, 15.83, 8.41, 21.19, 29.96),
    ("cifar", "frost"): (32.70, 48.29, 53.15, 47.94, 45.65),
    ("cifar", "spatter"): (1.15, 2.92, 6.87, 3.17, 5.14),
    ("tiny_imagenet", "glass_blur"): (11.08, 11.23, 16.29, 15.39, 19.65),
    ("tiny_imagenet", "elastic_transform"): (22.12, 18.35, 18.11, 13.71, 15.35),
    ("tiny_imagenet", "spatter"): (1.35, 3.43, 8.10, 5.96, 7.89),
    ("tiny_imagenet", "saturate"): (12.31, 15.83, 15.54, 35.84, 47.61),
    ("imagenet", "glass_blur"): (16.38, 16.11, 22.33, 21.00, 22.52),
    ("imagenet", "frost"): (63.13, 72.89, 77.89, 73.63, 76.37),
    ("imagenet", "elastic_transform"): (28.01, 39.22, 16.40, 20.03, 26.76),
    ("imagenet", "saturate"): (12.31, 15.83, 15.54, 35.84, 46.85),
}
"""Where a constant of more severity changes images less, as published: the mean change in levels of
255, of 32 CIFAR-10 test images. Saturation falls first and rises then; elastic transforms trade a
shaky frame for small waves; glass, frost and spatter trade one constant for another."""

OF_IMAGES = {
    ("tiny_imagenet", "frost"): (48.23, 53.08, 50.45, 53.16, 55.96),
    ("imagenet", "spatter"): (3.96, 8.23, 9.76, 9.60, 15.11),
}
"""Where it falls on those images and rises on the photographs here."""


@functools.cache
def make_images(profile):
    """16 real photographs of 32 x 32: tiles of scikit-learn's two; MNIST's are grey."""
    tiles = []
    for name in ("china.jpg", "flower.jpg"):
        photograph = sklearn.datasets.load_sample_image(name)[:256, :512] / 255
        small = photograph.reshape(64, 4, 128, 4, 3).mean((1, 3))
        tiles.append(small.reshape(2, 32, 4, 32, 3).swapaxes(1, 2).reshape(8, 32, 32, 3))
    images = jnp.asarray(np.concatenate(tiles), jnp.float32)
    return images[:, 2:-2, 2:-2, 1:2] if profile == "mnist" else images


@functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
def corrupt(corruption, keys, images):  # it compiles in half the time
    return jax.vmap(corruption)(keys, images)


class Corrupted(NamedTuple):
    """A corruption at all its severities, as the checks ask for it."""

    run: Callable[..., np.ndarray]
    """(keys, images) -> (severities, B, H, W, C)"""
    images: jax.Array
    plain: np.ndarray
    """What it makes of them with `KEYS`."""


def corrupted(made, images):
    """Returns what the checks read, of functions that `variants` traced."""

    def run(keys, images):
        return np.stack([corrupt(one.bind(list(one.traces)), keys, images) for one in made])

    return Corrupted(run, images, run(KEYS, images))


def check_range(made, _):
    """Shape and dtype are kept, values are finite and in [0, 1], and something changes."""
    assert made.plain.shape[1:] == made.images.shape
    assert made.plain.dtype == made.images.dtype
    assert np.all((made.plain >= 0) & (made.plain <= 1))  # not of NaN either
    images = np.asarray(made.images)
    assert all(np.any(one != images) for one in made.plain)


def check_black_and_white(made, _):
    """Nothing is divided by an image's range or largest value."""
    plain = jnp.zeros_like(made.images).at[: len(made.images) // 2].set(1.0)
    extreme = made.run(KEYS, plain)
    assert np.all((extreme >= 0) & (extreme <= 1))


def check_random(made, name):
    """Another key gives another image, or no key changes anything; a row's place never does."""
    first = jnp.broadcast_to(made.images[:1], made.images.shape)
    drawn = made.run(KEYS, first).reshape(-1, 16, made.images[0].size)
    different = [len(np.unique(one, axis=0)) for one in drawn]
    if name in UNCHANGING:
        assert set(different) == {1}
    else:
        # Some have few outcomes: two signs of a shear, four of a shift, the paths of a short blur.
        few = {"shear": 2, "rotate": 2, "translate": 2, "motion_blur": 6}
        assert min(different) >= few.get(name, 12)
    turned = made.run(KEYS[::-1], made.images[::-1])[:, ::-1]
    np.testing.assert_allclose(turned, made.plain, atol=1e-6)


def check_monotone(made, _, *, falls=False):
    """A higher severity changes images more, to 1%; where it is known not to, it does not."""
    change = np.abs(made.plain - np.asarray(made.images)).mean((1, 2, 3, 4))
    assert change[0] != change[-1]  # they are not all the first one
    assert np.any(change[1:] < 0.99 * change[:-1]) == falls


def of_all_severities(name, profile):
    return [
        corruptions.create(name, severity=severity, profile=profile)
        for severity in corruptions.severities(name, profile)
    ]


def entries():
    """Yields each corruption in each profile."""
    for name in corruptions.CORRUPTIONS:
        for profile in corruptions.PROFILES:
            # The others are CIFAR's code with other constants.
            marks = () if profile in ("cifar", "mnist") else (pytest.mark.full_size,)
            if name in corruptions.names(profile):
                yield pytest.param(profile, name, marks=marks)


@pytest.mark.parametrize(("profile", "name"), list(entries()))
def test_contract(profile, name):
    functions, again = of_all_severities(name, profile), of_all_severities(name, profile)
    assert functions == again  # so that a compiled program of one serves the other
    assert [hash(one) for one in functions] == [hash(one) for one in again]
    assert len(set(functions)) == len(functions)
    images = make_images(profile)
    made = corrupted(variants(functions, KEYS[0], images[0]), images)
    for check in (check_range, check_black_and_white, check_random):
        check(made, name)
    if len(functions) > 1:
        if (profile, name) in OF_IMAGES:
            made = made._replace(plain=made.plain[[0, -1]])
        check_monotone(made, name, falls=(profile, name) in NOT_MONOTONE)


@pytest.mark.parametrize("name", corruptions.CORRUPTIONS)
def test_any_shape_and_dtype(name):
    """Shapes and dtypes of traced code: other sides, 1 and 5 channels, halves."""
    profile = "cifar" if name in corruptions.CONSTANTS["cifar"] else "mnist"
    corrupt = corruptions.create(name, profile=profile, quantize=True)
    for shape, dtype in (((8, 8, 1), jnp.float32), ((33, 9, 5), jnp.bfloat16)):
        image = jax.ShapeDtypeStruct(shape, dtype)
        made = jax.eval_shape(corrupt, KEYS[0], image)
        assert (made.shape, made.dtype) == (shape, dtype)


@pytest.mark.parametrize("name", ["contrast", "pixelate", "glass_blur"])
def test_alone_is_as_in_a_batch(name):
    images = make_images("cifar")
    corrupt = corruptions.create(name, severity=5)
    batch = jax.jit(jax.vmap(corrupt))(KEYS, images)
    alone = jax.jit(corrupt)(KEYS[3], images[3])
    np.testing.assert_allclose(alone, batch[3], atol=1e-5)


@hypothesis.settings(deadline=None, max_examples=8, database=None)
@hypothesis.given(
    name=st.sampled_from(["brightness", "contrast", "saturate", "gaussian_blur", "pixelate"]),
    height=st.integers(8, 20),
    width=st.integers(8, 20),
    channels=st.integers(1, 4),
    seed=st.integers(0, 2**31 - 1),
    levels=st.sampled_from([2, 3, 256]),
)
def test_any_image(name, height, width, channels, seed, levels):
    """Few levels make many grey, black and white pixels; what is cut to 8 bits stays there."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, levels, (height, width, channels)) / (levels - 1)
    corrupt = corruptions.create(name, severity=5, profile="imagenet", quantize=True)
    made = np.asarray(jax.jit(corrupt)(KEYS[0], jnp.asarray(image, jnp.float32)))
    assert made.shape == image.shape
    assert np.all((made >= 0) & (made <= 1))
    np.testing.assert_allclose(255 * made, np.round(255 * made), atol=1e-4)


def noise(key, image, amount=0.1):
    return image + amount * jax.random.normal(key, image.shape)


MUTANTS = {
    "identity": ([lambda key, image: image], check_range),
    "unclipped": ([noise], check_range),
    "half": ([lambda key, image: image.astype(jnp.float16) / 2], check_range),
    "stretched": (
        [lambda key, image: (image - image.min()) / (image.max() - image.min())],
        check_black_and_white,
    ),
    "one key": ([lambda key, image: noise(jax.random.key(0), image)], check_random),
    "draws when it should not": (
        [noise],
        lambda made, _: check_random(made, "contrast"),
    ),
    "falls": (
        [noise, functools.partial(noise, amount=0.05)],
        check_monotone,
    ),
    "rises where it is said to fall": (
        [noise, functools.partial(noise, amount=0.2)],
        functools.partial(check_monotone, falls=True),
    ),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_wrong_corruption_fails(mutant):
    changes, check = MUTANTS[mutant]
    images = make_images("cifar")
    made = corrupted(variants(changes, KEYS[0], images[0]), images)
    with pytest.raises(AssertionError):
        check(made, "gaussian_noise")
