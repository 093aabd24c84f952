"""Drawings in a page: matplotlib's SVG with the page's own colours."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import markupsafe
import matplotlib
from absl import logging
from matplotlib.figure import Figure
from matplotlib.legend import Legend

from rbjax.analysis import figures
from rbjax.analysis.document import Picture
from rbjax.console import printable

_THEME: Any = {
    "svg.fonttype": "none",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}
_COLOURS = {
    "#000000": "currentColor",
    "#333333": "currentColor",
    "#dddddd": "var(--line)",
    "#bbbbbb": "var(--faint)",
}
"""Colours of pictures that follow those of the page."""
_LEGIBLE = 10
"""Pixels of the smallest letters, however narrow the window is: a wide picture scrolls."""
_TINY = 4.0
"""Points of letters below which a picture is not made wider for them: names of great length."""


def drawn(name: str, caption: str, draw: Callable[[Path], None]) -> Picture | None:
    """Returns a picture as SVG for the page; None, with a warning, of one that fails."""
    try:
        with tempfile.TemporaryDirectory() as folder, matplotlib.rc_context(_THEME):
            path = Path(folder) / f"{name}.svg"
            draw(path)
            text = path.read_text("utf-8")
    except Exception as error:  # whatever matplotlib, a font or the disk says
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        logging.warning("report.html: %s is not drawn: %s", name, printable(reason))
        return None
    return Picture(caption, markupsafe.Markup(_inline(text, name)))  # noqa: S704


@contextlib.contextmanager
def gathered() -> Iterator[list[Picture]]:
    """Gives a list to which every figure is added that `figures.save` writes within."""
    found: list[Picture] = []

    def take(figure: Figure, path: Path) -> None:
        for part in (figure, *figure.axes, *(one.get_frame() for one in figure.findobj(Legend))):
            getattr(part, "patch", part).set_facecolor("none")  # the page's own shows through
        with figures.also(None):
            picture = drawn(
                path.stem, _said(figure, path.stem), lambda at: figures.save(figure, at)
            )
        found.extend([picture] if picture else [])

    with figures.also(take):
        yield found


def _said(figure: Figure, name: str) -> str:
    """Returns what a figure says of itself: its titles, or what its axes are."""
    titles = [figure.get_suptitle(), *(axes.get_title() for axes in figure.axes)]
    if not any(titles):
        titles = [label for axes in figure.axes for label in (axes.get_ylabel(), axes.get_xlabel())]
    texts = (" ".join(text.replace(r"\$", "$").split()) for text in titles)
    said = "; ".join(dict.fromkeys(filter(None, texts)))
    return ": ".join(filter(None, (name.replace("_", " "), said)))


def _inline(svg: str, name: str) -> str:
    """Returns an SVG file's drawing for a page: with the page's colours and ids of its own."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for colour, of_page in _COLOURS.items():
        svg = svg.replace(colour, of_page)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#{name}-", svg)
    width, height = (float(x) for x in re.findall(r'(?:width|height)="([\d.]+)pt"', svg)[:2])
    start = svg.index(">") + 1
    size = f"max-width:{1.2 * width:.0f}pt;min-width:{width * _LEGIBLE / _smallest(svg):.0f}px"
    view = f'viewBox="0 0 {width:g} {height:g}" style="{size}"'
    links = 'xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'<svg {view} {links} aria-hidden="true" focusable="false">{svg[start:]}'


def _smallest(svg: str) -> float:
    """Returns the height of a drawing's smallest letters, in its own units."""
    sizes = re.findall(r"\bfont(?:-size)?: ?([\d.]+)px", svg)
    return max(min(map(float, sizes), default=float(_LEGIBLE)), _TINY)
