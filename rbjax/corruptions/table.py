"""The corruptions by name, and what is published of each: profiles, severities, aliases."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from rbjax import prng
from rbjax.corruptions import (
    blur,
    digital,
    elastic,
    frost,
    glass,
    mnist,
    noise,
    photometric,
    spatter,
    weather,
)
from rbjax.corruptions.constants import (
    COMMON,
    CONSTANTS,
    EXTRA,
    MNIST_C,
    MNIST_C_SEVERITIES,
    PROFILES,
    Constants,
)
from rbjax.inputs import check_array, check_integer, truncate
from rbjax.options import Option
from rbjax.tables import Table, lookup
from rbjax.typing import Array, Key, Perturbation

_MIN_SIDE = 8
"""Pixels along an image's shorter side."""


class _Table(Table[Any]):
    """Corruptions by name: published functions of an image, and makers from a severity."""

    def options(self, name: str | Callable[..., Any]) -> dict[str, Option]:
        """Returns the options of a corruption; published constants are none."""
        maker = self.find(name) if isinstance(name, str) else name
        options = super().options(maker)
        if "severity" in inspect.signature(maker).parameters:
            return options
        return {option: said for option, said in options.items() if not said.required}


CORRUPTIONS = _Table(
    "corruption",
    {
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
        "shear": mnist.shear,
        "scale": mnist.scale,
        "rotate": mnist.rotate,
        "translate": mnist.translate,
        "stripe": mnist.stripe,
        "dotted_line": mnist.dotted_line,
        "zigzag": mnist.zigzag,
        "canny_edges": mnist.canny_edges,
    },
    supplied=("profile", "severity"),
    positional=2,
    makes=(Callable, "a function (key, image)"),
)
"""The functions by name: (key, image, *, <constants in their order>, ...) -> image, not clipped.

One that has a keyword `profile` is told the profile; keywords after the constants are options.  One
without published constants is a maker, (*, severity, ...) -> (key, image) -> image: it counts in
every profile, at severities 1 to 5.
"""

READERS = {"textures": frost.read_textures}
"""Of options that are read once, when the corruption is made."""

ALIASES = {"frosted_glass_blur": "glass_blur", "elastic": "elastic_transform"}
"""Names that TFDS has for some of them."""


@dataclasses.dataclass(frozen=True)
class Corruption:
    """A corruption: its change computed in float32, clipped to [0, 1], in the image's dtype.

    Two made from the same options are equal, and a program compiled for one serves the other.
    """

    change: Callable[..., Array]
    """(key, image, **options) -> image, which may leave [0, 1]."""
    options: tuple[tuple[str, Any], ...] = ()
    """Its keywords by name, hashable."""
    quantize: bool = False
    """Whether the result is cut to 8 bits."""

    def __call__(self, key: Key, image: Array) -> Array:
        """Returns the corrupted image of one image, in [0, 1]."""
        prng.check(key)
        image = jnp.asarray(check_array(image, field="image"))
        if not jnp.issubdtype(image.dtype, jnp.floating):
            raise ValueError(
                f"image is of {image.dtype}; a corruption needs floating values in [0, 1], of "
                "uint8 image / 255"
            )
        if image.ndim != 3 or min(image.shape[:2]) < _MIN_SIDE:
            raise ValueError(
                f"image has shape {image.shape}; a corruption needs (H, W, C) with H and W of at "
                f"least {_MIN_SIDE}"
            )
        wide = image.astype(jnp.promote_types(image.dtype, jnp.float32))
        changed = jnp.clip(self.change(key, wide, **dict(self.options)), 0.0, 1.0)
        return (truncate(changed) if self.quantize else changed).astype(image.dtype)


def create(
    name: str | Perturbation | Callable[..., Perturbation],
    *,
    severity: int | None = None,
    profile: str = "cifar",
    quantize: bool = False,
    **options: Any,
) -> Corruption:
    """Returns a corruption by name.

    Args:
        name: a name in `CORRUPTIONS`, TFDS's name of one, or `package.module:maker` of a maker
            (*, severity, ...) -> (key, image) -> image; or such a maker, or the change itself.
        severity: 1 to 5; left out, 3, and in the profile "mnist" the one at which MNIST-C
            publishes it. Corruptions that are published without one have severity 1 only.
        profile: whose constants, one of `PROFILES`.
        quantize: whether the result is cut to 8 bits, as the published code does:
            floor(255 x) / 255. ImageNet-C and Tiny ImageNet-C were then stored as JPEG of quality
            85, which is not done here.
        **options: the corruption's own, if it has any.

    Returns:
        (key, image (H, W, C) in [0, 1]) -> image of the same shape and dtype, in [0, 1]. Equal
        arguments make equal, hashable corruptions.

    Raises:
        ValueError: for an unknown name, profile or option, a severity that does not exist, or an
            image with a side below 8.

    Source:
        Hendrycks and Dietterich 2019, arXiv 1903.12261; Mu and Gilmer 2019, arXiv 1906.02337.
    """
    if not isinstance(name, str):
        if "severity" in inspect.signature(name).parameters:
            return _by_severity(name, severity, options, quantize)
        if options:
            raise ValueError(f"a corruption that is made already has no options; got {options}")
        change: Callable[..., Any] = name
        return Corruption(change, quantize=bool(quantize))
    name = ALIASES.get(name, name)
    published = CONSTANTS.get(profile, {}).get(name)
    if published is None or "severity" in inspect.signature(CORRUPTIONS[name]).parameters:
        if is_by_severity(name):
            lookup(CONSTANTS, profile, what="profile")
            return _by_severity(name, severity, options, quantize)
        published = _published(name, profile)  # which refuses it
    if severity is None:
        severity = default_severity(name, profile)
    severity = check_integer(f"severity of {name}", severity, low=1, high=len(published))
    constants = bind(name, published[severity - 1], profile)
    if options:
        CORRUPTIONS.check(name, CORRUPTIONS.options(name), options)
    options = {
        option: READERS[option](value) if option in READERS and value is not None else value
        for option, value in options.items()
    }
    return Corruption(CORRUPTIONS[name], tuple({**constants, **options}.items()), bool(quantize))


def _by_severity(
    maker: str | Callable[..., Any], severity: int | None, options: dict[str, Any], quantize: bool
) -> Corruption:
    level = 3 if severity is None else severity
    title = maker if isinstance(maker, str) else maker.__name__
    level = check_integer(f"severity of {title}", level, low=1, high=5)
    CORRUPTIONS.create(maker, options, severity=level)  # so that errors come first
    known = {"maker": maker, "severity": level, "given": tuple(sorted(options.items()))}
    return Corruption(_change_of, tuple(known.items()), bool(quantize))


def _change_of(
    key: Key,
    image: Array,
    *,
    maker: str | Callable[..., Any],
    severity: int,
    given: tuple[tuple[str, Any], ...],
) -> Array:
    """Returns a changed image; what it is called with tells one corruption from another."""
    return CORRUPTIONS.create(maker, dict(given), severity=severity)(key, image)


def is_by_severity(name: str) -> bool:
    """Returns whether a corruption is made from its severity alone, without published constants.

    Raises:
        ValueError: for an unknown name.
    """
    return CORRUPTIONS.accepts(ALIASES.get(name, name), "severity")


def bind(name: str, constants: Constants, profile: str) -> dict[str, Any]:
    """Returns the keywords of a corruption's function.

    Args:
        name: a name in `CORRUPTIONS`.
        constants: its keywords' values, in their order.
        profile: given too where the function has a keyword of that name.

    Returns:
        Values by keyword.
    """
    keywords = list(inspect.signature(CORRUPTIONS[name]).parameters)[2:]
    bound = dict(zip(keywords, constants, strict=False))
    return {**bound, "profile": profile} if "profile" in keywords else bound


def names(profile: str) -> tuple[str, ...]:
    """Returns the corruptions of a profile: the 19 published, or MNIST-C's 15, and one's own.

    Raises:
        ValueError: for an unknown profile.
    """
    lookup(CONSTANTS, profile, what="profile")
    published = MNIST_C if profile == "mnist" else COMMON + EXTRA
    return (*published, *filter(is_by_severity, CORRUPTIONS))


def severities(name: str, profile: str) -> tuple[int, ...]:
    """Returns the severities at which a corruption is published in a profile.

    Raises:
        ValueError: for an unknown name or profile.
    """
    name = ALIASES.get(name, name)
    if is_by_severity(name):
        lookup(CONSTANTS, profile, what="profile")
        return (1, 2, 3, 4, 5)
    last = len(_published(name, profile))
    if profile == "mnist" and name in MNIST_C:
        return (default_severity(name, profile),)
    return tuple(range(1, last + 1))


def default_severity(name: str, profile: str) -> int:
    """Returns the severity that MNIST-C publishes in its profile, 3 elsewhere.

    Raises:
        ValueError: for an unknown name or profile.
    """
    name = ALIASES.get(name, name)
    if is_by_severity(name):
        return 3
    last = len(_published(name, profile))
    published = MNIST_C_SEVERITIES if profile == "mnist" else {}
    return published.get(name, min(3, last))


def _published(name: str, profile: str) -> tuple[tuple[float, ...], ...]:
    """Returns a corruption's constants, severity by severity."""
    table = lookup(CONSTANTS, profile, what="profile")
    if name not in table:
        others = [other for other in PROFILES if name in CONSTANTS[other]]
        if not others:
            raise ValueError(
                f"corruption {name!r} has no option 'severity', and no published constants: write "
                "its maker as (*, severity, ...) -> (key, image) -> image"
            )
        raise ValueError(
            f"corruption {name!r} is not in profile {profile!r}; it is in: {', '.join(others)}"
        )
    return table[name]
