"""AugMix as it was published, image by image with Pillow and NumPy: the peer of `augmix`."""

from __future__ import annotations

import time

import numpy as np
from PIL import Image, ImageOps

Picture = Image.Image
_BILINEAR = Image.Resampling.BILINEAR
_NUM_OPERATIONS = 9


def views(images: np.ndarray, seed: int) -> tuple[np.ndarray, float]:
    """Returns each image and two views of it, normalised, and the CPU seconds that took.

    Args:
        images: (B, H, W, 3) uint8.
        seed: of NumPy's generator.
    """
    began, random = time.process_time(), np.random.default_rng(seed)
    pictures = [Image.fromarray(image) for image in images]
    made = [
        [_normalized(picture), _mixed(picture, random), _mixed(picture, random)]
        for picture in pictures
    ]
    return np.asarray(made), time.process_time() - began


def _mixed(picture: Picture, random: np.random.Generator) -> np.ndarray:
    """`(1 - m) x + m sum_k w_k chain_k(x)`, three chains of one to three operations."""
    weights = random.dirichlet([1.0] * 3).astype(np.float32)
    share = np.float32(random.beta(1.0, 1.0))
    mixture = np.zeros((*picture.size[::-1], 3), np.float32)
    for weight in weights:
        chain = picture.copy()
        for _ in range(random.integers(1, 4)):
            level, sign = random.uniform(0.1, 3.0), random.choice([-1, 1])
            chain = _changed(chain, int(random.integers(_NUM_OPERATIONS)), level, int(sign))
        mixture += weight * _normalized(chain)
    return (1 - share) * _normalized(picture) + share * mixture


def _normalized(picture: Picture) -> np.ndarray:
    return (np.asarray(picture, np.float32) / 255 - 0.5) / 0.5


def _changed(picture: Picture, number: int, level: float, sign: int) -> Picture:
    slope, shift = sign * 0.03 * level, sign * int(level * picture.width / 30)
    match number:
        case 0:
            return ImageOps.autocontrast(picture)
        case 1:
            return ImageOps.equalize(picture)
        case 2:
            return ImageOps.posterize(picture, 4 - int(0.4 * level))
        case 3:
            return picture.rotate(sign * int(3 * level), resample=_BILINEAR)
        case 4:
            return ImageOps.solarize(picture, 256 - int(25.6 * level))
        case 5:
            return _affine(picture, (1, slope, 0, 0, 1, 0))
        case 6:
            return _affine(picture, (1, 0, 0, slope, 1, 0))
        case 7:
            return _affine(picture, (1, 0, shift, 0, 1, 0))
        case _:
            return _affine(picture, (1, 0, 0, 0, 1, shift))


def _affine(picture: Picture, coefficients: tuple[float, ...]) -> Picture:
    return picture.transform(picture.size, Image.Transform.AFFINE, coefficients, resample=_BILINEAR)
