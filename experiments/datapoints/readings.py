"""The readings of P4's scheme: "altering a pixel count of at most the square root" of them."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rbjax import perturbations, prng
from rbjax.perturbations.pixels import VALUES, Values
from rbjax.typing import Array, Key, Perturbation


@dataclasses.dataclass(frozen=True)
class PermutedPixels:
    """Different random pixels take each other's values, in a random cycle of them.

    Their number is uniform in 2 to k or k exactly, k the floor of the square root of the pixel
    count. P4 speaks of "250 random permutations", which may mean this.
    """

    exactly: bool

    def __call__(self, key: Key, image: Array) -> Array:
        """Returns one image (H, W, C) with the same pixels, some in other places."""
        height, width, channels = image.shape
        most = math.isqrt(height * width)
        count_key, position_key = prng.split(key)
        count = jnp.asarray(most)
        if not self.exactly:
            count = prng.randint(count_key, (), 2, most + 1)
        # The places of the largest of as many numbers as pixels are distinct, in random order.
        _, positions = jax.lax.top_k(prng.uniform(position_key, (height * width,)), most)
        number = jnp.arange(most)
        following = positions[jnp.where(number == count - 1, 0, number + 1)]
        flat = image.reshape(height * width, channels)
        nowhere = height * width + number
        changed = jnp.where(number < count, positions, nowhere)
        flat = flat.at[changed].set(flat[following], mode="drop", unique_indices=True)
        return flat.reshape(image.shape)


class Reading(NamedTuple):
    """One way to read P4's scheme; k is the floor of the square root of the pixel count."""

    exactly: bool
    """k pixels, or a uniform number of them up to k."""
    replace: bool = False
    """Whether a pixel may be drawn twice."""
    values: Values | None = None
    """The law of a new value; None: the pixels change places."""

    @property
    def name(self) -> str:
        """A name for files and tables, such as exactly-distinct-uniform."""
        count = "exactly" if self.exactly else "at_most"
        if self.values is None:
            return f"{count}-permuted"
        return f"{count}-{'repeated' if self.replace else 'distinct'}-{self.values}"

    @property
    def title(self) -> str:
        """A name for people."""
        count = "exactly" if self.exactly else "at most"
        if self.values is None:
            return f"{count} k pixels change places"
        drawn = "drawn with replacement" if self.replace else "distinct"
        return f"{count} k pixels, {drawn}, {self.values} values"

    def perturbation(self) -> Perturbation:
        """Returns the scheme itself."""
        if self.values is None:
            return PermutedPixels(self.exactly)
        return perturbations.random_pixels(
            exactly=self.exactly, replace=self.replace, values=self.values
        )


READINGS = {
    reading.name: reading
    for reading in (
        *(
            Reading(exactly, replace, values)
            for exactly in (False, True)
            for replace in (False, True)
            for values in VALUES
        ),
        Reading(exactly=False),
        Reading(exactly=True),
    )
}
"""Every reading by name; the last two take P4's word "permutations" for it."""
