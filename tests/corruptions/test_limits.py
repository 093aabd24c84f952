"""Where a corruption's constants say that nothing happens, nothing does, on any image."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np

from rbjax import corruptions
from rbjax.corruptions import table

NOTHING = {
    "gaussian_noise": (0,),
    "impulse_noise": (0,),
    "speckle_noise": (0,),
    "defocus_blur": (0.3, 0.05),
    "glass_blur": (0.05, 1, 0),
    "motion_blur": (0, 1),
    "zoom_blur": (1.005, 0.01),
    "gaussian_blur": (0.1,),
    "snow": (0, 0, 1, 0.5, 2, 1, 1),
    "frost": (1, 0, 0.2),
    "fog": (0, 3, 32),
    "spatter": (0.62, 0.1, 0.7, 0.7, 0, 0),
    "brightness": (0,),
    "contrast": (1,),
    "saturate": (1, 0),
    "elastic_transform": (0, 0, 0),
    "pixelate": (1,),
    "shear": (0,),
    "scale": (1,),
    "rotate": (0,),
    "translate": (0,),
}
NEARLY = {"shot_noise": (10_000,), "jpeg_compression": (100,)}
"""Poisson numbers, and colour at half the resolution, still change a little."""

WITHOUT = {"stripe", "dotted_line", "zigzag", "canny_edges"}
"""Those without constants."""


@jax.jit
def corrupted(key, image):
    return {
        name: corruptions.CORRUPTIONS[name](key, image, **table.bind(name, constants, "cifar"))
        for name, constants in (NOTHING | NEARLY).items()
    }


def test_every_corruption_with_constants_has_a_limit():
    assert {*NOTHING, *NEARLY} == {*corruptions.CORRUPTIONS} - WITHOUT


@hypothesis.settings(deadline=None, max_examples=15, database=None)
@hypothesis.given(seed=st.integers(0, 2**31 - 1), levels=st.sampled_from([1, 2, 4, 256]))
def test_nothing_happens(seed, levels):
    """Of 8 bits: few levels make many grey, black and white pixels; one is all black."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, levels, (16, 12, 1)) * np.ones((16, 12, 3))
    image[8:] = rng.integers(0, levels, (8, 12, 3))
    image /= max(levels - 1, 1)
    found = corrupted(jax.random.key(seed), jnp.asarray(image, jnp.float32))
    for name in NOTHING:
        np.testing.assert_allclose(found[name], image, atol=2e-5, err_msg=name)
    change = {name: np.abs(found[name] - image) for name in NEARLY}
    assert change["shot_noise"].mean() < 0.01
    assert change["jpeg_compression"][:6].mean() < 0.01  # where the image is grey
