"""One image under perturbations, corruptions or attacks, as a grid."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from rbjax import prng
from rbjax.analysis import figures
from rbjax.inputs import check_images, to_float
from rbjax.sheet import spoken
from rbjax.typing import Array, Key, Perturbation

Row = Perturbation | Sequence[Perturbation] | np.ndarray | Array
"""What stands in a row."""
_PANEL = 1.05
"""Inches of an image's side."""


def pictures(key: Key, image: Any, rows: Mapping[str, Row], num_draws: int) -> dict[str, Any]:
    """Returns the images of each row.

    Args:
        key: one key; each row draws the same numbers at each strength.
        image: (H, W, C) uint8, or floating in [0, 1].
        rows: as for `analysis.gallery`.
        num_draws: images of a row of a single perturbation.

    Returns:
        By name, (M, H, W, C) float32.

    Raises:
        ValueError: for shapes or values that do not fit, or no row.
    """
    key = prng.check(key)
    if np.ndim(image) != 3:
        raise ValueError(f"image has shape {np.shape(image)}; it must be (height, width, channels)")
    check_images(np.asarray(image)[None])
    whole = np.asarray(to_float(np.asarray(image)))
    if not rows:
        raise ValueError("rows is empty; there must be at least one perturbation")
    found: dict[str, Any] = {}
    for name, row in rows.items():
        of_row = prng.named(key, str(name))
        if callable(row):
            found[name] = np.stack(
                [_apply(name, row, prng.fold_in(of_row, draw), whole) for draw in range(num_draws)]
            )
        elif isinstance(row, Sequence) and len(row) and all(map(callable, row)):
            found[name] = np.stack([_apply(name, one, of_row, whole) for one in row])
        else:
            found[name] = _given(name, row, whole.shape)
    return found


def _apply(name: str, change: Any, key: Key, image: np.ndarray) -> np.ndarray:
    changed = np.asarray(jax.jit(change)(key, image))
    if changed.shape != image.shape:
        raise ValueError(f"rows[{name!r}] returns {changed.shape}; it must be {image.shape}")
    return changed


def _given(name: str, row: Any, shape: tuple[int, ...]) -> np.ndarray:
    images = np.asarray(row)
    images = images[None] if images.ndim == 3 else images
    if images.ndim != 4 or images.shape[1:] != shape or not len(images):
        raise ValueError(
            f"rows[{name!r}] is of shape {np.shape(row)}; it must be (key, image) -> image, "
            f"several of these, or images, {shape} or (M, {', '.join(map(str, shape))})"
        )
    check_images(images)
    return np.asarray(to_float(images))


def sizes_said(image: np.ndarray, rows: Mapping[str, np.ndarray]) -> str:
    """Returns how far each row's images are from the image at most, for a caption.

    Args:
        image: (H, W, C) in [0, 1].
        rows: of `pictures`.
    """
    parts = []
    for name, images in rows.items():
        away = (images.astype(np.float64) - image).reshape(len(images), -1)
        linf, l2 = np.abs(away).max(), np.linalg.norm(away, axis=1).max()
        said = spoken(linf) if np.isfinite(linf) else ""
        said = said if "/" in said else f"{linf:.3g}"
        parts.append(f"{name.replace('_', ' ')}: linf {said}, l2 {l2:.3g}")
    return f"epsilon, the largest change in each row: {'; '.join(parts)}"


@figures.plain
def plot_gallery(
    path: str | os.PathLike[str],
    image: np.ndarray,
    rows: Mapping[str, np.ndarray],
    *,
    headings: Sequence[str] = (),
    caption: str = "",
) -> None:
    """Draws an image and, a row each, what became of it.

    Args:
        path: the picture, `.png`, `.pdf` or `.svg`.
        image: (H, W, C) in [0, 1], the first of every row.
        rows: of `pictures`.
        headings: of the columns after the first; () has none.
        caption: what stands below.
    """
    columns = 1 + max(map(len, rows.values()))
    side = _PANEL * image.shape[0] / image.shape[1]
    layout = ConstrainedLayoutEngine(w_pad=0.01, h_pad=0.01, wspace=0, hspace=0)
    figure = Figure(figsize=(_PANEL * columns + 1.6, side * len(rows) + 0.6), layout=layout)
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for (name, images), line in zip(rows.items(), grid, strict=True):
        for axes in line:
            axes.set_axis_off()
        for axes, one in zip(line, [image, *images], strict=False):
            if one.shape[-1] == 3:
                axes.imshow(np.clip(one, 0, 1), interpolation="nearest")
            else:
                grey = one.mean(axis=-1)
                axes.imshow(grey, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        text = figures.literal(name.replace("_", " "))
        place: Any = {"transform": line[0].transAxes, "ha": "right", "va": "center"}
        line[0].text(-0.06, 0.5, text, fontsize=figures.size_of(text, 9), **place)
    for axes, heading in zip(grid[0], ["image", *headings], strict=False):
        axes.set_title(figures.literal(heading), fontsize=9)
    figures.caption(figure, caption)
    figures.save(figure, path)
