"""Noise2Net: a random network for each image, which is never trained."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from rbjax import prng
from rbjax.typing import Array, Key

NUM_BLOCKS = 4
GROUPS = 4
"""Groups of channels inside a block; the last is passed on as it is."""
WIDTH = 16
"""Channels a group."""
DILATIONS = (1, 2, 3)


def noise2net(key: Key, image: Array, *, mean: Array, std: Array, epsilon: Array | float) -> Array:
    """Returns an image through four random residual blocks, `z <- z + epsilon block(z)`.

    A block: a 1x1 convolution to 64 channels in four groups; the first three, each added to what
    the one before gave, through a convolution of 1x1 or 3x3 and a dilation of 1 to 3, the fourth as
    it is; a 1x1 convolution back.  After each convolution every channel has mean 0 and variance 1
    over the image, and after each but the last is rectified.  Biases would cancel, and are left
    out, as are the scales and shifts, which are 1 and 0: the published network has 278 a block.

    Args:
        key: one key; it draws the weights, and of each convolution size and dilation (in the
            authors' code an epoch's images share these two, and a batch's images epsilon).
        image: (H, W, C) in [0, 1].
        mean: (C,), of the dataset: z is `(image - mean) / std`.
        std: (C,).
        epsilon: size; 0 leaves the image as it is.

    Returns:
        (H, W, C), which may leave [0, 1].

    Source:
        Hendrycks et al. 2021, arXiv:2006.16241, appendix; hendrycks/imagenet-r,
        DeepAugment/train_noise2net.py (commit 3131cac).
    """
    normalized = (image - mean) / std

    def block(moved: Array, key: Key) -> tuple[Array, None]:
        return moved + epsilon * _block(init(key, image.shape[-1]), normalized + moved), None

    moved, _ = jax.lax.scan(block, jnp.zeros_like(image), prng.split(key, NUM_BLOCKS))
    return image + std * moved


def init(key: Key, channels: int) -> dict[str, Array]:
    """Returns a block's random weights, U(-1 / sqrt(fan_in), 1 / sqrt(fan_in)).

    Args:
        key: one key.
        channels: of the image.

    Returns:
        "expand" (C, 64), "taps" (3, 9, 16, 16), of which for a size of 1x1 the middle ones alone
        are not 0, "dilations" (3,) and "project" (64, C).
    """
    expand, size, dilation, taps, project = prng.split(key, 5)
    convolved, inside = GROUPS - 1, GROUPS * WIDTH

    def uniform(key: Key, shape: tuple[int, ...], fan_in: int) -> Array:
        return prng.uniform(key, shape, minval=-1.0, maxval=1.0) / jnp.sqrt(float(fan_in))

    is_small = prng.bernoulli(size, shape=(convolved, 1, 1, 1))
    drawn = uniform(taps, (convolved, 9, WIDTH, WIDTH), 9 * WIDTH)
    middle = (jnp.arange(9) == 4)[:, None, None]
    return {
        "expand": uniform(expand, (channels, inside), channels),
        "taps": jnp.where(is_small, 3 * drawn * middle, drawn),
        "dilations": prng.randint(dilation, (convolved,), 1, len(DILATIONS) + 1),
        "project": uniform(project, (inside, channels), inside),
    }


def _block(weights: dict[str, Array], x: Array) -> Array:
    """Returns what a block adds to (H, W, C)."""
    groups = jnp.split(jax.nn.relu(_standardize(x @ weights["expand"])), GROUPS, axis=-1)

    def convolved(before: Array, part: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        group, taps, dilation = part
        y = jnp.einsum("hwti,tio->hwo", _neighbours(before + group, dilation), taps)
        y = jax.nn.relu(_standardize(y))
        return y, y

    parts = (jnp.stack(groups[:-1]), weights["taps"], weights["dilations"])
    _, done = jax.lax.scan(convolved, jnp.zeros_like(groups[0]), parts)
    return _standardize(jnp.concatenate([*done, groups[-1]], axis=-1) @ weights["project"])


def _neighbours(x: Array, dilation: Array) -> Array:
    """Returns the nine neighbours of each place, (H, W, 9, F); outside the image is 0."""
    height, width, _ = x.shape

    def at(d: int) -> Array:
        padded = jnp.pad(x, ((d, d), (d, d), (0, 0)))
        steps = [(row, column) for row in (0, d, 2 * d) for column in (0, d, 2 * d)]
        return jnp.stack([padded[r : r + height, c : c + width] for r, c in steps], axis=2)

    return jax.lax.switch(dilation - 1, [lambda d=d: at(d) for d in DILATIONS])


def _standardize(x: Array) -> Array:
    """Returns channels of mean 0 and variance 1 over the image."""
    mean, variance = jnp.mean(x, axis=(0, 1)), jnp.var(x, axis=(0, 1))
    return (x - mean) / jnp.sqrt(variance + 1e-5)
