"""Weather: fog and snow as ImageNet-C makes them, and rain.

Each is made of functions with explicit constants (`plasma`, `add_fog`, `snow_layer`, `add_snow`,
`rain_layer`, `add_rain`); the makers put sensible ones for images of about 30 x 30 pixels.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

from rbjax import prng
from rbjax.options import NotNegative, Range, Share, checked
from rbjax.perturbations.blur import motion_blur
from rbjax.perturbations.chain import Clipped
from rbjax.typing import Array, Key

LUMA = (0.299, 0.587, 0.114)
"""Red, green and blue in grey (ITU-R BT.601), as OpenCV has it."""


def plasma(key: Key, size: int, *, decay: float) -> Array:
    """Returns a random cloud by the diamond-square algorithm, on a torus.

    A grid of n x n points becomes one of 2n x 2n: a new point is the mean of its four neighbours
    and a_n u, u uniform in +-1, a_2n = a_n / decay^2; scaled to [0, 1] at the end.

    Args:
        key: one key.
        size: S, a power of two.
        decay: at least 1; the larger, the smoother.

    Returns:
        (S, S) float32, its smallest value 0 and its largest 1.

    Source:
        Hendrycks and Dietterich 2019, arXiv 1903.12261, "fog".
    """
    noise = prng.uniform(key, (size * size - 1,), minval=-1.0, maxval=1.0)
    grid, amplitude, used = jnp.zeros((1, 1), jnp.float32), 1.0, 0
    while (n := len(grid)) < size:
        of_level = noise[used : used + 3 * n * n].reshape(3, n, n)
        grid = interleave(*diamond_square(grid, amplitude * of_level))
        amplitude, used = amplitude / decay**2, used + 3 * n * n
    grid -= jnp.min(grid)
    return grid / jnp.max(grid)


def diamond_square(grid: Array, noise: Array) -> tuple[Array, Array, Array, Array]:
    """Returns a grid on a torus and the points between its points, each half a step on.

    Args:
        grid: (n, n).
        noise: (3, n, n), added to the middles of squares, the points below and those beside.

    Returns:
        (n, n) each: the grid, the points beside it, below it and in the middle, to `interleave`.
    """
    middle, across, along = noise
    below, beside = jnp.roll(grid, -1, axis=0), jnp.roll(grid, -1, axis=1)
    middle += (grid + below + beside + jnp.roll(below, -1, axis=1)) / 4
    middle = jax.lax.optimization_barrier(middle)  # or it is worked out again for its neighbours
    along += (grid + beside + middle + jnp.roll(middle, 1, axis=0)) / 4
    across += (grid + below + middle + jnp.roll(middle, 1, axis=1)) / 4
    return grid, along, across, middle


def interleave(grid: Array, along: Array, across: Array, middle: Array) -> Array:
    """Returns the points of four n x m grids as one of 2n x 2m; see `diamond_square`."""
    pairs = jnp.stack([jnp.stack([grid, along], -1), jnp.stack([across, middle], -1)], axis=1)
    return pairs.reshape(2 * grid.shape[0], 2 * grid.shape[1])


def add_fog(image: Array, cloud: Array, *, thickness: float) -> Array:
    """Returns `(image + c p) m / (m + c)`, m the image's largest value; black stays black.

    Args:
        image: (H, W, C).
        cloud: p, (H, W) in [0, 1].
        thickness: c, at least 0.

    Returns:
        (H, W, C), of the image's dtype.
    """
    largest = jnp.max(image)
    share = largest / jnp.maximum(largest + thickness, jnp.finfo(image.dtype).tiny)
    return (image + thickness * cloud[..., None].astype(image.dtype)) * share


def snow_layer(
    key: Key,
    shape: tuple[int, int],
    *,
    mean: float,
    std: float,
    zoom: float,
    threshold: float,
    radius: int,
    sigma: float,
) -> Array:
    """Returns flakes: normal noise, enlarged, without what is below a threshold, smeared downwards.

    Args:
        key: one key.
        shape: (H, W).
        mean: of the noise.
        std: its standard deviation.
        zoom: how many times the noise is enlarged (bilinear), at least 1.
        threshold: what is below becomes 0; what is above 1 becomes 1.
        radius: of the motion blur, whose angle is uniform in -135 to -45 degrees.
        sigma: of the motion blur.

    Returns:
        (H, W) float32 in [0, 1].

    Source:
        Hendrycks and Dietterich 2019, arXiv 1903.12261, "snow".
    """
    noise_key, angle_key = prng.split(key)
    coarse = [math.ceil(side / zoom) for side in shape]
    noise = mean + std * prng.normal(noise_key, coarse)
    rows, columns = (_enlarge(n, zoom, side) for n, side in zip(coarse, shape, strict=True))
    if zoom > 1:
        noise = rows @ noise @ columns.T
    flakes = jnp.where(noise < threshold, 0.0, jnp.clip(noise, 0.0, 1.0))
    degrees = prng.uniform(angle_key, minval=-135.0, maxval=-45.0)
    return motion_blur(flakes[..., None], degrees, radius=radius, sigma=sigma)[..., 0]


def add_snow(image: Array, layer: Array, *, whiteness: Array | float) -> Array:
    """Returns the image whitened, with the layer and the layer turned by 180 degrees on top.

    (1 - w) x + w max(x, 1.5 grey + 0.5) + layer + turned layer, w the whiteness (ImageNet-C's
    mix is 1 - w); grey is the luma of three channels, the mean of any other number.

    Args:
        image: x, (H, W, C).
        layer: (H, W) in [0, 1].
        whiteness: in [0, 1].

    Returns:
        (H, W, C), of the image's dtype.
    """
    channels = image.shape[-1]
    weights = np.asarray(LUMA if channels == 3 else [1 / channels] * channels)
    grey = jnp.sum(image * weights.astype(image.dtype), axis=-1, keepdims=True)
    white = jnp.maximum(image, 1.5 * grey + 0.5)
    layers = (layer + layer[::-1, ::-1])[..., None].astype(image.dtype)
    whiteness = jnp.asarray(whiteness, image.dtype)
    return (1 - whiteness) * image + whiteness * white + layers


def rain_layer(
    key: Key, shape: tuple[int, int], *, num_drops: int, length: int, max_slant: float
) -> Array:
    """Returns streaks of rain.

    A drop is a line one pixel wide over `length` rows from a random place, its brightness uniform
    in 1/2 to 1; all fall in one direction, uniform in +-max_slant from the vertical. Between two
    columns a streak is shared out by its distance from each; where streaks cross the brighter one
    counts. What leaves the image comes in on the other side.

    Args:
        key: one key.
        shape: (H, W).
        num_drops: number of streaks, at least 0.
        length: rows that a streak covers.
        max_slant: in [0, 90) degrees.

    Returns:
        (H, W) float32 in [0, 1].
    """
    height, width = shape
    slant_key, place_key = prng.split(key)
    slope = jnp.tan(jnp.deg2rad(prng.uniform(slant_key, minval=-1.0) * max_slant))
    row, column, brightness = prng.uniform(place_key, (3, num_drops, 1))
    fallen = jnp.arange(length)
    rows = (jnp.floor(row * height).astype(jnp.int32) + fallen) % height
    columns = column * width + slope * fallen
    left = jnp.floor(columns)
    share = columns - left
    left = left.astype(jnp.int32)
    brightness = 0.5 + 0.5 * brightness
    layer = jnp.zeros(shape, jnp.float32).at[rows, left % width].max(brightness * (1 - share))
    return layer.at[rows, (left + 1) % width].max(brightness * share)


def add_rain(image: Array, layer: Array, *, opacity: float) -> Array:
    """Returns `image + opacity layer`, all channels alike.

    Args:
        image: (H, W, C).
        layer: (H, W) in [0, 1].
        opacity: in [0, 1].

    Returns:
        (H, W, C), of the image's dtype.
    """
    return image + opacity * layer[..., None].astype(image.dtype)


@dataclasses.dataclass(frozen=True)
class _Fog:
    thickness: float
    decay: float

    def __call__(self, key: Key, image: Array) -> Array:
        height, width, _ = image.shape
        size = 1 << (max(height, width) - 1).bit_length()
        cloud = plasma(key, size, decay=self.decay)[:height, :width]
        return add_fog(image, cloud, thickness=self.thickness)


@dataclasses.dataclass(frozen=True)
class _Snow:
    coverage: float
    flake_size: float
    max_whiteness: float

    def __call__(self, key: Key, image: Array) -> Array:
        height, width, _ = image.shape
        mean, std = 0.15, 0.3
        layer_key, whiteness_key = prng.split(key)
        layer = snow_layer(
            layer_key,
            (height, width),
            mean=mean,
            std=std,
            zoom=self.flake_size,
            threshold=mean + std * float(scipy.special.ndtri(1 - self.coverage)),
            radius=3,
            sigma=1.0,
        )
        whiteness = prng.uniform(whiteness_key, maxval=self.max_whiteness)
        return add_snow(image, layer, whiteness=whiteness)


@dataclasses.dataclass(frozen=True)
class _Rain:
    rainfall: float
    streak_length: int
    opacity: float

    def __call__(self, key: Key, image: Array) -> Array:
        height, width, _ = image.shape
        layer = rain_layer(
            key,
            (height, width),
            num_drops=math.ceil(self.rainfall * height * width),
            length=self.streak_length,
            max_slant=20.0,
        )
        return add_rain(image, layer, opacity=self.opacity)


@checked
def fog(
    *, thickness: NotNegative = 0.5, decay: Annotated[float, Range(low=1.0, high=1000.0)] = 2.5
) -> Clipped:
    """Returns the perturbation that draws a cloud before the image.

    See `plasma` and `add_fog`. CIFAR-10-C's five severities are thickness, decay = (0.2, 3),
    (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75), all for images of 32 x 32.

    Args:
        thickness: c; 0 is no fog.
        decay: at least 1; the larger, the smoother the cloud.

    Returns:
        (key, image (H, W, C)) -> image.

    Raises:
        ValueError: if thickness is negative or decay below 1.

    Source:
        Hendrycks and Dietterich 2019, arXiv 1903.12261.
    """
    return Clipped(_Fog(thickness, decay))


@checked
def snow(
    *,
    coverage: Share = 0.1,
    flake_size: Annotated[float, Range(low=1.0, high=1000.0)] = 1.5,
    max_whiteness: Share = 0.2,
) -> Clipped:
    """Returns the perturbation that lets snow fall before a whitened image.

    See `snow_layer` and `add_snow`: ImageNet-C's construction with the mean 0.15 and deviation 0.3
    of CIFAR-10-C's severity 3, a shorter motion blur (3, 1; it has 10, 4, streaks a third of the
    image long), and a random whiteness (it has 0.1).

    Args:
        coverage: share of the noise above the threshold, before it is enlarged, in [0, 1].
        flake_size: how many times the noise is enlarged, at least 1.
        max_whiteness: the whiteness is uniform between 0 and this, in [0, 1]; with 0 here and
            coverage = 0 nothing changes.

    Returns:
        (key, image (H, W, C)) -> image.

    Raises:
        ValueError: for an option out of range.

    Source:
        Hendrycks and Dietterich 2019, arXiv 1903.12261.
    """
    return Clipped(
        _Snow(
            coverage,
            flake_size,
            max_whiteness,
        )
    )


@checked
def rain(
    *,
    rainfall: Share = 0.02,
    streak_length: Annotated[int, Range(low=1, high=1000, unit="pixels")] = 6,
    opacity: Annotated[float, Range(low=0.0, high=1.0, unit="pixels in [0, 1]")] = 0.5,
) -> Clipped:
    """Returns the perturbation that adds streaks of rain to the image.

    See `rain_layer` and `add_rain`, with slants up to 20 degrees. No benchmark publishes constants
    for rain: construction and defaults are rbjax's own, on the additive model of the deraining
    literature (image = background + streaks).

    Args:
        rainfall: streaks a pixel of the image, in [0, 1]; their number is rounded up, 0 is none.
        streak_length: rows that a streak covers, 1 to 1,000.
        opacity: what the brightest streak adds, in [0, 1].

    Returns:
        (key, image (H, W, C)) -> image.

    Raises:
        ValueError: for an option out of range.
    """
    return Clipped(
        _Rain(
            rainfall,
            streak_length,
            opacity,
        )
    )


def _enlarge(coarse: int, zoom: float, side: int) -> np.ndarray:
    """Returns (side, coarse) weights: linear interpolation, ends on ends, and its middle part."""
    fine = max(round(coarse * zoom), side)
    trim = (fine - side) // 2
    at = (np.arange(side) + trim) * (coarse - 1) / max(fine - 1, 1)
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(coarse))).astype(np.float32)
