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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
from PIL import Image

from rbjax import atomic
from rbjax.analysis import origin
from rbjax.analysis.evaluation import Report, results_of
from rbjax.analysis.measured import corruptions_said
from rbjax.analysis.page_pictures import Content, pictures_of
from rbjax.console import printable
from rbjax.metrics import wilson_interval
from rbjax.sheet import spoken

PAGE_FILE = "report.html"
_THUMBNAIL = 96
"""Pixels of a datapoint's side, at least."""


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
        pictures=pictures_of(content, names),
        datapoints=_datapoints(content, names),
        diagnostics=(evaluation or {}).get("diagnostics"),
        config=_flat(either.get("config") or {}),
        versions=either.get("versions") or {},
        commands=_commands(evaluation, scores),
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
            note = f"mean over {corruptions_said(corrupted, count)}"
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
        if column[low] == column[high]:
            lines.append(f"{label}: all classes alike, {100 * column[low]:.1f} %.")
            continue
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


def _datapoints(content: Content, names: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Returns the least and the most robust datapoints, as pictures with what is said of them.

    None of the least robust withstands all draws: where all others do, there are fewer.
    """
    if not content.datapoints or not content.scores:
        return {}
    at, most = content.datapoints, content.scores["max_steps"]
    shown: dict[str, list[dict[str, Any]]] = {"least": [], "most": []}
    for i, image in enumerate(at["images"]):
        failed, name = int(at["first_failure"][i]), names[int(at["labels"][i])]
        said = f"fails at draw {failed}" if failed <= most else f"withstands all {most} draws"
        of = str(at["files"][i]) if "files" in at else f"example {int(at['example_ids'][i])}"
        which = "least" if i < len(at["images"]) // 2 else "most"
        if which == "least" and failed > most:
            continue
        point = {"picture": _png(image), "name": name, "said": said, "of": printable(of)}
        shown[which].append(point)
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


def _commands(
    evaluation: Mapping[str, Any] | None, scores: Mapping[str, Any] | None
) -> list[tuple[str, str]]:
    """Returns what was done by which command; of reports that do not say, who wrote the page."""
    done = {"evaluated": evaluation or {}, "scored": scores or {}}
    said = {word: str(of["command"]) for word, of in done.items() if of.get("command")}
    if len(set(said.values())) == 1:
        return [("Model " + " and ".join(said), next(iter(said.values())))]
    named = [(f"Model {word}", command) for word, command in said.items()]
    return named or [("Page written", origin.command())]
