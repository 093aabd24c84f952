"""Replacing a few pixels of an image, P4's scheme, in every reading that the paper leaves open."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from rbjax import prng
from rbjax.options import Count, checked
from rbjax.typing import Array, Key

Values = Literal["uniform", "binary", "byte", "white", "inverted"]
"""A name in `VALUES`."""

VALUES: dict[Values, Callable[[Key, Array], Array]] = {
    "uniform": lambda key, old: prng.uniform(key, old.shape),
    "binary": lambda key, old: prng.bernoulli(key, shape=old.shape).astype(jnp.float32),
    "byte": lambda key, old: prng.randint(key, old.shape, 0, 256).astype(jnp.float32) / 255,
    "white": lambda key, old: jnp.ones_like(old),
    "inverted": lambda key, old: 1 - old,
}
"""The law of a new value, by name: (key, old values (k, C)) -> new values in [0, 1]."""


@dataclasses.dataclass(frozen=True)
class RandomPixels:
    """The perturbation that `random_pixels` returns; equal options make equal perturbations."""

    max_pixels: int | None
    exactly: bool
    replace: bool
    values: Values

    def __call__(self, key: Key, image: Array) -> Array:
        """Returns one image with some pixels replaced.

        Args:
            key: one key.
            image: (H, W, C) floating in [0, 1].

        Returns:
            The image, of the same shape and dtype, in [0, 1].

        Raises:
            ValueError: if the image has fewer than `max_pixels` pixels.
        """
        height, width, channels = image.shape
        num_pixels = height * width
        max_pixels = math.isqrt(num_pixels) if self.max_pixels is None else self.max_pixels
        if max_pixels > num_pixels:
            raise ValueError(f"max_pixels is {max_pixels}; an image has {num_pixels} pixels")
        count_key, position_key, value_key = prng.split(key, 3)
        count = jnp.asarray(max_pixels)
        if not self.exactly:
            count = prng.randint(count_key, (), 1, max_pixels + 1)
        choose = _positions_drawn if self.replace else _positions_distinct
        positions = choose(position_key, count, max_pixels, num_pixels)
        flat = jnp.asarray(image).reshape(num_pixels, channels)
        old = flat.at[positions].get(mode="clip")
        values = VALUES[self.values](value_key, old).astype(image.dtype)
        # A position of num_pixels is nowhere, and its value is dropped.
        flat = flat.at[positions].set(values, mode="drop", unique_indices=not self.replace)
        return flat.reshape(image.shape)


@checked
def random_pixels(
    *,
    max_pixels: Count | None = None,
    exactly: bool = False,
    replace: bool = False,
    values: Values = "uniform",
) -> RandomPixels:
    """Returns the perturbation that gives new values to a few random pixels.

    All channels of a chosen pixel are replaced. The number of pixels is uniform in 1 to
    `max_pixels`, or `max_pixels` exactly. P4 says no more than "randomly altering" at most 28
    pixels, which may mean: 1 to 28 different ones (the default); 28 positions drawn one by one,
    so that some may coincide (exactly, replace); 28 different ones (exactly).

    Args:
        max_pixels: k; None: the floor of the square root of the number of pixels (28 on MNIST).
        exactly: whether k pixels are drawn, rather than at most k.
        replace: whether a pixel may be drawn more than once (the first value counts); else the
            pixels are distinct.
        values: law of a new value: `"uniform"` in [0, 1), `"binary"` 0 or 1, `"byte"` one of 0/255
            to 255/255; or no law, `"white"` 1 and `"inverted"` 1 minus the old value.

    Returns:
        (key, image (H, W, C)) -> image of the same shape, in [0, 1].

    Raises:
        ValueError: for an option out of range.

    Source:
        Ilie, Popescu and Stefanescu 2020, "Robustness as Inherent Property of Datapoints", section
        2.3 (P4).
    """
    return RandomPixels(max_pixels, exactly, replace, values)


def _positions_drawn(key: Key, count: Array, max_pixels: int, num_pixels: int) -> Array:
    """Returns (max_pixels,) positions drawn with replacement; the first `count` are somewhere."""
    drawn = prng.randint(key, (max_pixels,), 0, num_pixels)
    number = jnp.arange(max_pixels)
    # Which of two equal positions a scatter keeps is left open on a GPU: keep the first here.
    repeated = jnp.any((drawn[:, None] == drawn[None, :]) & (number[:, None] > number), axis=1)
    return jnp.where((number < count) & ~repeated, drawn, num_pixels)


def _positions_distinct(key: Key, count: Array, max_pixels: int, num_pixels: int) -> Array:
    """Returns `count` distinct positions by Floyd's algorithm, and `max_pixels - count` nowhere.

    For j from num_pixels - count to num_pixels - 1: draw t in 0..j; take t, or j if t is taken.
    """
    tops = jnp.arange(num_pixels - max_pixels, num_pixels)
    drawn = prng.randint(key, (max_pixels,), 0, tops + 1)

    def take(number: Array, taken: Array) -> Array:
        top = tops[number]
        position = jnp.where(jnp.any(taken == drawn[number]), top, drawn[number])
        skipped = top < num_pixels - count
        # Nowhere differs from row to row: the indices of a scatter are to be unique.
        return taken.at[number].set(jnp.where(skipped, num_pixels + number, position))

    nowhere = num_pixels + jnp.arange(max_pixels)
    return jax.lax.fori_loop(0, max_pixels, take, nowhere)
