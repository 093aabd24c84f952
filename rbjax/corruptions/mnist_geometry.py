"""MNIST-C's changes of shape: an affine map about the image's centre, black outside."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from rbjax.corruptions.constants import Constants
from rbjax.geometry import read_at
from rbjax.typing import Array, Key, Perturbation

Matrix = tuple[tuple[float, float], tuple[float, float]]


def warp(image: Array, matrix: Array) -> Array:
    """Returns the image read at `matrix (x, y)`, both from the centre, bilinear.

    Outside the image is black, and a place between the last pixel and the outside is a mix of both.

    Args:
        image: (H, W, C), floating.
        matrix: (2, 2), from the (x, y) of the result to that of the image.

    Returns:
        (H, W, C).
    """
    height, width, _ = image.shape
    centre = np.array([(width - 1) / 2, (height - 1) / 2], np.float32)
    x, y = np.meshgrid(np.arange(width) - centre[0], np.arange(height) - centre[1])
    places = np.stack([x, y], -1).astype(np.float32)
    exact = jax.lax.Precision.HIGHEST
    source = jnp.matmul(places, matrix.T, precision=exact) + centre
    return read_at(image, source[..., 1], source[..., 0])


@dataclasses.dataclass(frozen=True)
class _Affine:
    """One of some maps, each as likely as any other."""

    matrices: tuple[Matrix, ...]

    def __call__(self, key: Key, image: Array) -> Array:
        choice = jax.random.randint(key, (), 0, len(self.matrices))
        matrix = jnp.asarray(self.matrices, jnp.float32)[choice]
        return warp(image, matrix)


@dataclasses.dataclass(frozen=True)
class _Translate:
    pixels: int

    def __call__(self, key: Key, image: Array) -> Array:
        height, width, _ = image.shape
        n = self.pixels
        padded = jnp.pad(image, ((n, n), (n, n), (0, 0)))
        right, down = 2 * n * jax.random.bernoulli(key, shape=(2,)).astype(jnp.int32)
        return jax.lax.dynamic_slice(padded, (down, right, 0), (height, width, image.shape[-1]))


def shear(constants: Constants, *, profile: str) -> Perturbation:
    """Returns the corruption that shears the image to the left or to the right.

    A pixel (x, y) of the result is the image's (x - sin(a) y, cos(a) y), from the centre: a shear
    that also stretches, as the library that MNIST-C was made with defined it.

    Args:
        constants: (angle,) in radians; a is it or its negative, half the time each.
        profile: one of `PROFILES`; all do the same.

    Returns:
        (key, image (H, W, C)) -> image.

    Source:
        Mu and Gilmer 2019, arXiv 1906.02337.
    """
    del profile
    (angle,) = constants
    left, right = (((1.0, -math.sin(a)), (0.0, math.cos(a))) for a in (-angle, angle))
    return _Affine((left, right))


def rotate(constants: Constants, *, profile: str) -> Perturbation:
    """Returns the corruption that turns the image by an angle, to the left or to the right.

    Args:
        constants: (angle,) in radians.
        profile: one of `PROFILES`; all do the same.

    Returns:
        (key, image (H, W, C)) -> image.

    Source:
        Mu and Gilmer 2019, arXiv 1906.02337.
    """
    del profile
    (angle,) = constants
    left, right = (
        ((math.cos(a), -math.sin(a)), (math.sin(a), math.cos(a))) for a in (-angle, angle)
    )
    return _Affine((left, right))


def scale(constants: Constants, *, profile: str) -> Perturbation:
    """Returns the corruption that shrinks the image; nothing is drawn.

    Args:
        constants: (share,) of the sides that is left, in (0, 1].
        profile: one of `PROFILES`; all do the same.

    Returns:
        (key, image (H, W, C)) -> image.

    Source:
        Mu and Gilmer 2019, arXiv 1906.02337.
    """
    del profile
    (share,) = constants
    matrix = ((1 / share, 0.0), (0.0, 1 / share))
    return _Affine((matrix,))


def translate(constants: Constants, *, profile: str) -> Perturbation:
    """Returns the corruption that moves the image to one of the four corners.

    Args:
        constants: (pixels,) along each axis, a whole number.
        profile: one of `PROFILES`; all do the same.

    Returns:
        (key, image (H, W, C)) -> image.

    Source:
        Mu and Gilmer 2019, arXiv 1906.02337.
    """
    del profile
    (pixels,) = constants
    return _Translate(int(pixels))
