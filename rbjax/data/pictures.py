"""One encoded image: whether a file is one, what its header says, and its pixels, grey or RGB.

Whatever Pillow reads is upright, as EXIF or XMP says; transparent pixels are shown on white; of
several frames the first is read.  Pixels are 8 bits; grey images of 16 bits also are float32 in
[0, 1], of the full range of the type.  Of colours with 16 bits a channel Pillow reads the upper 8.
"""

from __future__ import annotations

import functools
import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rbjax.data.arrays import read_npy
from rbjax.inputs import UNIT_INTERVAL, is_channels_first

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
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0
"""TIFF's tag that says what a value means, and its value where 0 is white."""
DEEP, FRAMES, TRANSPARENT, TURNED = (
    "with 16 bits a channel, of which the upper 8 are kept",
    "with several frames, of which the first is read",
    "with transparency, shown on white",
    "stored on its side or mirrored, turned upright as EXIF says",
)
"""What is said of images that are not read as they are stored."""


class Header(NamedTuple):
    """What is known of an image before it is decoded."""

    size: tuple[int, int]
    """Height and width, once it is upright."""
    channels: int
    """1 if it is grey, 3 if it has colours; the bands of a .npy file."""
    is_deep: bool = False
    """Whether it is grey of more than 8 bits, all of which can be read."""
    changes: tuple[str, ...] = ()
    """Of DEEP, FRAMES, TRANSPARENT, TURNED."""


def is_image(file: Path) -> bool:
    """Returns whether a file is read as an image, by its suffix, or else by how it begins."""
    suffix = file.suffix.lower()
    if suffix == ".npy" or suffix in _suffixes():
        return True
    stat = file.stat()
    return _begins_as_image(file, stat.st_size, stat.st_mtime_ns)


def header(name: str, content: bytes) -> Header:
    """Reads the header of an image.

    Args:
        name: of its file.
        content: all its bytes.

    Raises:
        ValueError: naming the file, if it cannot be read.
    """
    if name.lower().endswith(".npy"):
        bands = _bands(name, content, None)
        return Header(bands.shape[:2], bands.shape[2])
    try:
        with _open(name, content) as opened:
            if opened.format == "PNG":
                _check_png(content)
            is_deep = _is_deep(opened)
            turn = _turn(opened)
            held = {
                DEEP: is_deep and opened.mode in _EIGHT_BITS,
                FRAMES: getattr(opened, "is_animated", False),
                TRANSPARENT: opened.has_transparency_data,
                TURNED: _orientation(opened) != 1,
            }
            return Header(
                (opened.width, opened.height) if turn >= 5 else (opened.height, opened.width),
                1 if _is_grey(opened) else 3,
                is_deep and not held[DEEP],
                tuple(change for change, holds in held.items() if holds),
            )
    except Exception as error:  # Pillow's readers raise whatever a damaged file leads to
        raise _unreadable(name, error) from None


def read(file: Path, channels: int, dtype: Any = np.uint8) -> np.ndarray:
    """Reads an image file; see `decode`.

    Raises:
        ValueError: naming the file, if it cannot be read.
    """
    return decode(str(file), content_of(file), channels, dtype)


def content_of(file: Path) -> bytes:
    """Returns all bytes of a file.

    Raises:
        ValueError: naming the file, if it cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise _unreadable(str(file), error) from None


def decode(name: str, content: bytes, channels: int, dtype: Any = np.uint8) -> np.ndarray:
    """Returns the pixels of an image.

    Args:
        name: of its file.
        content: all its bytes.
        channels: 1, grey, or 3; those of a .npy file.
        dtype: uint8, to which 16 bits are cut; or float32, of all bits.

    Returns:
        (H, W, C), uint8 or float32 in [0, 1].

    Raises:
        ValueError: naming the file, if it cannot be read.
    """
    whole = np.dtype(dtype) == np.float32
    if name.lower().endswith(".npy"):
        bands = _bands(name, content, channels)
        return UNIT_INTERVAL[bands] if whole else bands
    try:
        if channels not in _MODES:
            raise ValueError(f"has 1 or 3 channels, not {channels}; store bands as .npy (H, W, C)")
        with _open(name, content) as opened:
            turn = _turn(opened)
            if whole and opened.mode not in _EIGHT_BITS and _is_deep(opened):
                image = _deep(opened)
            else:
                image, mode = _eight_bits(opened), _MODES[channels]
                image = image if image.mode == mode else image.convert(mode)
            image = image if turn == 1 else image.transpose(_turns()[turn])
            pixels = np.asarray(image).reshape(image.height, image.width, -1)
        pixels = UNIT_INTERVAL[pixels] if whole and pixels.dtype == np.uint8 else pixels
        return np.repeat(pixels, channels, axis=-1) if pixels.shape[2] < channels else pixels
    except Exception as error:  # as in `header`
        raise _unreadable(name, error) from None


def _open(name: str, content: bytes) -> Any:
    from PIL import Image

    own = _suffixes().get(os.path.splitext(name)[1].lower())
    return Image.open(io.BytesIO(content), formats=_tried(own))


def _eight_bits(opened: Any) -> Any:
    """Returns an image with 8 bits a channel and nothing transparent; decodes it."""
    from PIL import Image

    if opened.mode not in _EIGHT_BITS and _is_deep(opened):
        values, bits = _values(opened)
        grey = (values >> (bits - 8)).astype(np.uint8)
        if opened.has_transparency_data:
            grey[values == opened.info["transparency"]] = 255
        return Image.fromarray(grey)
    opened.load()
    mode, transparent = opened.mode, opened.has_transparency_data
    if mode in ("I", "F"):
        raise ValueError(f"has more than 8 bits a channel ({mode}), of no known range; at most 16")
    if mode not in _EIGHT_BITS:
        raise ValueError(f"is in the colour space {mode}; store it as RGB")
    if not transparent:
        return opened
    image = opened.convert("LA") if mode == "La" else opened
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def _deep(opened: Any) -> Any:
    """Returns a grey image of more than 8 bits as float32 in [0, 1]; decodes it."""
    from PIL import Image

    values, bits = _values(opened)
    grey = values.astype(np.float32) / np.float32(2**bits - 1)
    if opened.has_transparency_data:
        grey[values == opened.info["transparency"]] = 1.0
    return Image.fromarray(grey)


def _values(opened: Any) -> tuple[np.ndarray, int]:
    """Returns the values of a grey image of more than 8 bits, and how many bits they have."""
    is_12_bits = any(";12" in str(args) for *_, args in opened.tile)  # TIFF's, not scaled by Pillow
    bits = 12 if is_12_bits else 16
    values = np.asarray(opened).astype(np.uint16)
    if opened.format == "TIFF" and opened.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        values = np.uint16(2**bits - 1) - values  # which Pillow does for 8 bits, not for more
    return values, bits


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


def _is_grey(opened: Any) -> bool:
    if opened.mode == "P":  # grey as well, where all its colours are
        palette = np.asarray(opened.getpalette("RGB") or [0, 0, 0]).reshape(-1, 3)
        return bool(np.all(palette == palette[:, :1]))
    return opened.mode in (*_GREY, *_DEEP, "I", "F")


def _is_deep(opened: Any) -> bool:
    if opened.mode in _DEEP or (opened.mode == "I" and opened.format == "PPM"):
        return True  # of the latter Pillow scales the values to 16 bits
    if opened.mode in ("I", "F"):
        return False  # among them are 16 bits with a sign, whose range is not known
    raw = [args if isinstance(args, tuple) else (args,) for *_, args in opened.tile]
    if opened.format == "PPM":
        return any(isinstance(value, int) and value > 255 for args in raw for value in args)
    return any(isinstance(value, str) and ";16" in value for args in raw for value in args)


def _orientation(opened: Any) -> int:
    """Returns EXIF's orientation, 1 (upright) if there is none, or none that can be read."""
    if opened.format == "JPEG" and "exif" not in opened.info and "xmp" not in opened.info:
        return 1  # looking for it takes a tenth of what a small image does
    try:
        value = opened.getexif().get(0x0112, 1)
    except Exception:  # a damaged EXIF block says nothing; the pixels are sound
        return 1
    return value if value in _turns() else 1


def _turn(opened: Any) -> int:
    """Returns how an image is to be turned: Pillow itself turns TIFF, and says the upright size."""
    return 1 if opened.format == "TIFF" else _orientation(opened)


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


def _bands(file: str, content: bytes, channels: int | None) -> np.ndarray:
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


def _unreadable(file: str, error: Exception) -> ValueError:
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
def _tried(own: str | None) -> list[str]:
    """Returns the formats that are tried: that of a file's suffix first, most often right."""
    others = [name for name, begins in _formats().items() if begins and name != own]
    return [*([own] if own else []), *others]


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
