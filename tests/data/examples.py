"""Writes files of tf.train.Examples and archives of images, as the published ones are."""

import io
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from rbjax.data.tfrecord import crc32c, masked

BANDS = tuple(f"B{band}" for band in range(1, 12))


def tfrecord(contents: Sequence[bytes]) -> bytes:
    """Returns a TFRecord file."""
    file = b""
    for content in contents:
        length = struct.pack("<Q", len(content))
        file += length + struct.pack("<I", masked(crc32c(length)))
        file += content + struct.pack("<I", masked(crc32c(content)))
    return file


def example(features: Mapping[str, Sequence[bytes] | Sequence[int]]) -> bytes:
    """Returns a serialised tf.train.Example."""
    entries = b""
    for name, values in features.items():
        if isinstance(values[0], bytes):
            kind, content = 1, b"".join(_field(1, bytes(value)) for value in values)  # BytesList
        else:
            kind, content = 3, _field(1, b"".join(_varint(int(value)) for value in values))
        entries += _field(1, _field(1, name.encode()) + _field(2, _field(kind, content)))
    return _field(1, entries)


def droughtwatch(images: np.ndarray, labels: Sequence[int]) -> bytes:
    """Returns a part of Droughtwatch: 11 bands, some bytes longer than is used, and a label."""
    return tfrecord(
        [
            example(
                {
                    **{band: [image[..., i].tobytes() + b"tail"] for i, band in enumerate(BANDS)},
                    "label": [label],
                }
            )
            for image, label in zip(images, labels, strict=True)
        ]
    )


def jpeg(image: np.ndarray) -> bytes:
    """Returns an image as JPEG; grey where it is (H, W)."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=95)
    return file.getvalue()


def write_zip(path: Path, members: Mapping[str, bytes]) -> Path:
    """Writes an archive."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(content)) + content
