"""Brightness and contrast: the same change to every pixel."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from rbjax import prng
from rbjax.options import Range, Share, checked
from rbjax.perturbations.chain import Clipped
from rbjax.photometric import scale_contrast, shift_brightness
from rbjax.typing import Array, Key


@dataclasses.dataclass(frozen=True)
class _Brightness:
    max_delta: float

    def __call__(self, key: Key, image: Array) -> Array:
        delta = prng.uniform(key, minval=-self.max_delta, maxval=self.max_delta)
        return shift_brightness(image, delta)


@dataclasses.dataclass(frozen=True)
class _Contrast:
    max_contrast: float

    def __call__(self, key: Key, image: Array) -> Array:
        change = prng.uniform(key, minval=-self.max_contrast, maxval=self.max_contrast)
        return scale_contrast(image, 1 + change)


@checked
def brightness(
    *, max_delta: Annotated[float, Range(low=0.0, high=1.0, unit="pixels in [0, 1]")] = 0.2
) -> Clipped:
    """Returns the perturbation `clip(image + d, 0, 1)`, one d uniform in +-max_delta.

    Args:
        max_delta: the largest change, in pixel units, at most 1.

    Returns:
        (key, image (H, W, C)) -> image.

    Raises:
        ValueError: if max_delta is not between 0 and 1.
    """
    return Clipped(_Brightness(max_delta))


@checked
def contrast(*, max_contrast: Share = 0.5) -> Clipped:
    """Returns the perturbation `clip(mean + (1 + c) (image - mean), 0, 1)`, c uniform in +-max.

    The mean is each channel's own, over the pixels.

    Args:
        max_contrast: the largest |c|, at most 1 (a grey image).

    Returns:
        (key, image (H, W, C)) -> image.

    Raises:
        ValueError: if max_contrast is not between 0 and 1.
    """
    return Clipped(_Contrast(max_contrast))
