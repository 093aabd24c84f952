"""Pictures of ice on a window: rbjax's own, for who has no photographs of frost.

Each is made of two layers on a torus: clouds (noise whose spectrum falls as a power of frequency)
and crystals (white noise smeared along one of six directions, the direction changing slowly from
place to place). Mean colours and contrasts are near those of the five photographs that ImageNet-C
uses; shapes and everything else are rbjax's own, so error rates under frost with these pictures
are not those of ImageNet-C.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np


class _Kind(NamedTuple):
    colour: tuple[float, float, float]
    """The mean."""
    contrast: float
    """The standard deviation."""
    crystals: float
    """Their share of the variance; the clouds have the rest."""
    sharpness: float
    """At least 1; above it bright crystals stand out from a darker ground."""


_KINDS = (
    _Kind((0.32, 0.58, 0.65), 0.08, 0.5, 1.0),
    _Kind((0.79, 0.80, 0.84), 0.08, 0.7, 1.0),
    _Kind((0.70, 0.74, 0.80), 0.10, 0.7, 1.5),
    _Kind((0.54, 0.60, 0.65), 0.11, 0.7, 2.0),
    _Kind((0.44, 0.48, 0.53), 0.17, 0.8, 2.5),
)

_NUM_DIRECTIONS = 6
_LENGTH, _WIDTH, _PATCH = 12.0, 2.0, 60.0
"""Of a crystal and of a region of one direction, in pixels of a picture at scale 1."""


@functools.cache
def pictures(side: int, scale: float) -> np.ndarray:
    """Returns five pictures of ice.

    Args:
        side: S, in pixels.
        scale: size of what is on them, in (0, 1]: 1 beside images of 224 pixels, less for smaller.

    Returns:
        (5, S, S, 3) uint8, the same at every call, read-only.
    """
    random = np.random.default_rng(20190301)
    made = np.stack([_picture(random, side, scale, kind) for kind in _KINDS])
    made.setflags(write=False)
    return made


def _picture(random: np.random.Generator, side: int, scale: float, kind: _Kind) -> np.ndarray:
    clouds = _standard(_clouds(random, side))
    crystals = _standard(_crystals(random, side, scale))
    if kind.sharpness > 1:  # a lognormal's bright tail: needles in front of a dark ground
        crystals = _standard(np.exp(0.4 * (kind.sharpness - 1) * crystals))
    height = np.sqrt(kind.crystals) * crystals + np.sqrt(1 - kind.crystals) * clouds
    picture = np.asarray(kind.colour) + kind.contrast * height[..., None]
    return np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8)


def _frequencies(side: int) -> tuple[np.ndarray, np.ndarray]:
    along = np.fft.fftfreq(side)
    return along[:, None], along[None, :]


def _clouds(random: np.random.Generator, side: int) -> np.ndarray:
    """Noise whose amplitude falls as 1 / f."""
    down, right = _frequencies(side)
    radius = np.hypot(down, right)
    radius[0, 0] = np.inf
    return _filtered(random.normal(size=(side, side)), 1 / radius)


def _crystals(random: np.random.Generator, side: int, scale: float) -> np.ndarray:
    """Streaks of six directions, at each place the one whose own slow noise is largest there."""
    down, right = _frequencies(side)
    slow = np.exp(-2 * (np.pi * _PATCH * scale / 4) ** 2 * (down**2 + right**2))
    crystals, weights = [], []
    for direction in range(_NUM_DIRECTIONS):
        angle = np.pi * (direction + 0.5) / _NUM_DIRECTIONS
        along = np.cos(angle) * right + np.sin(angle) * down
        across = np.cos(angle) * down - np.sin(angle) * right
        length, width = _LENGTH * scale / 2, _WIDTH * scale / 2
        streaks = np.exp(-2 * np.pi**2 * ((length * along) ** 2 + (width * across) ** 2))
        noise = random.normal(size=(2, side, side))
        crystals.append(_standard(_filtered(noise[0], streaks)))
        weights.append(np.exp(3 * _standard(_filtered(noise[1], slow))))
    share = np.stack(weights) / np.sum(weights, axis=0)
    return np.sum(np.stack(crystals) * share, axis=0)


def _filtered(noise: np.ndarray, spectrum: np.ndarray) -> np.ndarray:
    return np.real(np.fft.ifft2(np.fft.fft2(noise) * spectrum))


def _standard(field: np.ndarray) -> np.ndarray:
    return (field - field.mean()) / field.std()
