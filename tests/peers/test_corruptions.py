"""rbjax's corruptions against what scikit-image, OpenCV and imagecorruptions made.

The fixture is written by `experiments.parity.corruptions_side`, in a Python of its own.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import corruptions, prng

KEPT = dict(np.load(Path(__file__).parent / "fixtures" / "corruptions.npz"))
IMAGES = KEPT["images"]
NUM_DRAWS = 100

# Mean and largest difference that is allowed, in levels of 255, at any severity.
TOLERANCES = {
    "brightness": (0.02, 1),
    "contrast": (0.02, 1),
    "saturate": (0.1, 1),  # through HSV a whole level may come out just below itself
    "gaussian_blur": (0.02, 1),
    "defocus_blur": (0.02, 1),
    "pixelate": (0, 0),
    "jpeg_compression": (0.2, 20),  # a frequency between two steps may go either way
    "zoom_blur": (0.02, 1),
}


def corrupt(name, severities, draws=1):
    """Our images of 8 bits: (severities, draws, images, H, W, C) levels."""
    made = [
        corruptions.create(name, severity=severity, profile="imagenet", quantize=True)
        for severity in severities
    ]
    keys = prng.per_example(jax.random.key(0), jnp.arange(draws * len(IMAGES)))
    images = jnp.tile(jnp.asarray(IMAGES / 255, jnp.float32), (draws, 1, 1, 1))
    run = jax.jit(lambda k, x: jnp.stack([jax.vmap(corruption)(k, x) for corruption in made]))
    levels = np.round(255 * np.asarray(run(keys, images)))
    return levels.reshape(len(made), draws, *IMAGES.shape)


@pytest.mark.parametrize("name", TOLERANCES)
def test_without_chance_the_images_agree(name):
    ours = corrupt(name, range(1, 6))[:, 0]
    mean, largest = TOLERANCES[name]
    difference = np.abs(ours - KEPT[name])
    assert difference.mean() <= mean
    assert difference.max() <= largest
    assert np.abs(ours - IMAGES).mean() > 5 * max(mean, 0.2)


@pytest.mark.parametrize(
    "name", ["gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "motion_blur"]
)
def test_with_chance_the_changes_are_alike(name):
    """Mean and size of the change, and the correlation of neighbours' changes."""
    change = corrupt(name, [3], NUM_DRAWS)[0] - IMAGES
    here, beside = change[..., :-1, :].ravel(), change[..., 1:, :].ravel()
    ours = (change.mean(), np.abs(change).mean(), np.corrcoef(here, beside)[0, 1])
    # imagecorruptions cuts the blur off where ImageMagick, and we, round: half a level darker.
    theirs = KEPT[name][:2] + ((0.5, 0) if name == "motion_blur" else (0, 0))
    # Standard errors of the means: 0.05 levels for noise of 50 in 900,000 values.
    np.testing.assert_allclose(ours[:2], theirs, atol=0.3)
    np.testing.assert_allclose(ours[2], KEPT[name][2], atol=0.02)
