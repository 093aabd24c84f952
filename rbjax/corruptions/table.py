"""The corruptions by name, and what is published of each: profiles, severities, aliases."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from rbjax import checks
from rbjax.corruptions import (
    blur,
    digital,
    elastic,
    frost,
    glass,
    mnist_geometry,
    mnist_strokes,
    noise,
    photometric,
    spatter,
    weather,
)
from rbjax.corruptions.change import Corruption
from rbjax.corruptions.constants import (
    COMMON,
    CONSTANTS,
    EXTRA,
    MNIST_C,
    MNIST_C_SEVERITIES,
    PROFILES,
)
from rbjax.tables import lookup, nearest
from rbjax.typing import Perturbation

CORRUPTIONS: dict[str, Callable[..., Perturbation]] = {
    "gaussian_noise": noise.gaussian_noise,
    "shot_noise": noise.shot_noise,
    "impulse_noise": noise.impulse_noise,
    "speckle_noise": noise.speckle_noise,
    "defocus_blur": blur.defocus_blur,
    "glass_blur": glass.glass_blur,
    "motion_blur": blur.motion_blur,
    "zoom_blur": blur.zoom_blur,
    "gaussian_blur": blur.gaussian_blur,
    "snow": weather.snow,
    "frost": frost.frost,
    "fog": weather.fog,
    "spatter": spatter.spatter,
    "brightness": photometric.brightness,
    "contrast": photometric.contrast,
    "saturate": photometric.saturate,
    "elastic_transform": elastic.elastic_transform,
    "pixelate": digital.pixelate,
    "jpeg_compression": digital.jpeg_compression,
    "shear": mnist_geometry.shear,
    "scale": mnist_geometry.scale,
    "rotate": mnist_geometry.rotate,
    "translate": mnist_geometry.translate,
    "stripe": mnist_strokes.stripe,
    "dotted_line": mnist_strokes.dotted_line,
    "zigzag": mnist_strokes.zigzag,
    "canny_edges": mnist_strokes.canny_edges,
}
"""The makers by name: (constants, *, profile, ...) -> the change, before it is clipped."""

ALIASES = {"frosted_glass_blur": "glass_blur", "elastic": "elastic_transform"}
"""Names that TFDS has for some of them."""


def create(
    name: str,
    *,
    severity: int | None = None,
    profile: str = "cifar",
    quantize: bool = False,
    **options: Any,
) -> Corruption:
    """Returns a corruption by name.

    Args:
        name: a name in `CORRUPTIONS`, or TFDS's name of one.
        severity: 1 to 5; left out, 3, and in the profile "mnist" the one at which MNIST-C
            publishes it. Corruptions that are published without one have severity 1 only.
        profile: whose constants, one of `PROFILES`.
        quantize: whether the result is cut to 8 bits, as the published code does:
            floor(255 x) / 255. ImageNet-C and Tiny ImageNet-C were then stored as JPEG of quality
            85, which is not done here.
        **options: the maker's own keywords, if it has any.

    Returns:
        (key, image (H, W, C) in [0, 1]) -> image of the same shape and dtype, in [0, 1]. Equal
        arguments make equal, hashable corruptions.

    Raises:
        ValueError: for an unknown name, profile or option, a severity that does not exist, or an
            image with a side below 8.

    Source:
        Hendrycks and Dietterich 2019, arXiv 1903.12261; Mu and Gilmer 2019, arXiv 1906.02337.
    """
    name = _resolve(name)
    table = _of_profile(name, profile)
    if severity is None:
        severity = default_severity(name, profile)
    severity = checks.integer(f"severity of {name}", severity, low=1, high=len(table))
    maker = CORRUPTIONS[name]
    own = list(inspect.signature(maker).parameters)[2:]
    for option in options:
        if option not in own:
            allowed = ", ".join(own) or "none"
            raise ValueError(
                f"corruption {name!r} has no option {option!r}; allowed: {allowed}"
                f"{nearest(option, own)}"
            )
    return Corruption(maker(table[severity - 1], profile=profile, **options), bool(quantize))


def names(profile: str) -> tuple[str, ...]:
    """Returns the corruptions that are published for a profile: 19, or MNIST-C's 15.

    Raises:
        ValueError: for an unknown profile.
    """
    lookup(CONSTANTS, profile, what="profile")
    return MNIST_C if profile == "mnist" else COMMON + EXTRA


def severities(name: str, profile: str) -> tuple[int, ...]:
    """Returns the severities at which a corruption is published in a profile.

    Raises:
        ValueError: for an unknown name or profile.
    """
    name = _resolve(name)
    table = _of_profile(name, profile)
    if profile == "mnist" and name in MNIST_C:
        return (default_severity(name, profile),)
    return tuple(range(1, len(table) + 1))


def default_severity(name: str, profile: str) -> int:
    """Returns the severity that MNIST-C publishes in its profile, 3 elsewhere.

    Raises:
        ValueError: for an unknown name or profile.
    """
    name = _resolve(name)
    table = _of_profile(name, profile)
    published = MNIST_C_SEVERITIES if profile == "mnist" else {}
    return published.get(name, min(3, len(table)))


def _resolve(name: str) -> str:
    if name not in CORRUPTIONS:
        name = ALIASES.get(name, name)
        lookup(CORRUPTIONS, name, what="corruption")
    return name


def _of_profile(name: str, profile: str) -> tuple[tuple[float, ...], ...]:
    table = lookup(CONSTANTS, profile, what="profile")
    if name not in table:
        others = [other for other in PROFILES if name in CONSTANTS[other]]
        raise ValueError(
            f"corruption {name!r} is not in profile {profile!r}; it is in: {', '.join(others)}"
        )
    return table[name]
