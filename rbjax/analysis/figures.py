"""Figures in which any name can stand, whatever the settings of the person who runs a job.

Matplotlib reads "$...$" in a text as mathematics, and leaves what begins with "_" out of a legend;
here names are shown as they are.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import io
import math
import os
import textwrap
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from absl import logging
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rbjax import atomic
from rbjax.console import printable

_DPI = 150
_DATED: dict[str, tuple[str, ...]] = {"png": (), "pdf": ("CreationDate",), "svg": ("Date",)}
"""The kinds of pictures, each with the fields that would say when it was drawn: left out."""
_LONGEST = 2.6
"""Inches that a name takes at most: longer ones are in smaller letters."""
_SMALLEST = 2.0
"""Points of the smallest letters; less than a pixel cannot be drawn."""
_ALSO: contextvars.ContextVar[Callable[[Figure, Path], None] | None] = contextvars.ContextVar(
    "also", default=None
)
_LETTER = 0.55
"""Width of a letter, of its height."""
_SEEN = 3.6
"""Inches of a wide picture that the window of a telephone shows."""
_HANDLE = 0.6
"""Inches of a legend's entry beside its name."""
_CAPTION = 7.0
"""Points of a caption's letters."""
_OTHER_SCRIPTS = (
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans JP", "Noto Sans SC", "Noto Sans KR"),
    *("WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Droid Sans Fallback", "Arial Unicode MS"),
    *("PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo", "IPAGothic", "NanumGothic"),
    *("Noto Sans Devanagari", "Noto Sans Bengali", "Noto Sans Tamil", "Noto Sans Thai"),
    *("Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Ethiopic", "FreeSans", "Unifont"),
)
"""Families with letters that matplotlib's own font lacks; those that are installed are used."""


def literal(name: object) -> str:
    """Returns the text in which matplotlib shows a name: no mathematics, and one line."""
    return printable(str(name)).replace("$", r"\$")


def size_of(name: object, usual: float) -> float:
    """Returns the size of letters, in points, in which a name has room: `usual`, or smaller."""
    room = 72 * _LONGEST / (_LETTER * max(len(literal(name)), 1))
    return min(usual, max(room, _SMALLEST))


def legend(
    axes: Axes | Figure, entries: Sequence[tuple[str, Any]], *, size: float = 10, **options: Any
) -> None:
    """Adds a legend that shows every name.

    Args:
        axes: where; or the figure around them.
        entries: names, each with the artist it is of.
        size: of its letters, in points, where the names are not too long.
        **options: of its `legend`.
    """
    names, artists = [name for name, _ in entries], [artist for _, artist in entries]
    added = axes.legend(artists, ["name"] * len(names), frameon=False, **options)
    for text, name in zip(added.get_texts(), names, strict=True):
        text.set(text=literal(name), fontsize=size_of(name, size))


def legend_above(figure: Figure, entries: Sequence[tuple[str, Any]], *, size: float = 10) -> None:
    """Adds a legend above a figure, at its left: what a narrow window shows of a wide one.

    Args:
        figure: laid out as `constrained`.
        entries: names, each with the artist it is of.
        size: of its letters, in points.
    """
    longest = max(min(len(literal(name)) * size * _LETTER / 72, _LONGEST) for name, _ in entries)
    columns = max(int(_SEEN / (longest + _HANDLE)), 1)
    placed: Any = {"loc": "outside upper left", "ncols": min(columns, len(entries))}
    legend(figure, entries, size=size, **placed)


def name_ticks(axis: Axis, names: Sequence[object], *, size: float, **options: Any) -> None:
    """Puts names at an axis's ticks 0, 1, 2, ...

    Args:
        axis: of an `Axes`.
        names: one a tick.
        size: of the letters, in points, where a name is not too long.
        **options: of the texts.
    """
    axis.set_ticks(range(len(names)), list(map(literal, names)), **options)
    for text, name in zip(axis.get_ticklabels(), names, strict=True):
        text.set_fontsize(size_of(name, size))


def plain[**Arguments, Result](
    draw: Callable[Arguments, Result],
) -> Callable[Arguments, Result]:
    """Makes a function draw without TeX, and in fonts that have the letters of most languages."""

    @functools.wraps(draw)
    def drawn(*args: Arguments.args, **keywords: Arguments.kwargs) -> Result:
        settings: Any = {"text.usetex": False, "text.parse_math": True}
        settings["font.family"] = [*matplotlib.rcParams["font.family"], *_other_scripts()]
        with matplotlib.rc_context(settings):
            return draw(*args, **keywords)

    return drawn


@functools.cache
def _other_scripts() -> tuple[str, ...]:
    installed = set(font_manager.get_font_names())
    return tuple(name for name in _OTHER_SCRIPTS if name in installed)


@plain
def try_names(names: Iterable[object]) -> None:
    """Draws names without a picture, so that one that cannot be drawn is known beforehand."""
    figure = Figure(figsize=(1, 1), dpi=20)
    for name in names:
        figure.text(0.0, 0.5, literal(name), fontsize=9)
    FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figure.savefig(io.BytesIO(), format="png")


def caption(figure: Figure, text: str) -> None:
    """Writes what is shown below a figure: attack, epsilon and how many images.

    Args:
        figure: laid out as `constrained`.
        text: any; it is broken into lines. An empty one leaves the figure as it is.
    """
    letters = int(72 * figure.get_size_inches()[0] / (_LETTER * _CAPTION))
    lines = textwrap.wrap(literal(text), letters - 4)
    if lines:
        figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=_CAPTION)


def on_cell(share: float) -> str | None:
    """Returns the colour of a number on a cell of "cividis": no page's theme changes it.

    Args:
        share: in [0, 1]; NaN is of a cell without colour, where the page's own is right: None.
    """
    if not math.isfinite(share):
        return None
    return "#FFFFFE" if share <= 0.5 else "#010101"


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Writes a figure completely or not at all; what the picture lacks is one warning.

    Args:
        figure: to be written; equal ones give equal bytes.
        path: of the file, whose suffix says what it is: `.png`, `.pdf` or `.svg`.

    Raises:
        ValueError: for another suffix.
    """
    kind = kind_of(path)
    FigureCanvasAgg(figure)
    with (
        warnings.catch_warnings(record=True) as complaints,
        matplotlib.rc_context({"svg.hashsalt": Path(path).stem}),
        atomic.replace(path) as file,
    ):
        warnings.simplefilter("always")
        figure.savefig(file, format=kind, dpi=_DPI, metadata=dict.fromkeys(_DATED[kind]))
    lacking = False
    for complaint in complaints:
        if "missing from font" in (text := str(complaint.message)):
            lacking = True
        elif "constrained_layout not applied" not in text:
            warnings.warn_explicit(
                complaint.message, complaint.category, complaint.filename, complaint.lineno
            )
    if lacking:
        logging.warning("%s: no font here has all letters of its names", Path(path).name)
    if (also := _ALSO.get()) is not None:
        also(figure, Path(path))


@contextlib.contextmanager
def also(take: Callable[[Figure, Path], None] | None) -> Iterator[None]:
    """Hands every figure that `save` has written within to a function, too.

    Args:
        take: (figure, path), and it may change the figure; None: to none.
    """
    token = _ALSO.set(take)
    try:
        yield
    finally:
        _ALSO.reset(token)


def kind_of(path: str | os.PathLike[str]) -> str:
    """Returns which kind of picture a file is to be, by its suffix.

    Raises:
        ValueError: for a suffix of none that can be written.
    """
    suffix = Path(path).suffix.lower()
    if (kind := suffix.removeprefix(".")) not in _DATED:
        allowed = ", ".join(f".{kind}" for kind in _DATED)
        raise ValueError(
            f"path = {str(path)!r}: its suffix {suffix!r} says no kind of picture; allowed: "
            f"{allowed}"
        )
    return kind
