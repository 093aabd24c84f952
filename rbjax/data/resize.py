"""Pictures made to fit a frame: scaled until they cover it, their middle kept."""

from __future__ import annotations

from typing import Any


def cover(picture: Any, height: int, width: int, *, margin: float = 1.0) -> Any:
    """Returns the middle of a picture that was scaled until it covers a frame.

    Args:
        picture: a `PIL.Image.Image`; scaled bilinearly, with antialiasing.
        height: of the frame, in pixels.
        width: of the frame.
        margin: how many times as large as needed it is scaled, at least 1: what is cut off.

    Returns:
        A picture of `height` x `width`.
    """
    from PIL import Image

    scale = margin * max(width / picture.width, height / picture.height)
    columns = max(round(picture.width * scale), width)
    rows = max(round(picture.height * scale), height)
    left, top = (columns - width) // 2, (rows - height) // 2
    scaled = picture.resize((columns, rows), Image.Resampling.BILINEAR)
    return scaled.crop((left, top, left + width, top + height))
