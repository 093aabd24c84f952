"""One image file: whether it is one, what its header says, and its pixels as 8-bit grey or RGB.

Whatever Pillow reads is upright, as EXIF or XMP says; transparent pixels are shown on white; 16
bits a channel become the upper 8; of several frames the first is read.
"""

from __future__ import annotations

import functools
import io
import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rbjax.data.arrays import read_npy
from rbjax.inputs import is_channels_first

_NOT_IMAGES = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
"""Formats that Pillow names and cannot decode, or decodes by running another program."""
_MODES = {1: "L", 3: "RGB"}
_ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
"""Of an interlaced PNG's passes: the first column and row, and the steps between them."""
_GREY = ("1", "L", "LA", "La")
_EIGHT_BITS = {*_GREY, "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"}
_DEEP = ("I;16", "I;16L", "I;16B", "I;16N")
DEEP, FRAMES, TRANSPARENT = (
    "with 16 bits a channel, of which the upper 8 are kept",
    "with several frames, of which the first is read",
    "with transparency, shown on white",
)
"""What is said of images that are not read as they are stored."""


class Header(NamedTuple):
    """What is known of an image before it is decoded."""

    channels: int
    """1 if it is grey, 3 if it has colours; the bands of a .npy file."""
    changes: tuple[str, ...] = ()
    """Of DEEP, FRAMES, TRANSPARENT."""


def is_image(file: Path) -> bool:
    """Returns whether a file is read as an image, by its suffix, or else by how it begins."""
    suffix = file.suffix.lower()
    if suffix == ".npy" or suffix in _suffixes():
        return True
    stat = file.stat()
    return _begins_as_image(file, stat.st_size, stat.st_mtime_ns)


def header(file: Path, content: bytes) -> Header:
    """Reads the header of an image.

    Args:
        file: its name.
        content: all its bytes.

    Raises:
        ValueError: naming the file, if it cannot be read.
    """
    if file.suffix.lower() == ".npy":
        return Header(_bands(file, content, None).shape[2])
    try:
        with _open(file, content) as opened:
            if opened.format == "PNG":
                _check_png(content)
            is_grey = opened.mode in (*_GREY, *_DEEP, "I", "F")
            is_animated = getattr(opened, "is_animated", False)
            changes = ((DEEP, _is_deep(opened)), (FRAMES, is_animated))
            changes = (*changes, (TRANSPARENT, opened.has_transparency_data))
            return Header(1 if is_grey else 3, tuple(said for said, holds in changes if holds))
    except Exception as error:  # Pillow's readers raise whatever a damaged file leads to
        raise _unreadable(file, error) from None


def read(file: Path, channels: int) -> np.ndarray:
    """Reads an image.

    Args:
        file: its name.
        channels: 1, grey, or 3; those of a .npy file.

    Returns:
        (H, W, C) uint8.

    Raises:
        ValueError: naming the file, if it cannot be read.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise _unreadable(file, error) from None
    if file.suffix.lower() == ".npy":
        return _bands(file, content, channels)
    try:
        if channels not in _MODES:
            raise ValueError(f"has 1 or 3 channels, not {channels}; store bands as .npy (H, W, C)")
        with _open(file, content) as opened:
            image = _eight_bits(opened)
            turn = 1 if opened.format == "TIFF" else _orientation(opened)  # Pillow turns TIFF
            image = image.convert(_MODES[channels])
            image = image if turn == 1 else image.transpose(_turns()[turn])
        return np.array(image).reshape(image.height, image.width, channels)
    except Exception as error:  # as in `header`
        raise _unreadable(file, error) from None


def _open(file: Path, content: bytes) -> Any:
    from PIL import Image

    formats = [name for name, begins in _formats().items() if begins]
    own = _suffixes().get(file.suffix.lower())  # TGA and a few others begin with nothing of theirs
    return Image.open(io.BytesIO(content), formats=[*formats, *([own] if own else [])])


def _eight_bits(opened: Any) -> Any:
    """Returns an image with 8 bits a channel and nothing transparent; decodes it."""
    from PIL import Image

    is_12_bits = any(";12" in str(args) for *_, args in opened.tile)  # TIFF's, not scaled by Pillow
    opened.load()
    mode, transparent = opened.mode, opened.has_transparency_data
    if mode in _DEEP or (mode == "I" and opened.format == "PPM"):  # which Pillow scales to 16 bits
        values = np.asarray(opened).astype(np.uint16)
        grey = (values >> (4 if is_12_bits else 8)).astype(np.uint8)
        if transparent:
            grey[values == opened.info["transparency"]] = 255
        return Image.fromarray(grey)
    if mode in ("I", "F"):
        raise ValueError(f"has more than 8 bits a channel ({mode}), of no known range; at most 16")
    if mode not in _EIGHT_BITS:
        raise ValueError(f"is in the colour space {mode}; store it as RGB")
    if not transparent:
        return opened
    image = opened.convert("LA") if mode == "La" else opened
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def _check_png(content: bytes) -> None:
    """Refuses a PNG file of more or fewer pixels than it says; Pillow fills or drops rows."""
    place, data, shape = 8, [], (0, 0, 0, 0, 0, 0, 0)
    while place + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        if kind == b"IHDR":
            shape = struct.unpack_from(">IIBBBBB", content, place + 8)
        elif kind == b"IDAT":
            data.append(content[place + 8 : place + 8 + length])
        place += 12 + length
    width, height, depth, colour, *_, is_interlaced = shape
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    passes = _ADAM7 if is_interlaced else ((0, 0, 1, 1),)
    needed = 0
    for left, top, right, down in passes:
        columns, rows = -(-(width - left) // right), -(-(height - top) // down)
        needed += rows * (1 + -(-columns * bits // 8)) if columns > 0 and rows > 0 else 0
    present = len(zlib.decompressobj().decompress(b"".join(data), needed + 1))
    if present != needed:
        fault = "more" if present > needed else "fewer"
        raise ValueError(f"says {width} x {height} pixels, and holds {fault}")


def _is_deep(opened: Any) -> bool:
    if opened.mode in _DEEP or (opened.mode == "I" and opened.format == "PPM"):
        return True
    raw = [args if isinstance(args, tuple) else (args,) for *_, args in opened.tile]
    if opened.format == "PPM":
        return any(isinstance(value, int) and value > 255 for args in raw for value in args)
    return any(isinstance(value, str) and ";16" in value for args in raw for value in args)


def _orientation(opened: Any) -> int:
    """Returns EXIF's orientation, 1 (upright) if there is none, or none that can be read."""
    try:
        value = opened.getexif().get(0x0112, 1)
    except Exception:  # a damaged EXIF block says nothing; the pixels are sound
        return 1
    return value if value in _turns() else 1


def _turns() -> dict[int, Any]:
    from PIL.Image import Transpose

    return {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }


def _bands(file: Path, content: bytes, channels: int | None) -> np.ndarray:
    try:
        image = read_npy(io.BytesIO(content), len(content))
    except ValueError as error:
        raise ValueError(f"{file}: not a .npy file that can be read ({error})") from None
    if image.ndim == 3 and is_channels_first(image.shape):
        raise ValueError(
            f"{file}: is {image.shape}, channels first; channels come last: store "
            "np.moveaxis(image, 0, -1)"
        )
    if image.dtype != np.uint8 or image.ndim != 3 or channels not in (None, image.shape[2]):
        bands = "C" if channels is None else channels
        raise ValueError(
            f"{file}: is {image.dtype} of shape {image.shape}; must be uint8 (H, W, {bands})"
        )
    return np.ascontiguousarray(image)


def _unreadable(file: Path, error: Exception) -> ValueError:
    reason = str(error).partition("\n")[0] or type(error).__name__
    if reason.startswith("cannot identify"):  # which names an object of Python's
        reason = "it does not begin as any image does"
    return ValueError(f"{file}: not an image that can be read ({reason})")


@functools.cache
def _formats() -> dict[str, bool]:
    """Returns the formats that are read, and whether a file's first bytes tell them."""
    from PIL import Image

    Image.init()
    return {
        name: accept is not None
        for name, (_, accept) in Image.OPEN.items()
        if name not in _NOT_IMAGES
    }


@functools.cache
def _suffixes() -> dict[str, str]:
    from PIL import Image

    readable = _formats()
    return {end: name for end, name in Image.registered_extensions().items() if name in readable}


@functools.lru_cache(maxsize=2**16)
def _begins_as_image(file: Path, size: int, changed: int) -> bool:
    from PIL import Image

    del size, changed  # with them the answer is kept
    try:
        with Image.open(file, formats=[name for name, begins in _formats().items() if begins]):
            return True
    except Exception:  # as in `header`
        return False
