"""Glass blur: pixels that change places with neighbours, one after the other, between two blurs."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from rbjax.corruptions import mnist_glass
from rbjax.corruptions.blur import blur
from rbjax.corruptions.change import truncate
from rbjax.corruptions.constants import Constants
from rbjax.typing import Array, Key, Perturbation


def shuffled(offsets: Array, *, max_shift: int) -> Array:
    """Returns where each pixel comes from after a pass of copies, last pixel first.

    Rows and columns run from H - s and W - s down to s + 1, s the largest shift; the pixel there
    becomes what its neighbour is by then. A neighbour further on has already been replaced, so a
    pixel's source is found by following neighbours until one that had not: all at once, each step
    doubling the distance.

    Args:
        offsets: (H, W, 2) integers in [-s, s - 1], rows and columns to the neighbour; those
            outside the rows and columns above are not used.
        max_shift: s, at least 1.

    Returns:
        (H W,) int32, indices into the flat image before the pass.
    """
    height, width, _ = offsets.shape
    row, column = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
    moves = (row > max_shift) & (row <= height - max_shift)
    moves &= (column > max_shift) & (column <= width - max_shift)
    here = row * width + column
    neighbour = here + offsets[..., 0] * width + offsets[..., 1]
    source = jnp.where(moves, neighbour, here).reshape(-1)
    goes_on = (source > here.reshape(-1)) & moves.reshape(-1)[source]

    def follow(state: tuple[Array, Array]) -> tuple[Array, Array]:
        source, goes_on = state
        return jnp.where(goes_on, source[source], source), goes_on & goes_on[source]

    source, _ = jax.lax.while_loop(lambda state: jnp.any(state[1]), follow, (source, goes_on))
    return source


@dataclasses.dataclass(frozen=True)
class _Glass:
    sigma: float
    max_shift: int
    num_passes: int

    def __call__(self, key: Key, image: Array) -> Array:
        height, width, channels = image.shape
        image = truncate(blur(image, self.sigma))
        for one_key in jax.random.split(key, self.num_passes):
            offsets = jax.random.randint(
                one_key, (height, width, 2), -self.max_shift, self.max_shift
            )
            source = shuffled(offsets, max_shift=self.max_shift)
            image = image.reshape(-1, channels)[source].reshape(image.shape)
        return blur(image, self.sigma)


def glass_blur(constants: Constants, *, profile: str) -> Perturbation:
    """Returns the corruption of a view through frosted glass: blur, cut to 8 bits, shuffle, blur.

    In a pass, from the last pixel to the first, each but those near the border takes the value of a
    neighbour, its offsets down and across uniform in -s to s - 1 (`shuffled`): what is written as
    a swap in the published code copies, because two views of one array exchange nothing. In the
    profile "mnist", whose images have two axes, it does swap: see `mnist_glass`.

    Args:
        constants: (sigma, s, number of passes).
        profile: one of `PROFILES`.

    Returns:
        (key, image (H, W, C)) -> image.
    """
    if profile == "mnist":
        return mnist_glass.glass_blur(constants, profile=profile)
    sigma, max_shift, num_passes = constants
    return _Glass(sigma, int(max_shift), int(num_passes))
