"""Spatter: drops of water or mud on the lens, ImageNet-C's construction step by step."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from rbjax import prng
from rbjax.corruptions import edges
from rbjax.typing import Array, Key

WATER = (175 / 255, 238 / 255, 238 / 255)
"""A pale turquoise."""

MUD = (63 / 255, 42 / 255, 20 / 255)
"""A brown; on a grey image its red, as MNIST-C has it."""

_GREY = (0.2125, 0.7154, 0.0721)
"""Red, green and blue in grey as the common port of ImageNet-C to grey images weighs them."""

_EMBOSS = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
_FURTHEST = 20
"""Pixels beyond which the distance to a drop's edge no longer grows."""


def drops(noise: Array, *, mean: float, std: float, sigma: float, threshold: float) -> Array:
    """Returns where the liquid is: blurred normal noise, without what is below a threshold.

    Args:
        noise: (H, W) standard normal.
        mean: of the noise on the image.
        std: its standard deviation.
        sigma: of the Gaussian blur, in pixels.
        threshold: what is below becomes 0.

    Returns:
        (H, W) float32.
    """
    liquid = edges.smooth(mean + std * noise, sigma)
    return jnp.where(liquid < threshold, 0.0, liquid)


def water_mask(liquid: Array, *, strength: float) -> Array:
    """Returns how much water is on each pixel: the liquid, lit from a side along its edges.

    The liquid in 8 bits (a value of 1 or more wraps around to 0, as in the published
    code) times the distance to its Canny edges (50, 150), cut off at 20 pixels, averaged over 3 x 3
    pixels, equalised, embossed and averaged again; in units of its largest value.

    Args:
        liquid: (H, W), at least 0.
        strength: the largest value of the result.

    Returns:
        (H, W) float32 in [0, strength]; 0 if there is no water at all, for which the published
        code divides 0 by 0.
    """
    level = jnp.floor(255 * liquid).astype(jnp.int32) & 255
    edge = edges.canny(level, low=50, high=150)
    distance = edges.chamfer_distance(edge, limit=_FURTHEST)
    near = edges.box_sum(distance) // (9 * edges.UNIT)
    padded = jnp.pad(edges.equalize_histogram(near, num_values=_FURTHEST + 1), 1, mode="reflect")
    height, width = liquid.shape
    relief = jnp.zeros(liquid.shape, padded.dtype)
    for (i, j), weight in np.ndenumerate(_EMBOSS):
        relief += int(weight) * padded[i : i + height, j : j + width]
    relief = jnp.clip(relief, 0, 255)
    light = (2 * edges.box_sum(relief) + 9) // 18
    mask = (level * light).astype(jnp.float32)
    return strength * mask / jnp.maximum(jnp.max(mask), 1.0)


def mud_mask(liquid: Array, *, threshold: float, sigma: float) -> Array:
    """Returns how much mud covers each pixel: the liquid's place, blurred, without its rim.

    Args:
        liquid: (H, W).
        threshold: above it there is mud.
        sigma: of the Gaussian blur, in pixels; below 0.8 after it there is none.

    Returns:
        (H, W) float32, 0 or in [0.8, 1].
    """
    covered = edges.smooth((liquid > threshold).astype(jnp.float32), sigma)
    return jnp.where(covered < 0.8, 0.0, covered)


def _colour(colour: tuple[float, float, float], channels: int, grey: float) -> np.ndarray:
    return np.asarray(colour if channels == 3 else [grey] * channels, np.float32)


def spatter(
    key: Key,
    image: Array,
    *,
    mean: float,
    std: float,
    sigma: float,
    threshold: float,
    strength: float,
    mud: int,
    profile: str,
) -> Array:
    """Returns the image with water or mud splashed on it.

    See `drops`, `water_mask` and `mud_mask`. Water is added in a pale turquoise (its grey on other
    than three channels), mud covers the image in brown (or grey 63 / 255).

    Args:
        key: one key.
        image: (H, W, C) in [0, 1].
        mean: of the noise that drops are made of.
        std: its standard deviation.
        sigma: of the blur of the noise, in pixels.
        threshold: what is below it is dry.
        strength: the most that water adds, or the sigma of mud's blur in pixels.
        mud: 0 for water, 1 for mud.
        profile: one of `PROFILES`; "mnist" has mud at every severity.

    Returns:
        (H, W, C).

    Source:
        Hendrycks and Dietterich 2019, arXiv 1903.12261.
    """
    height, width, channels = image.shape
    noise = prng.normal(key, (height, width))
    liquid = drops(noise, mean=mean, std=std, sigma=sigma, threshold=threshold)
    if mud or profile == "mnist":
        mask = mud_mask(liquid, threshold=threshold, sigma=strength)[..., None]
        return (1 - mask) * image + mask * _colour(MUD, channels, MUD[0])
    mask = water_mask(liquid, strength=strength)[..., None]
    return image + mask * _colour(WATER, channels, float(np.dot(_GREY, WATER)))
