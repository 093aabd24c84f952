"""Universal perturbations as pictures: each by itself, and what it does to an image."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from rbjax.analysis import figures
from rbjax.analysis.figures import literal, size_of
from rbjax.attacks import apply_universal
from rbjax.inputs import check_labels

_PER_ROW = 10
"""Perturbations beside each other."""
_MOST = 20
"""Perturbations of one label that are drawn: of many classes, those with the first numbers."""
_PANEL = 1.25
"""Inches of a picture's side."""


@figures.plain
def plot_perturbations(
    path: str | os.PathLike[str],
    perturbations: Mapping[str, ArrayLike],
    *,
    images: ArrayLike,
    labels: ArrayLike | None = None,
    class_names: Sequence[str] | None = None,
    crafted_on: Mapping[str, str] | None = None,
) -> None:
    """Draws perturbations, each above an image without it and with it.

    A perturbation is grey where it is 0, and its largest value is black or white (or a full
    colour): it is scaled individually, and its size stands above it. The images are as they are.

    Args:
        path: the picture, `.png`, `.pdf` or `.svg`.
        perturbations: label -> (H, W, C), one for all images, or (K, H, W, C), one a class, in
            pixel units. Each of the latter begins a row; of more than 20 the first are drawn.
        images: (N, H, W, C) uint8, or floating in [0, 1]; at least one. The perturbation of a class
            is drawn on its first image, all others on the first image.
        labels: (N,) integers, the images' classes; None: each perturbation is drawn on the image of
            its own number, from the first again where there are fewer.
        class_names: K names; None: the numbers.
        crafted_on: label -> what images it was crafted on, which is said above; None: nothing is.

    Raises:
        ValueError: for no perturbation or image, or shapes that do not fit together.
    """
    images = np.asarray(images)
    columns = [
        column
        for label, delta in perturbations.items()
        for column in _columns(label, np.asarray(delta), images, labels, class_names)
    ]
    if not columns:
        raise ValueError("perturbations is empty; there must be at least one")
    rows: list[list[_Column]] = []
    for column in columns:  # a group of several begins a row of its own
        last = rows[-1] if rows else []
        fits = last and len(last) < _PER_ROW
        if fits and (last[-1].group == column.group or (last[-1].alone and column.alone)):
            last.append(column)
        else:
            rows.append([column])
    width = max(map(len, rows))
    size = (_PANEL * width + 0.9, (3 * _PANEL + 0.5) * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    if crafted_on:
        texts = [f"{label}: crafted on {said}" for label, said in crafted_on.items()]
        lines = [line for text in texts for line in textwrap.wrap(text, int(14 * size[0]))]
        figure.suptitle("\n".join(map(literal, lines)), fontsize=7)
    grid = figure.subplots(3 * len(rows), width, squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
    for i, row in enumerate(rows):
        for j, column in enumerate(row):
            _draw(list(grid[3 * i : 3 * i + 3, j]), column, first=j == 0)
    figures.save(figure, path)


class _Column(NamedTuple):
    """A perturbation and the image on which it is drawn."""

    group: str
    """What it is of; columns of one group with several stand in rows of their own."""
    title: str
    delta: np.ndarray
    image: np.ndarray
    alone: bool
    """Whether it is the only one of its group."""


def _columns(
    group: str,
    delta: np.ndarray,
    images: np.ndarray,
    labels: ArrayLike | None,
    class_names: Sequence[str] | None,
) -> list[_Column]:
    """Returns a label's perturbations, each with its image.

    Raises:
        ValueError: for shapes that do not fit.
    """
    if images.ndim != 4 or len(images) == 0:
        raise ValueError(
            f"images has shape {images.shape}; it must be (N, height, width, channels), N >= 1"
        )
    shape = images.shape[1:]
    if delta.ndim not in (3, 4) or delta.shape[-3:] != shape:
        raise ValueError(
            f"perturbations[{group!r}] has shape {delta.shape}; it must be {shape}, one image's, "
            f"or (K, {', '.join(map(str, shape))}), one a class"
        )
    if delta.ndim == 3:
        return [_Column(group, group, delta, images[0], alone=True)]
    columns = []
    if labels is not None:
        labels = check_labels(np.asarray(labels), num_examples=len(images), num_classes=len(delta))
    for number, one in enumerate(delta[:_MOST]):
        row = number % len(images)
        if labels is not None:
            own = np.flatnonzero(labels == number)
            row = int(own[0]) if len(own) else 0
        name = str(number) if class_names is None else str(class_names[number])
        columns.append(_Column(group, name, one, images[row], alone=False))
    return columns


def _draw(panels: Sequence[Axes], column: _Column, *, first: bool) -> None:
    """Draws a perturbation, the image, and the image with it, from top to bottom."""
    largest = float(np.abs(column.delta).max())
    shown = 0.5 + column.delta / (2 * largest) if largest else np.full_like(column.delta, 0.5)
    names = ("perturbation" if column.alone else column.group, "image", "with it")
    pictures = (
        shown,
        apply_universal(column.image, np.zeros_like(column.delta)),
        apply_universal(column.image, column.delta),
    )
    for axes, name, picture in zip(panels, names, pictures, strict=True):
        picture = np.asarray(picture)
        if picture.shape[-1] == 3:
            axes.imshow(picture, interpolation="nearest")
        else:
            grey = picture.mean(axis=-1)
            axes.imshow(grey, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        if first:
            place: Any = {"transform": axes.transAxes, "ha": "right", "va": "center"}
            size = size_of(name, 8)
            axes.text(-0.06, 0.5, literal(name), rotation=90, fontsize=size, **place)
    title = f"{literal(column.title)}\n{255 * largest:.3g}/255"
    panels[0].set_title(title, fontsize=size_of(column.title, 8))
