"""Spatter: drops of water or mud on the lens, ImageNet-C's construction step by step."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from rbjax.corruptions import edges
from rbjax.corruptions.constants import Constants
from rbjax.typing import Array, Key, Perturbation

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

    The liquid in 8 bits (a value of 1 or more starts again at 0, as it does in the published
    code) times the distance to its Canny edges (50, 150), cut off at 20 pixels, averaged over 3 x 3
    pixels, equalised, embossed and averaged again; in units of its largest value.

    Args:
        liquid: (H, W), at least 0.
        strength: the largest value of the result.

    Returns:
        (H, W) float32 in [0, strength]; 0 where there is no water at all, where the published
        code divides 0 by 0.
    """
    level = jnp.floor(255 * liquid).astype(jnp.int32) & 255
    edge = edges.canny(level, low=50, high=150)
    distance = edges.chamfer_distance(edge, limit=_FURTHEST)
    near = edges.box_sum(distance) // (9 * edges.UNIT)
    relief = _emboss(edges.equalize_histogram(near, num_values=_FURTHEST + 1))
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


def _emboss(image: Array) -> Array:
    height, width = image.shape
    padded = jnp.pad(image, 1, mode="reflect")
    total = jnp.zeros_like(image)
    for (i, j), weight in np.ndenumerate(_EMBOSS):
        total += int(weight) * padded[i : i + height, j : j + width]
    return jnp.clip(total, 0, 255)


def _colour(colour: tuple[float, float, float], channels: int, grey: float) -> np.ndarray:
    return np.asarray(colour if channels == 3 else [grey] * channels, np.float32)


@dataclasses.dataclass(frozen=True)
class _Spatter:
    mean: float
    std: float
    sigma: float
    threshold: float
    strength: float
    is_mud: bool

    def __call__(self, key: Key, image: Array) -> Array:
        height, width, channels = image.shape
        liquid = drops(
            jax.random.normal(key, (height, width)),
            mean=self.mean,
            std=self.std,
            sigma=self.sigma,
            threshold=self.threshold,
        )
        if self.is_mud:
            mask = mud_mask(liquid, threshold=self.threshold, sigma=self.strength)[..., None]
            return (1 - mask) * image + mask * _colour(MUD, channels, MUD[0])
        mask = water_mask(liquid, strength=self.strength)[..., None]
        return image + mask * _colour(WATER, channels, float(np.dot(_GREY, WATER)))


def spatter(constants: Constants, *, profile: str) -> Perturbation:
    """Returns the corruption that splashes water or mud on the image.

    See `drops`, `water_mask` and `mud_mask`. Water is added in a pale turquoise (its grey on other
    than three channels), mud covers the image in brown (or grey 63 / 255).

    Args:
        constants: (mean, std, sigma, threshold, strength, mud): mud is 0 or 1, the strength the
            most that water adds or the sigma of mud's blur.
        profile: one of `PROFILES`; "mnist" has mud at every severity.

    Returns:
        (key, image (H, W, C)) -> image.

    Source:
        Hendrycks and Dietterich 2019, arXiv 1903.12261.
    """
    *numbers, mud = constants
    return _Spatter(*numbers, is_mud=bool(mud) or profile == "mnist")
