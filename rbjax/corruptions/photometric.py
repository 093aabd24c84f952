"""Brightness, contrast and saturation: changes of every pixel's colour."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from rbjax.corruptions.constants import Constants
from rbjax.typing import Array, Key, Perturbation


@dataclasses.dataclass(frozen=True)
class _Brightness:
    amount: float

    def __call__(self, key: Key, image: Array) -> Array:
        del key
        value = jnp.max(image, axis=-1, keepdims=True)
        brighter = jnp.minimum(value + self.amount, 1.0)
        black = value == 0
        return jnp.where(black, brighter, image * (brighter / jnp.where(black, 1.0, value)))


@dataclasses.dataclass(frozen=True)
class _Contrast:
    factor: float

    def __call__(self, key: Key, image: Array) -> Array:
        del key
        mean = jnp.mean(image, axis=(0, 1), keepdims=True)
        return mean + self.factor * (image - mean)


@dataclasses.dataclass(frozen=True)
class _Saturate:
    factor: float
    amount: float

    def __call__(self, key: Key, image: Array) -> Array:
        del key
        value = jnp.max(image, axis=-1, keepdims=True)
        depth = value - jnp.min(image, axis=-1, keepdims=True)
        grey = depth == 0
        saturation = depth / jnp.where(value == 0, 1.0, value)
        changed = jnp.clip(saturation * self.factor + self.amount, 0.0, 1.0)
        coloured = value - (value - image) * (changed / jnp.where(grey, 1.0, saturation))
        if image.shape[-1] == 3:
            # A grey pixel's hue is 0, which is red.
            reddish = jnp.concatenate([value] + [value * (1 - changed)] * 2, axis=-1)
            return jnp.where(grey, reddish, coloured)
        return jnp.where(grey, image, coloured)


def brightness(constants: Constants, *, profile: str) -> Perturbation:
    """Returns the corruption that raises the V of every pixel's HSV.

    image V' / V, V the largest channel, V' = min(V + c, 1); a black pixel becomes grey, c. Of one
    channel it is min(image + c, 1); of n, V is the largest of the n.

    Args:
        constants: (c,) in pixel units.
        profile: one of `PROFILES`; all do the same.

    Returns:
        (key, image (H, W, C)) -> image.
    """
    del profile
    return _Brightness(*constants)


def contrast(constants: Constants, *, profile: str) -> Perturbation:
    """Returns the corruption `mean + c (image - mean)`, the mean each channel's own.

    Args:
        constants: (c,), a factor.
        profile: one of `PROFILES`; all do the same.

    Returns:
        (key, image (H, W, C)) -> image.
    """
    del profile
    return _Contrast(*constants)


def saturate(constants: Constants, *, profile: str) -> Perturbation:
    """Returns the corruption that changes the S of every pixel's HSV.

    V - (V - image) S' / S, V the largest channel, S = 1 - smallest / V, S' = clip(a S + b, 0, 1).
    A grey pixel of three channels turns reddish if b > 0, as in HSV its hue is 0; of any other
    number of channels it stays grey, and so an image of one channel stays as it is.

    Args:
        constants: (a, b), a factor and what is added.
        profile: one of `PROFILES`; all do the same.

    Returns:
        (key, image (H, W, C)) -> image.
    """
    del profile
    return _Saturate(*constants)
