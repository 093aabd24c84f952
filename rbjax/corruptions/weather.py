"""Weather: snow and fog, as ImageNet-C and its relatives make them; frost has its own file."""

from __future__ import annotations

import dataclasses

from rbjax.corruptions import cloud
from rbjax.corruptions.constants import Constants
from rbjax.perturbations.weather import add_fog, add_snow, snow_layer
from rbjax.typing import Array, Key, Perturbation


@dataclasses.dataclass(frozen=True)
class _Fog:
    thickness: float
    decay: float
    map_side: int

    def __call__(self, key: Key, image: Array) -> Array:
        height, width, _ = image.shape
        side = max(self.map_side, 1 << (max(height, width) - 1).bit_length())
        clouds = cloud.corner(key, side, (height, width), decay=self.decay)
        return add_fog(image, clouds, thickness=self.thickness)


@dataclasses.dataclass(frozen=True)
class _Snow:
    mean: float
    std: float
    zoom: float
    threshold: float
    radius: int
    sigma: float
    kept: float

    def __call__(self, key: Key, image: Array) -> Array:
        height, width, _ = image.shape
        layer = snow_layer(
            key,
            (height, width),
            mean=self.mean,
            std=self.std,
            zoom=self.zoom,
            threshold=self.threshold,
            radius=self.radius,
            sigma=self.sigma,
        )
        return add_snow(image, layer, whiteness=1 - self.kept)


def fog(constants: Constants, *, profile: str) -> Perturbation:
    """Returns the corruption that draws a cloud before the image.

    (x + c p) m / (m + c), m the image's largest value, p the upper left corner of a map by
    diamond-square: `rbjax.corruptions.cloud.corner` and `rbjax.perturbations.weather.add_fog`.

    Args:
        constants: (c, decay, side): thickness, how much smoother the cloud is than white noise,
            and the side of the map, a power of two; larger images get a map that holds them.
        profile: one of `PROFILES`; all do the same.

    Returns:
        (key, image (H, W, C)) -> image.

    Source:
        Hendrycks and Dietterich 2019, arXiv 1903.12261.
    """
    del profile
    thickness, decay, side = constants
    return _Fog(thickness, decay, int(side))


def snow(constants: Constants, *, profile: str) -> Perturbation:
    """Returns the corruption that lets snow fall before a whitened image.

    k x + (1 - k) max(x, 1.5 grey + 0.5) + layer + layer turned by 180 degrees; the layer is normal
    noise, the middle of it enlarged, cut off below and smeared in a direction uniform in -135 to
    -45 degrees: `rbjax.perturbations.weather.snow_layer` and `add_snow`. The published code keeps
    the layer in 8 bits on the way, which moves it by at most 1 / 255.

    Args:
        constants: (mean, std, zoom, threshold, radius, sigma, k): the first two of the noise,
            radius and sigma of the motion blur, in pixels.
        profile: one of `PROFILES`; all do the same.

    Returns:
        (key, image (H, W, C)) -> image.

    Source:
        Hendrycks and Dietterich 2019, arXiv 1903.12261.
    """
    del profile
    mean, std, zoom, threshold, radius, sigma, kept = constants
    return _Snow(mean, std, zoom, threshold, int(radius), sigma, kept)
