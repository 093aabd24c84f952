"""A split's records as TFDS wrote them: read in any order, decoded where they are used."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from rbjax.data.resize import cover

_RESIZED = 256 / 224
"""The shorter side, before the middle is cut out, over that of the image: ImageNet's custom."""


class Records:
    """The examples of a split in ArrayRecord format, as stored."""

    def __init__(self, folder: Path, split: str) -> None:
        """Opens the files; nothing is read yet.

        Args:
            folder: of one version of a dataset, with dataset_info.json.
            split: its name.

        Raises:
            ValueError: if the files cannot be read.
        """
        import tensorflow_datasets as tfds

        self._where = f"{folder}: {split}"
        decoders = {"image": tfds.decode.SkipDecoding()}  # TFDS's own is slower, and asks OpenCV
        # Its decorators hide its types.
        builder: Any = tfds.builder_from_directory(folder, file_format="array_record")
        self.image_shape: tuple[Any, ...] = builder.info.features["image"].shape
        """Height, width, channels; None where images differ."""
        try:
            self._source = builder.as_data_source(split=split, decoders=decoders)
            self._length = len(self._source)
        except Exception as error:  # the reader's own, in C++
            raise ValueError(f"{self._where}: cannot be opened ({_reason(error)})") from None

    def __len__(self) -> int:
        return self._length

    def read(self, rows: list[int]) -> list[dict[str, Any]]:
        """Returns examples, the image still encoded.

        Args:
            rows: their numbers.

        Returns:
            Features by name, of each.

        Raises:
            ValueError: naming the files, if one is damaged.
        """
        try:
            return list(self._source.__getitems__(rows))
        except Exception as error:  # the reader's own, in C++
            raise ValueError(
                f"{self._where}: a record in {rows[0]}..{rows[-1]} is damaged ({_reason(error)}); "
                "delete the folder, and it is prepared anew, or copy it again"
            ) from None

    def image(self, row: int, content: bytes, shape: tuple[int, int, int]) -> np.ndarray:
        """Decodes an image.

        Args:
            row: its number, for errors.
            content: PNG or JPEG.
            shape: height, width and channels wanted; an image of another size is scaled to 8/7 of
                it on its tighter side (bilinear, with antialiasing), and its middle kept.

        Returns:
            `shape` uint8.

        Raises:
            ValueError: naming the record, if it is damaged.
        """
        from PIL import Image

        height, width, channels = shape
        try:
            with Image.open(io.BytesIO(content)) as opened:
                image = opened.convert("RGB" if channels == 3 else "L")
                if image.size != (width, height):
                    image = cover(image, height, width, margin=_RESIZED)
                return np.asarray(image).reshape(shape)
        except (OSError, ValueError, SyntaxError) as error:
            raise ValueError(
                f"{self._where}: image {row} cannot be read ({_reason(error)})"
            ) from None


class RecordImages:
    """The images of a split as an array (N, H, W, C) that is decoded where it is indexed."""

    dtype = np.dtype(np.uint8)

    def __init__(self, records: Records, image_shape: tuple[int, int, int]) -> None:
        """Keeps the records; nothing is read.

        Args:
            records: of the split.
            image_shape: what every image is made to fit.
        """
        self._records = records
        self.shape = (len(records), *image_shape)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, rows: Any) -> np.ndarray:
        numbers = np.arange(len(self))[rows]
        flat = np.atleast_1d(numbers).tolist()
        images = np.empty((len(flat), *self.shape[1:]), np.uint8)
        if flat:
            shape: Any = self.shape[1:]
            for place, example in enumerate(self._records.read(flat)):
                images[place] = self._records.image(flat[place], example["image"], shape)
        return images if np.ndim(numbers) else images[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)


def _reason(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
