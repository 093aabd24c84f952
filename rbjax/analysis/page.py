"""report.html: everything that was measured of a model, in one file that needs no other.

Pictures are matplotlib's, as SVG in the page: the same as the files beside it, their text is text,
and their black follows the page's colour, so that they are legible in the dark and on paper. They
need no script; sorting the table is all that does. Names come from strangers' data: the template
escapes whatever it is given.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rbjax.analysis import document, origin
from rbjax.analysis.content import Content
from rbjax.analysis.document import Cell, Made, Table, Tile
from rbjax.analysis.evaluation import Report, results_of
from rbjax.analysis.measured import corruptions_said
from rbjax.analysis.run_pictures import pictures_of
from rbjax.analysis.tables import classwise_sheet
from rbjax.console import printable
from rbjax.metrics import wilson_interval

_THUMBNAIL = 96
"""Pixels of a datapoint's side, at least."""
_NAMED = 2
"""Classes with the same accuracy that are named; more are counted."""
_LESS = ("precision", "f1")
"""Columns that stand behind the accuracies: a narrow window shows the first few."""


def write(path: Path, content: Content) -> None:
    """Writes the page.

    Args:
        path: of the file; it is replaced as a whole or not at all.
        content: what it shows.
    """
    evaluation, scores = content.evaluation, content.scores
    either: Mapping[str, Any] = evaluation or scores or {}
    names = [printable(str(name)) for name in either.get("class_names", ())]
    document.render(
        path,
        "page",
        title=content.title,
        about=either,
        tiles=_tiles(evaluation, scores),
        weakest=_weakest(content, names),
        table=_table(content, names) if either else None,
        images=int(_counts(content).sum()) if either else 0,
        pictures=pictures_of(content, names),
        datapoints=_datapoints(content, names),
        diagnostics=(evaluation or {}).get("diagnostics"),
        made=_made(either, _commands(evaluation, scores)),
    )


def _made(either: Mapping[str, Any], commands: Sequence[tuple[str, str]]) -> Made:
    config = either.get("config") or {}
    return Made(
        commands=commands,
        versions=either.get("versions") or {},
        device=either.get("device"),
        seed=config.get("seed"),
        configs=[("The whole config", document.flat(config))] if config else [],
    )


def _tiles(evaluation: Mapping[str, Any] | None, scores: Mapping[str, Any] | None) -> list[Tile]:
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
            tiles.append(_tile(label, correct / max(number, 1), (low, high), note))
        if corrupted := evaluation.get("corruptions"):
            note = f"mean over {corruptions_said(corrupted, count)}"
            tiles.append(_tile("corrupted", 1 - corrupted["mean_error"], None, note))
    if scores:
        part, config = scores["all"], (scores.get("config") or {}).get("score") or {}
        drawn = f"{scores['max_steps']} draws of {config.get('perturbation', 'a perturbation')}"
        note = f"withstand {drawn}; {scores['num_examples']:,} {scores['split']} images"
        tiles.append(_tile("RPR", part["robust_ratio"], part["robust_ratio_interval"], note))
    return tiles


def _tile(label: str, share: float, interval: Sequence[float] | None, note: str) -> Tile:
    low, high = interval or (np.nan, np.nan)
    said = f"{100 * low:.1f} to {100 * high:.1f}" if low == low else ""
    return Tile(label, f"{100 * share:.1f} %", said, note)


def _weakest(content: Content, names: Sequence[str]) -> list[str]:
    """Returns a sentence for each accuracy: which class is the weakest, which the strongest."""
    lines = []
    for label, column in content.accuracies.items():
        if np.isnan(column).all() or len(column) < 2:
            continue
        low, high = np.nanmin(column), np.nanmax(column)
        if low == high:
            lines.append(f"{label}: all classes alike, {100 * low:.1f} %.")
            continue
        lines.append(
            f"{label}: weakest {_at(low, column, names)}, strongest {_at(high, column, names)}, "
            f"mean of the classes {100 * np.nanmean(column):.1f} %."
        )
    return lines


def _at(share: float, column: np.ndarray, names: Sequence[str]) -> str:
    """Returns which classes have a share, by name where they are few, and the share."""
    alike = [names[i] for i in range(len(column)) if np.isclose(column[i], share, rtol=0)]
    said = f"{len(alike)} classes" if len(alike) > _NAMED else " and ".join(alike)
    return f"{said} with {100 * share:.1f} %"


def _table(content: Content, names: Sequence[str]) -> Table:
    """Returns the table of classes, accuracies first; a class without an image has no shares."""
    evaluation, counts = content.evaluation, _counts(content)
    sizes = {"images": counts}
    if evaluation and evaluation["train_class_counts"] is not None:
        sizes = {"trained on": np.asarray(evaluation["train_class_counts"]), **sizes}
    behind = [heading for heading in content.columns if heading in _LESS]
    order = [*(heading for heading in content.columns if heading not in behind), *behind]
    columns = {k: np.where(counts > 0, content.columns[k], np.nan) for k in order}
    rows = [
        [
            Cell(name, i),
            *(document.share(float(column[i])) for column in columns.values()),
            *(Cell(f"{size[i]:,}", int(size[i])) for size in sizes.values()),
        ]
        for i, name in enumerate(names)
    ]
    below = classwise_sheet(
        "", columns, class_names=names, counts=counts, totals=content.totals or None
    ).below
    foot = [
        [str(below["class"][i]), *(_text(below[k][i]) for k in order)]
        + [f"{size.sum():,}" if below["class"][i] == "all" else "" for size in sizes.values()]
        for i in range(len(below["class"]))
    ]
    caption = "Per cent of each class; all: of all images; spread: the best class less the worst."
    return Table(["class", *order, *sizes], rows, foot, caption)


def _text(ratio: float | str) -> str:
    return ratio if isinstance(ratio, str) else document.share(ratio).text


def _counts(content: Content) -> np.ndarray:
    """Returns the images of each class, (K,)."""
    evaluation, scores = content.evaluation, content.scores
    part: Mapping[str, Any] = scores["all"] if scores else {}
    return np.asarray(evaluation["class_counts"] if evaluation else part["class_counts"])


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
