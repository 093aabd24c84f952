"""The images of a split: an array in memory, a memory map, or images decoded when indexed."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from rbjax.data.digests import CheckedImages

_RESIZED = 256 / 224
"""The tighter side before the middle is cut out, relative to the result's: usual for ImageNet."""


class ImageArray(Protocol):
    """Anything indexed like (N, H, W, C), such as np.ndarray and np.memmap."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, C)."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """uint8, or float32 of pixels in [0, 1]."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> np.ndarray:
        """Returns the images of a slice or of (M,) integers, in memory."""
        ...


class View:
    """Some rows of images that are not in memory; they are read when indexed."""

    def __init__(self, base: ImageArray, rows: np.ndarray) -> None:
        """Keeps the numbers of the rows.

        Args:
            base: (N, H, W, C).
            rows: (M,) integers in [0, N).
        """
        self._base = base
        self._rows = np.asarray(rows, np.int64)
        self.shape, self.dtype = (len(self._rows), *base.shape[1:]), base.dtype

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: Any) -> np.ndarray:
        return np.asarray(self._base[self._rows[rows]])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)

    def take(self, rows: np.ndarray) -> View:
        """Returns some of the rows; a view of the same base, not of this view."""
        return View(self._base, self._rows[rows])


def is_resident(images: Any) -> bool:
    """Returns whether images are an array in memory."""
    return isinstance(images, np.ndarray) and not isinstance(images, np.memmap)


def take(images: Any, rows: np.ndarray) -> Any:
    """Returns some images, without reading those that are not in memory.

    Args:
        images: (N, H, W, C), an ImageArray.
        rows: (M,) integers in [0, N).

    Returns:
        (M, H, W, C): an array of images in memory, else a View.
    """
    if is_resident(images):
        return images[rows]
    rows = np.arange(len(images))[rows]  # a mask or a slice becomes numbers
    return images.take(rows) if isinstance(images, View) else View(images, rows)


class _Channels:
    """Some channels of images that are not in memory."""

    def __init__(self, base: ImageArray, chosen: Sequence[int]) -> None:
        self._base = base
        self._chosen = list(chosen)
        self.shape, self.dtype = (*base.shape[:-1], len(self._chosen)), base.dtype

    def __len__(self) -> int:
        return len(self._base)

    def __getitem__(self, rows: Any) -> np.ndarray:
        return np.asarray(self._base[rows])[..., self._chosen]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)


def channels(images: Any, chosen: Sequence[int]) -> Any:
    """Returns some channels of images, without reading those that are not in memory.

    Args:
        images: (N, H, W, C), an ImageArray.
        chosen: (D,) integers in [0, C), in the order of the result.

    Returns:
        (N, H, W, D): an array of images in memory, else an ImageArray.
    """
    return images[..., list(chosen)] if is_resident(images) else _Channels(images, chosen)


def base(images: Any) -> Any:
    """Returns the images that a view of rows or channels reads from; other images as they are.

    Those of a file whose blocks are checked are the mapped file.
    """
    while isinstance(images, View | _Channels):
        images = images._base
    return images.base if isinstance(images, CheckedImages) else images


def cover(picture: Any, height: int, width: int) -> Any:
    """Returns the middle of a picture that was scaled until it covers a frame.

    Args:
        picture: a `PIL.Image.Image`; scaled bilinearly, with antialiasing.
        height: of the frame, in pixels.
        width: of the frame.

    Returns:
        A picture of `height` x `width`.
    """
    from PIL import Image

    scale = max(width / picture.width, height / picture.height)
    columns = max(round(picture.width * scale), width)
    rows = max(round(picture.height * scale), height)
    left, top = (columns - width) // 2, (rows - height) // 2
    scaled = picture.resize((columns, rows), Image.Resampling.BILINEAR)
    return scaled.crop((left, top, left + width, top + height))


def resize_and_crop(picture: Any, height: int, width: int) -> Any:
    """Returns the middle of a picture that was scaled to 8/7 of a frame, as is usual for ImageNet.

    Of 224 x 224 it is torchvision's Resize(256) and CenterCrop(224), to the pixel: the tighter side
    is scaled to 256, the other's length is rounded down, halves of a margin to the even number.

    Args:
        picture: a `PIL.Image.Image`; scaled bilinearly, with antialiasing.
        height: of the frame, in pixels.
        width: of the frame.

    Returns:
        A picture of `height` x `width`.
    """
    from PIL import Image

    if width * picture.height >= height * picture.width:
        columns = round(_RESIZED * width)
        rows = max(columns * picture.height // picture.width, height)
    else:
        rows = round(_RESIZED * height)
        columns = max(rows * picture.width // picture.height, width)
    top, left = round((rows - height) / 2), round((columns - width) / 2)
    scaled = picture.resize((columns, rows), Image.Resampling.BILINEAR)
    return scaled.crop((left, top, left + width, top + height))


class Records:
    """The examples of a split in ArrayRecord format, as stored."""

    def __init__(self, folder: Path, split: str) -> None:
        """Opens the files; no record is read yet.

        Args:
            folder: of one version of a dataset, with dataset_info.json.
            split: its name.

        Raises:
            ValueError: if the files cannot be read.
        """
        import tensorflow_datasets as tfds

        self._where = f"{folder}: {split}"
        decoders = {"image": tfds.decode.SkipDecoding()}  # TFDS's own is slower, and needs OpenCV
        # Its decorators hide its types.
        try:
            builder: Any = tfds.builder_from_directory(folder, file_format="array_record")
            self.image_shape: tuple[Any, ...] = builder.info.features["image"].shape
            """Height, width, channels; None where images differ."""
        except Exception as error:  # of TFDS and protobuf, whose JSON it is
            raise ValueError(
                f"{folder}: features.json or dataset_info.json is damaged ({_reason(error)}); "
                "delete the folder, and it is prepared again, or copy it again"
            ) from None
        try:
            self._source = builder.as_data_source(split=split, decoders=decoders)
            self._length = len(self._source)
        except Exception as error:  # of the reader, in C++
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
        except Exception as error:  # of the reader, in C++
            raise ValueError(
                f"{self._where}: a record in {rows[0]}..{rows[-1]} is damaged ({_reason(error)}); "
                "delete the folder, and it is prepared again, or copy it again"
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
                    image = resize_and_crop(image, height, width)
                return np.asarray(image).reshape(shape)
        except (OSError, ValueError, SyntaxError) as error:
            raise ValueError(
                f"{self._where}: image {row} cannot be read ({_reason(error)})"
            ) from None


class RecordImages:
    """The images of a split as an array (N, H, W, C), decoded when indexed."""

    dtype = np.dtype(np.uint8)

    def __init__(self, records: Records, image_shape: tuple[int, int, int]) -> None:
        """Keeps the records; none is read.

        Args:
            records: of the split.
            image_shape: to which every image is scaled and cropped.
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
