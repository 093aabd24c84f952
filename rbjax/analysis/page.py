"""report.html: everything that was measured of a model, in one file that needs no other.

Pictures are matplotlib's, as SVG in the page: the same as the files beside it, their text is text,
and their black follows the page's colour, so that they are legible in the dark and on paper. They
need no script; sorting the table is all that does. Names come from strangers' data: the template
escapes whatever it is given.
"""

from __future__ import annotations

import base64
import functools
import importlib.resources
import io
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import markupsafe
import matplotlib
import numpy as np
from absl import logging
from PIL import Image

from rbjax import atomic
from rbjax.analysis import classes, plots
from rbjax.analysis.evaluation import Report, results_of
from rbjax.analysis.perturbations import plot_perturbations
from rbjax.analysis.training_curves import plot_training
from rbjax.console import printable
from rbjax.metrics import wilson_interval
from rbjax.sheet import spoken

PAGE_FILE = "report.html"
_THEME: Any = {
    "svg.fonttype": "none",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}
_COLOURS = {"#000000": "currentColor", "#333333": "currentColor", "#dddddd": "var(--line)"}
"""Colours of pictures that follow those of the page."""
_THUMBNAIL = 96
"""Pixels of a datapoint's side, at least."""


class Content(NamedTuple):
    """What a page may show; each part may be missing."""

    title: str
    evaluation: Mapping[str, Any] | None = None
    """As of `read_report`."""
    scores: Mapping[str, Any] | None = None
    """As of rpr.json."""
    columns: Mapping[str, np.ndarray] = {}
    """Heading -> (K,) ratios: of the table, in its order."""
    accuracies: Mapping[str, np.ndarray] = {}
    """Those of the columns that are accuracies: clean, under each attack, and the worst of all."""
    records: Sequence[Mapping[str, Any]] = ()
    """Of a training."""
    perturbations: Mapping[str, np.ndarray] = {}
    """Label -> universal perturbation, (H, W, C) or (K, H, W, C)."""
    images: np.ndarray | None = None
    """(M, H, W, C) images on which these are drawn, and their labels (M,)."""
    labels: np.ndarray | None = None
    datapoints: Mapping[str, np.ndarray] = {}
    """The most and the least robust ones: "images", "labels", "first_failure", "example_ids"."""


class _Picture(NamedTuple):
    caption: str
    svg: markupsafe.Markup


class _Tile(NamedTuple):
    label: str
    share: float
    low: float
    high: float
    note: str


def write(path: Path, content: Content) -> None:
    """Writes the page.

    Args:
        path: of the file; it is replaced as a whole or not at all.
        content: what it shows.
    """
    evaluation, scores = content.evaluation, content.scores
    either: Mapping[str, Any] = evaluation or scores or {}
    names = [printable(str(name)) for name in either.get("class_names", ())]
    text = _template().render(
        title=content.title,
        about=either,
        tiles=_tiles(evaluation, scores),
        weakest=_weakest(content, names),
        table=_table(content, names) if either else None,
        pictures=_pictures(content, names),
        datapoints=_datapoints(content, names),
        diagnostics=(evaluation or {}).get("diagnostics"),
        config=_flat(either.get("config") or {}),
        versions=(evaluation or {}).get("versions") or {},
        command=_command(),
    )
    with atomic.replace(path) as file:
        file.write(text.encode(errors="backslashreplace"))


@functools.cache
def _template() -> jinja2.Template:
    source = importlib.resources.files("rbjax.analysis").joinpath("page.html.jinja")
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["spoken"] = spoken
    environment.filters["percent"] = lambda share: f"{100 * share:.1f}"
    return environment.from_string(source.read_text("utf-8"))


def _tiles(evaluation: Mapping[str, Any] | None, scores: Mapping[str, Any] | None) -> list[_Tile]:
    """Returns the headline: each accuracy and the robust ratio with their intervals."""
    tiles = []
    if evaluation:
        count, said = sum(evaluation["class_counts"]), Report(evaluation).settings
        for label, result in results_of(evaluation):
            correct, number = (sum(result["classwise"][name]) for name in ("correct", "count"))
            low, high = (float(edge) for edge in wilson_interval(correct, number))
            name = (result.get("attack") or {}).get("name")
            note = ", ".join(filter(None, (name, str(said.get(label, "")))))
            if label == "worst":
                note = "correct as they are and under every attack"
            if crafted_on := (result.get("details") or {}).get("crafted_on"):
                note += f", crafted on {crafted_on}"
            note += "" if number == count else f", {number:,} images"
            tiles.append(_Tile(label, correct / max(number, 1), low, high, note))
        if corrupted := evaluation.get("corruptions"):
            share = 1 - corrupted["mean_error"]
            note = f"mean over {len(corrupted['order'])} corruptions, {corrupted['profile']}"
            tiles.append(_Tile("corrupted", share, np.nan, np.nan, note))
    if scores:
        part, config = scores["all"], (scores.get("config") or {}).get("score") or {}
        drawn = f"{scores['max_steps']} draws of {config.get('perturbation', 'a perturbation')}"
        note = f"withstand {drawn}; {scores['num_examples']:,} {scores['split']} images"
        low, high = part["robust_ratio_interval"]
        tiles.append(_Tile("RPR", part["robust_ratio"], low, high, note))
    return tiles


def _weakest(content: Content, names: Sequence[str]) -> list[str]:
    """Returns a sentence for each accuracy: which class is the weakest, which the strongest."""
    lines = []
    for label, column in content.accuracies.items():
        if np.isnan(column).all() or len(column) < 2:
            continue
        low, high = int(np.nanargmin(column)), int(np.nanargmax(column))
        lines.append(
            f"{label}: weakest {names[low]} with {100 * column[low]:.1f} %, strongest "
            f"{names[high]} with {100 * column[high]:.1f} %, mean of the classes "
            f"{100 * np.nanmean(column):.1f} %."
        )
    return lines


def _table(content: Content, names: Sequence[str]) -> dict[str, Any]:
    """Returns headings and rows of the table of classes; numbers, NaN where there is no image."""
    evaluation, scores = content.evaluation, content.scores
    part: Mapping[str, Any] = scores["all"] if scores else {}
    counts = np.asarray(evaluation["class_counts"] if evaluation else part["class_counts"])
    sizes = {"images": counts}
    if evaluation and evaluation["train_class_counts"] is not None:
        sizes = {"trained on": np.asarray(evaluation["train_class_counts"]), **sizes}
    rows = [
        {
            "number": i,
            "name": name,
            "sizes": [int(size[i]) for size in sizes.values()],
            "shares": [float(c[i]) if counts[i] else np.nan for c in content.columns.values()],
        }
        for i, name in enumerate(names)
    ]
    means = [
        float(np.nanmean(c)) if np.isfinite(c).any() else np.nan for c in content.columns.values()
    ]
    return {
        "sizes": list(sizes),
        "columns": list(content.columns),
        "rows": rows,
        "means": means,
        "totals": [int(size.sum()) for size in sizes.values()],
    }


def _pictures(content: Content, names: Sequence[str]) -> dict[str, _Picture]:
    """Returns the pictures for which there are data; one that cannot be drawn is left out."""
    evaluation, scores = content.evaluation, content.scores
    made: dict[str, tuple[str, Callable[[Path], None]]] = {}
    if content.accuracies and evaluation:
        counts = np.asarray(evaluation["class_counts"])
        drawn = np.flatnonzero((counts > 0) | (len(names) <= plots.MANY))
        shown = {label: np.asarray(c)[drawn] for label, c in content.accuracies.items()}
        some: Any = {"class_names": [names[i] for i in drawn.tolist()]}
        how = "; ".join(
            f"{tile.label}: {tile.note}" for tile in _tiles(evaluation, None) if tile.note
        )
        made["accuracy"] = (
            f"Accuracy of each class, with 95 % intervals. {how}",
            lambda path: plots.plot_classwise(path, shown, counts=counts[drawn], **some),
        )
        made["differences"] = (
            "How far each class lies from the mean over the classes, in points: what is left of "
            "the differences when what an attack takes from all classes alike is taken away.",
            lambda path: classes.plot_differences(path, shown, **some),
        )
        made |= _of_counts(evaluation, shown, drawn, some)
        made |= _of_matrices(evaluation, names)
        if corrupted := evaluation.get("corruptions"):
            made["corruptions"] = (
                f"Accuracy of each class under each corruption ({corrupted['profile']}).",
                lambda path: plots.plot_corruptions(path, corrupted, class_names=list(names)),
            )
    if scores:
        made["survival"] = (
            "RPR: the share of images that are still correctly classified after each number of "
            "random draws, of all and of each class, with 95 % bands.",
            lambda path: _draw_survival(path, scores["all"], names),
        )
    if content.perturbations and content.images is not None:
        given: Any = {"images": content.images, "labels": content.labels, "class_names": names}
        made["perturbations"] = (
            "Universal perturbations, each scaled to full contrast with its largest value above, "
            "and an image without and with it.",
            lambda path: plot_perturbations(path, content.perturbations, **given),
        )
    if content.records:
        made["training"] = (
            "What training logged.",
            lambda path: plot_training(path, content.records, class_names=names),
        )
    return {name: picture for name, it in made.items() if (picture := _drawn(name, *it))}


def _of_counts(
    evaluation: Mapping[str, Any], shown: Mapping[str, np.ndarray], drawn: np.ndarray, some: Any
) -> dict[str, tuple[str, Callable[[Path], None]]]:
    """Returns the plot of accuracies over the classes' training images, where these differ."""
    if evaluation["train_class_counts"] is None:
        return {}
    trained = np.asarray(evaluation["train_class_counts"])[drawn]
    if trained.max() < 1.5 * trained.min():  # there is nothing to see
        return {}
    return {
        "sizes": (
            f"Accuracy of each class over the number of its training images, from "
            f"{trained.min():,} to {trained.max():,}.",
            lambda path: classes.plot_sizes(path, shown, train_counts=trained, **some),
        )
    }


def _of_matrices(
    evaluation: Mapping[str, Any], names: Sequence[str]
) -> dict[str, tuple[str, Callable[[Path], None]]]:
    """Returns the plot of the confusions, clean and under the attack that fools the most."""
    results = evaluation["results"]
    attacked = [label for label in evaluation["order"][1:] if "confusion" in results[label]]
    strongest = sorted(attacked, key=lambda label: results[label]["summary"]["accuracy"])[:1]
    shown = [label for label in ("clean", *strongest) if "confusion" in results[label]]
    if not shown:
        return {}
    matrices = {label: results[label]["confusion"] for label in shown}
    return {
        "confusions": (
            "What each class is taken for, in per cent of its images"
            + (f": clean, and under {strongest[0]}." if strongest else "."),
            lambda path: classes.plot_confusions(path, matrices, class_names=names),
        )
    }


def _draw_survival(path: Path, part: Mapping[str, Any], names: Sequence[str]) -> None:
    fields = ("survival", "class_survival", "survival_band", "class_survival_band")
    curves = [np.asarray(part[name], np.float64) for name in fields]
    bands: Any = {"band": curves[2], "class_band": curves[3]}
    plots.plot_survival(path, curves[0], curves[1], class_names=names, **bands)


def _drawn(name: str, caption: str, draw: Callable[[Path], None]) -> _Picture | None:
    """Returns a picture as SVG for the page; None, with a warning, of one that fails."""
    try:
        with tempfile.TemporaryDirectory() as folder, matplotlib.rc_context(_THEME):
            path = Path(folder) / f"{name}.svg"
            draw(path)
            text = path.read_text("utf-8")
    except Exception as error:  # whatever matplotlib, a font or the disk says
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        logging.warning("%s: %s is not drawn: %s", PAGE_FILE, name, printable(reason))
        return None
    return _Picture(caption, markupsafe.Markup(_inline(text, name)))  # noqa: S704


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
    size = f"max-width:{1.2 * width:.0f}pt;min-width:min(30rem,{width:.0f}pt)"
    view = f'viewBox="0 0 {width:g} {height:g}" style="{size}"'
    links = 'xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'<svg {view} {links} aria-hidden="true" focusable="false">{svg[start:]}'


def _datapoints(content: Content, names: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the most and the least robust datapoints, as pictures with what is said of them."""
    if not content.datapoints or not content.scores:
        return []
    at, most = content.datapoints, content.scores["max_steps"]
    shown = []
    for i, image in enumerate(at["images"]):
        failed, name = int(at["first_failure"][i]), names[int(at["labels"][i])]
        said = f"fails at draw {failed}" if failed <= most else f"withstands all {most} draws"
        number = int(at["example_ids"][i])
        shown.append({"picture": _png(image), "name": name, "said": said, "number": number})
    return shown


def _png(image: np.ndarray) -> str:
    """Returns an image (H, W, C), uint8 or in [0, 1], as the address of a PNG."""
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8:
        pixels = np.rint(255 * np.clip(pixels, 0.0, 1.0)).astype(np.uint8)
    pixels = pixels if pixels.shape[-1] == 3 else np.rint(pixels.mean(axis=-1)).astype(np.uint8)
    picture, stream = Image.fromarray(pixels), io.BytesIO()
    if times := _THUMBNAIL // max(picture.size):
        picture = picture.resize(
            (picture.width * times, picture.height * times), Image.Resampling.NEAREST
        )
    picture.thumbnail((2 * _THUMBNAIL, 2 * _THUMBNAIL))
    picture.save(stream, format="png")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _flat(config: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Returns the fields of a config with their values, in order of their names."""
    fields = []
    for name, value in sorted(config.items()):
        if isinstance(value, Mapping):
            fields += _flat(value, f"{before}{name}.")
        else:
            fields.append((f"{before}{name}", "none" if value is None else printable(str(value))))
    return fields


def _command() -> str:
    """Returns the command that runs this process, without the interpreter's folder."""
    program, *rest = sys.orig_argv or [""]
    return printable(shlex.join([Path(program).name, *rest]))[:2000]
