"""MNIST-C's glass blur: on a grey image the published loop swaps pixels, one after the other.

On a colour image the same lines of code copy: see `rbjax.corruptions.glass`. MNIST-C's loop also
leaves every pixel alone half of the time.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from rbjax.corruptions import separable
from rbjax.corruptions.change import truncate
from rbjax.corruptions.constants import Constants
from rbjax.typing import Array, Key, Perturbation


def shuffled(key: Key, shape: tuple[int, int], *, reach: int, num_passes: int) -> Array:
    """Returns which pixel each place holds after swaps with random neighbours.

    For rows from H - reach down to reach + 1 and columns from W - reach down to reach + 1: with
    probability 1/2 the pixel changes places with the one -reach to reach - 1 rows and columns away.

    Args:
        key: one key.
        shape: (H, W).
        reach: how far, at least 1.
        num_passes: how often all of it, at least 1.

    Returns:
        (H, W) int32, a permutation of 0 to H W - 1.
    """
    height, width = shape
    rows = np.arange(height - reach, reach, -1)
    columns = np.arange(width - reach, reach, -1)
    one_pass = (rows[:, None] * width + columns).ravel().astype(np.int32)
    places = jnp.asarray(np.tile(one_pass, num_passes))
    coin_key, move_key = jax.random.split(key)
    moves = jax.random.randint(move_key, (2, len(places)), -reach, reach)
    away = moves[0] * width + moves[1]
    others = places + jnp.where(jax.random.bernoulli(coin_key, shape=away.shape), away, 0)

    def swap(held: Array, pair: tuple[Array, Array]) -> tuple[Array, None]:
        place, other = pair
        here, there = held[place], held[other]
        return held.at[place].set(there).at[other].set(here), None

    start = jnp.arange(height * width, dtype=jnp.int32)
    held, _ = jax.lax.scan(swap, start, (places, others), unroll=8)
    return held.reshape(shape)


@dataclasses.dataclass(frozen=True)
class _GlassBlur:
    sigma: float
    reach: int
    num_passes: int

    def __call__(self, key: Key, image: Array) -> Array:
        height, width, channels = image.shape
        down, along = separable.gaussian(height, self.sigma), np.eye(width)

        def blurred(image: Array) -> Array:
            return separable.apply(image, down, along)

        held = shuffled(key, (height, width), reach=self.reach, num_passes=self.num_passes)
        pixels = truncate(blurred(image)).reshape(-1, channels)
        return blurred(jnp.take(pixels, held, axis=0, mode="clip"))


def glass_blur(constants: Constants, *, profile: str) -> Perturbation:
    """Returns the corruption that blurs, shuffles pixels and blurs again, as MNIST-C does it.

    See `shuffled`. The blur is down the columns only: the published code declares its grey image
    to be one of channels, and so nothing is blurred along its rows. Between the steps the image is
    cut to 8 bits.

    Args:
        constants: (sigma, reach, passes): of the Gaussian blur, and of the shuffling.
        profile: "mnist".

    Returns:
        (key, image (H, W, C)) -> image.

    Source:
        Mu and Gilmer 2019, arXiv 1906.02337.
    """
    del profile
    sigma, reach, passes = constants
    return _GlassBlur(sigma, int(reach), int(passes))
