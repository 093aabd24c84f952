"""What comes in: numbers, images and labels; their checks, and 8 bits.

Checks raise a `ValueError` of one line. Shapes are always checked; values where they are known,
which they are not inside `jit`.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from rbjax.errors import a_type, spelled
from rbjax.typing import Array

# x / 255, correctly rounded; XLA turns a division by a constant into a product, which is not.
UNIT_INTERVAL = np.arange(256, dtype=np.float32) / np.float32(255)

ANY_NUMBER = 2**31
"""One more than the largest class or id there can be."""

NO_CLASS = -1
"""The prediction where a model's answer is none: no label is equal to it."""

RANGE_TOLERANCE = 1e-6
"""How far outside [0, 1] an image may lie by rounding alone."""

_AT_ONCE = 2**25
"""Bytes of images, as float32, that are read at once where any number would do."""
_BY_LARGEST = "divide them by the largest value that a pixel can have"
_INSIDE = "subtract the mean and divide by the deviation inside the model"
_SLACK = 1e-3
"""A level that float32 misses from below by less than this is that level, not the one below."""


def to_float(images: np.ndarray | Array) -> Array:
    """Returns images as float32 in [0, 1].

    Args:
        images: uint8, or floating in [0, 1].

    Returns:
        float32 of the same shape; uint8 becomes exactly x / 255, on every backend.
    """
    if check_array(images).dtype == jnp.uint8:
        return jnp.asarray(UNIT_INTERVAL)[images]
    return jnp.asarray(images, jnp.float32)


def truncate(image: Array) -> Array:
    """Returns `floor(255 image) / 255`: an image cut to 8 bits, not rounded.

    Args:
        image: any shape, in [0, 1].

    Returns:
        The same shape and dtype; levels k / 255 stay as they are, float32's error notwithstanding.
    """
    return jnp.floor(255 * image + _SLACK) / 255


def round_off(image: Array) -> Array:
    """Returns `round(255 image) / 255`: an image's nearest 8 bits."""
    return jnp.round(255 * image) / 255


def is_tracing(*trees: Any) -> bool:
    """Returns whether this runs inside a transformation (`jit`, `grad`, `vmap`).

    Args:
        *trees: what a call is of; in some places a traced leaf is the only sign.
    """
    return not is_known((jnp.zeros(()), trees))


def is_known(value: Any) -> bool:
    """Returns whether the values can be read here: not traced, and on this host."""
    is_traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(value))
    return not is_traced and getattr(value, "is_fully_addressable", True)


def check_array(value: Any, *, field: str = "images") -> Any:
    """Returns what is an array of numpy or JAX, and whatever says no dtype, as it is.

    Args:
        value: an array.
        field: what the message calls it.

    Raises:
        ValueError: for another library's array, or another machine's order of bytes.
    """
    dtype = getattr(value, "dtype", None)
    if dtype is None and not isinstance(value, str | bytes | None):
        return value
    is_ours = isinstance(dtype, np.dtype) or type(dtype).__module__.partition(".")[0] == "jax"
    if not is_ours or getattr(dtype, "kind", "") in ("O", "S", "U", "M", "m"):
        of = "" if dtype is None else f" of {dtype}"
        raise ValueError(
            f"{field} is {a_type(value)}{of}; it must be an array of numbers, of numpy or JAX: "
            f"numpy.asarray({field}, numpy.float32)"
        )
    if not getattr(dtype, "isnative", True):
        raise ValueError(
            f"{field} has dtype {dtype}, which is big-endian; JAX takes the byte order of the "
            f'machine: {field}.astype({field}.dtype.newbyteorder("="))'
        )
    return value


def check_images(value: Any, *, field: str = "images") -> None:
    """Checks a batch of images: four axes, uint8 or floating, and [0, 1] where values are known.

    Args:
        value: (B, H, W, C) uint8, or floating in [0, 1].
        field: what the message calls it.

    Raises:
        ValueError: for another shape, another dtype, or values outside [0, 1] by more than 1e-6.
    """
    if not hasattr(value, "dtype"):
        raise ValueError(f"{field} is {a_type(value)}; it must be an array of numpy or JAX")
    check_array(value, field=field)
    shape, dtype = np.shape(value), value.dtype
    if len(shape) != 4:
        raise ValueError(f"{field} has shape {shape}; it must be (batch, height, width, channels)")
    if dtype == np.uint8:
        return
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"{field} has dtype {dtype}; allowed: uint8, or floating in [0, 1]")
    if not is_known(value) or 0 in shape:
        return
    values = np.asarray(value)
    low, high = float(values.min()), float(values.max())
    if not (low >= -RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE):
        hint = f"divide them by 255: {field} / 255" if 100 < high <= 255 else _BY_LARGEST
        hint = hint if low >= 0 else _INSIDE
        hint = hint if math.isfinite(low + high) else "some are not finite"
        raise ValueError(f"{field} range from {low:g} to {high:g}; they must lie in [0, 1]: {hint}")


def check_perturbed(result: Any, images: Array, *, field: str = "perturbation") -> Array:
    """Returns what a perturbation made of images, if it is images like those.

    Args:
        result: what it returned of all of them.
        images: (B, H, W, C).
        field: what the message calls it.

    Raises:
        ValueError: for another shape, or a dtype that is not floating.
    """
    shape: Any = getattr(result, "shape", None)
    dtype: Any = getattr(result, "dtype", None)
    if shape is None or shape != images.shape or not jnp.issubdtype(dtype, jnp.floating):
        what = a_type(result) if shape is None else f"{dtype} of shape {shape[1:]}"
        raise ValueError(
            f"{field} returns {what}; it must return an image like the one it is given, floating "
            f"in [0, 1] of shape {images.shape[1:]}"
        )
    return result


def is_channels_first(image_shape: Sequence[int]) -> bool:
    """Returns whether an image is (C, H, W), as PyTorch's are, and not (H, W, C).

    Args:
        image_shape: three sizes.

    Returns:
        True for 1 to 4 channels before two sizes above 4; more channels cannot be told from rows.
    """
    first, *others = image_shape
    return first <= 4 < min(others)


def check_labels(
    value: Any, *, num_examples: int, num_classes: int, field: str = "labels", lowest: int = 0
) -> Any:
    """Returns class numbers as int32, read by every place that takes labels or predictions.

    Known ones outside [0, num_classes) are refused. Traced ones become num_classes, which no class
    is: the losses make NaN of it.

    Args:
        value: (num_examples,) integers of any width.
        num_examples: B.
        num_classes: K.
        field: what the message calls them.
        lowest: the least number allowed; predictions may be `NO_CLASS`.

    Returns:
        (num_examples,) int32, of JAX if `value` is, else of NumPy.

    Raises:
        ValueError: for another shape or dtype, or a known number out of range.
    """
    num_classes = check_integer("num_classes", num_classes, low=1, high=ANY_NUMBER)
    value = value if isinstance(value, jax.Array) else np.asarray(value)
    if value.shape != (num_examples,):
        is_one_hot = value.ndim == 2 and value.shape[1] in (1, num_classes)
        axis = "[:, 0]" if value.shape[-1:] == (1,) else ".argmax(axis=-1)"
        raise ValueError(
            f"{field} has shape {value.shape}; it must be ({num_examples},), one per image"
            f"{f': {field}{axis}' if is_one_hot else ''}"
        )
    if not jnp.issubdtype(value.dtype, jnp.integer):
        raise ValueError(
            f"{field} has dtype {value.dtype}; it must hold whole numbers, of an integer dtype"
        )
    # Narrow integers do not hold the number that they are compared with.
    wide = value.astype(np.int32) if value.dtype.itemsize < 4 else value
    highest = min(num_classes - 1, int(jnp.iinfo(wide.dtype).max))
    least = max(lowest, int(jnp.iinfo(wide.dtype).min))
    if not is_known(wide):
        is_outside = (wide < least) | (wide > highest)
        return jnp.where(is_outside, min(num_classes, ANY_NUMBER - 1), wide).astype(jnp.int32)
    values = np.asarray(wide)
    wrong = values[(values < least) | (values > highest)]
    if wrong.size:
        raise ValueError(f"{field} holds {wrong[0]}; allowed: {lowest} to {num_classes - 1}")
    return wide.astype(np.int32)


def check_integer(field: str, value: Any, *, low: int, high: int | None = None) -> int:
    """Returns `value` as an int of at least `low` and at most `high`; None: what int32 holds.

    Raises:
        ValueError: if it is not a whole number, or out of range.
    """
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    most = 2**31 - 1 if high is None else high  # what a compiled program holds
    if not whole or not low <= value <= most:
        named = f" and at most {most}" if high is not None or (whole and value > most) else ""
        raise ValueError(
            f"{field} is {spelled(value)}; it must be a whole number of at least {low}{named}"
        )
    return int(value)


def check_mapping(field: str, value: Any, like: str) -> None:
    """Refuses what is no dict.

    Args:
        field: what the message calls it.
        value: a mapping.
        like: one, as it is written.

    Raises:
        ValueError: for anything else.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"{field} is {a_type(value)}; it must be a dict, such as {like}")


def names_of(class_names: Any, num_classes: int) -> list[str]:
    """Returns the names of classes; their numbers, where there are none.

    Args:
        class_names: K names; None: there are none.
        num_classes: K.

    Raises:
        ValueError: for another number of them, or for what is no list of names.
    """
    if class_names is None:
        return [str(label) for label in range(num_classes)]
    if isinstance(class_names, str) or not isinstance(class_names, Iterable):
        raise ValueError(f"class_names is {spelled(class_names)}; it must be a list of names")
    names = list(map(str, class_names))
    if len(names) != num_classes:
        raise ValueError(f"class_names has {len(names)} names; there are {num_classes} classes")
    return names


def check_memory(field: str, value: Any, num_bytes: int) -> None:
    """Refuses what makes arrays that this machine cannot hold.

    Args:
        field: what makes them.
        value: what it is.
        num_bytes: of the arrays.

    Raises:
        ValueError: if they are larger than the machine's memory.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if num_bytes > memory:
        raise ValueError(
            f"{field} is {spelled(value)}; it makes arrays of {num_bytes / 2**30:,.0f} GiB, and "
            f"this machine has {memory / 2**30:,.0f}"
        )


def check_real(field: str, value: Any, *, low: float = 0.0, high: float = math.inf) -> float:
    """Returns `value` as a finite float in [`low`, `high`].

    Raises:
        ValueError: if it is not a number, not finite or out of range.
    """
    numeric = isinstance(value, int | float | np.number | np.ndarray | jax.Array)
    if isinstance(value, bool) or not numeric or np.ndim(value) != 0:
        raise ValueError(f"{field} is {spelled(value)}; it must be a number")
    is_too_large = isinstance(value, int) and abs(value) > sys.float_info.max
    number = math.inf if is_too_large else float(value)
    if not math.isfinite(number) or not low <= number <= high:
        bounds = f"at least {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
        raise ValueError(f"{field} is {number!r}; it must be {bounds}")
    return number


def parts(rows: np.ndarray, image_shape: Sequence[int]) -> list[np.ndarray]:
    """Returns rows in parts whose images take little memory together, at least one image each.

    Args:
        rows: (M,) of a dataset.
        image_shape: of each, (H, W, C).

    Returns:
        Parts of equal size or nearly so, in order; none of no rows.
    """
    count = max(1, _AT_ONCE // max(1, 4 * int(np.prod(image_shape))))
    return np.array_split(rows, -(-len(rows) // count)) if len(rows) else []
