"""The parallel shuffle against the loop that it stands for."""

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from rbjax import corruptions
from rbjax.corruptions import glass

shuffled = jax.jit(glass.shuffled, static_argnames="max_shift")


def loop(image, offsets, max_shift):
    """The published loop: on an array of colours its swap copies, as both sides are views."""
    image = image.copy()
    height, width = image.shape[:2]
    for h in range(height - max_shift, max_shift, -1):
        for w in range(width - max_shift, max_shift, -1):
            h2, w2 = (h, w) + offsets[h, w]
            image[h, w], image[h2, w2] = image[h2, w2], image[h, w]
    return image


@pytest.mark.parametrize("max_shift", [1, 2, 3, 4])
@hypothesis.settings(deadline=None, max_examples=15, database=None)
@hypothesis.given(seed=st.integers(0, 2**32 - 1), leaning=st.booleans())
def test_shuffle_is_the_loop(max_shift, seed, leaning):
    rng = np.random.default_rng(seed)
    # Leaning to later pixels makes long chains of copies of copies.
    low = 0 if leaning and max_shift > 1 else -max_shift
    offsets = rng.integers(low, max_shift, (13, 12, 2))
    image = rng.integers(0, 256, (13, 12, 3), dtype=np.uint8)
    source = np.asarray(shuffled(jnp.asarray(offsets), max_shift=max_shift))
    ours = image.reshape(-1, 3)[source].reshape(image.shape)
    np.testing.assert_array_equal(ours, loop(image, offsets, max_shift))


@pytest.mark.parametrize(("profile", "severity"), [("cifar", 5), ("imagenet", 4)])
def test_glass_blur_is_the_published_code(profile, severity):
    sigma, max_shift, passes = corruptions.CONSTANTS[profile]["glass_blur"][severity - 1]
    image = np.random.default_rng(0).integers(0, 256, (16, 18, 3)) / 255
    key = jax.random.key(3)
    corruption = corruptions.create("glass_blur", severity=severity, profile=profile)
    ours = corruption(key, jnp.asarray(image, jnp.float32))
    blur = functools.partial(scipy.ndimage.gaussian_filter, sigma=(sigma, sigma, 0), mode="nearest")
    theirs = np.uint8(blur(image) * 255)
    for one_key in jax.random.split(key, passes):
        offsets = jax.random.randint(one_key, (16, 18, 2), -max_shift, max_shift)
        theirs = loop(theirs, np.asarray(offsets), max_shift)
    np.testing.assert_allclose(ours, blur(theirs / 255), atol=1e-6)
