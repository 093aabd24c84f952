"""The pictures of a run, each if there are data for it: those of report.html, and those in files.

What is drawn is decided here for both. On the page the caption stands below a picture as text; in a
file it is a part of it, and shorter.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rbjax.analysis import classes, curves, inline, plots
from rbjax.analysis.content import Content
from rbjax.analysis.corrupted import plot_corruptions
from rbjax.analysis.document import Picture
from rbjax.analysis.evaluation import Report, tested_on
from rbjax.analysis.measured import (
    Measured,
    attacked,
    corrupted,
    described,
    over_epsilon,
    over_passes,
    radii,
)
from rbjax.analysis.perturbations import plot_perturbations
from rbjax.analysis.run_plots import crafted_on, of_scores
from rbjax.analysis.training_curves import plot_training, training_said


class Made(NamedTuple):
    """A picture that is yet to be drawn."""

    caption: str
    """On the page."""
    draw: Callable[[Path], None] | None
    """For the page, into an SVG; None: it is not there."""
    file: str = ""
    """Its name in a run directory; "" where it has none there."""
    into: Callable[[Path], None] | None = None
    """Draws that file."""


def pictures_of(content: Content, names: Sequence[str]) -> dict[str, Picture]:
    """Returns the pictures of a page; one that cannot be drawn is left out."""
    found = {}
    for name, it in made_of(content, names).items():
        if it.draw is not None and (picture := inline.drawn(name, it.caption, it.draw)):
            found[name] = picture
    return found


def made_of(content: Content, names: Sequence[str]) -> dict[str, Made]:
    """Returns the pictures for which there are data.

    Args:
        content: of the page.
        names: of the classes.
    """
    evaluation, made = content.evaluation, dict[str, Made]()
    found = attacked(Report(evaluation)) if evaluation else []
    if content.records:
        draw: Any = functools.partial(_training, content.records, names)
        said = training_said(content.records)
        made["training"] = Made(said, draw, "training.png", functools.partial(draw, caption=said))
    if content.scores:
        made["survival"] = _of_survival(content.scores, names)
    if content.accuracies and evaluation:
        made |= _of_accuracies(content, evaluation, found, names)
        made |= _of_matrices(evaluation, found, names)
        made |= _of_corruptions(evaluation, names)
    if content.perturbations and content.images is not None:
        made["perturbations"] = _of_perturbations(content, found, names)
    return made


def _training(
    records: Sequence[Mapping[str, Any]], names: Sequence[str], path: Path, *, caption: str = ""
) -> None:
    plot_training(path, records, class_names=names, caption=caption)


def _of_accuracies(
    content: Content,
    evaluation: Mapping[str, Any],
    found: list[Measured],
    names: Sequence[str],
) -> dict[str, Made]:
    """Returns the plots of the classes' accuracies, clean and under each attack."""
    accuracies = content.accuracies
    how, counts = described(found), np.asarray(evaluation["class_counts"])
    drawn = np.flatnonzero((counts > 0) | (len(names) <= plots.MANY))
    shown = {label: np.asarray(column)[drawn] for label, column in accuracies.items()}
    some: Any = {"class_names": [names[i] for i in drawn.tolist()]}
    bars, bare, said = dict(shown), (), how
    if corruptions := evaluation.get("corruptions"):
        bars["corrupted"] = 1 - np.asarray(corruptions["class_mean_error"], np.float64)[drawn]
        said, bare = f'{how}. "corrupted" is a mean, without intervals', ("corrupted",)
    what = "Accuracy of each class, with 95 % intervals"
    if len(drawn) > plots.NAMED:
        what = (
            f"How the accuracies of {len(drawn):,} classes are distributed: clean and under each "
            "attack sorted by itself, the highest first, without intervals"
        )
    below = f"{tested_on(evaluation['dataset'], evaluation['split'])}; {how}"
    drawn_of: Any = {"counts": counts[drawn], **some}
    made = {
        "accuracy": Made(
            f"{what}. {said}.",
            lambda path: plots.plot_classwise(path, bars, bare=bare, **drawn_of),
            "classwise.png",
            lambda path: plots.plot_classwise(path, shown, caption=below, **drawn_of),
        ),
        "overview": Made(
            "",
            None,
            "overview.png",
            functools.partial(_overview, content, {"columns": shown, **drawn_of}, below),
        ),
        "differences": Made(
            "How far each class lies from the mean over the classes, in points: what is left of "
            "the differences when what an attack takes from all classes alike is taken away. "
            f"{said}.",
            lambda path: classes.plot_differences(path, bars, **some),
        ),
    }
    made |= _of_attacks(found, shown, names, some, below)
    return made | _of_counts(evaluation, shown, drawn, some, how)


def _overview(content: Content, bars: Mapping[str, Any], below: str, path: Path) -> None:
    """Draws the whole run in one picture."""
    # Those of one class each are in a picture of their own.
    of = next((name for name, delta in content.perturbations.items() if delta.ndim == 3), "")
    part = content.scores["all"] if content.scores else {}
    panels: dict[str, Any] = {
        name: np.asarray(part[name], np.float64) if part else None
        for name in ("survival", "class_survival")
    }
    panels["perturbation"] = content.perturbations.get(of)
    panels["crafted_on"] = dict(crafted_on(content.evaluation)).get(of, "")
    plots.plot_overview(path, **bars, **panels, caption=below)


def _of_survival(scores: Mapping[str, Any], names: Sequence[str]) -> Made:
    present = ~np.isnan(np.asarray(scores["all"]["class_survival"], np.float64)).any(axis=1)
    draw: Any = functools.partial(_draw_survival, scores["all"], names)
    return Made(
        "RPR: the share of images that are still correctly classified after each number of random "
        f"draws, with 95 % bands of all and {plots.class_curves_said(int(present.sum()))}; "
        f"{of_scores(scores)}.",
        draw,
        "survival.png",
        functools.partial(draw, caption=of_scores(scores)),
    )


def _of_perturbations(content: Content, found: list[Measured], names: Sequence[str]) -> Made:
    given: Any = {"images": content.images, "labels": content.labels, "class_names": names}
    said = [described([found[0], *(one for one in found if one.label in content.perturbations)])]
    crafted = crafted_on(content.evaluation)
    said += [f"{label}: crafted on {on}" for label, on in crafted]
    deltas = content.perturbations
    return Made(
        "Universal perturbations, each scaled to full contrast with its largest value above, "
        f"and an image without and with it. {'; '.join(said)}".strip(),
        lambda path: plot_perturbations(path, deltas, **given),
        "perturbations.png",
        lambda path: plot_perturbations(path, deltas, crafted_on=dict(crafted), **given),
    )


def _of_attacks(
    found: list[Measured],
    shown: Mapping[str, np.ndarray],
    names: Sequence[str],
    some: Any,
    below: str,
) -> dict[str, Made]:
    """Returns the heat map of several attacks, and curves of those at several sizes or efforts."""
    made: dict[str, Made] = {}
    if found[-1].label == "worst":
        made["heat_map"] = Made(
            'Accuracy of each class under each attack, in per cent. "worst" counts what is '
            f"correctly classified as it is and under every attack. {described(found)}.",
            lambda path: classes.plot_heat_map(path, shown, **some),
            "heat_map.png",
            lambda path: classes.plot_heat_map(path, shown, caption=below, **some),
        )
    by: Any = {"class_names": names}
    with contextlib.suppress(ValueError):  # of one size each
        by_norm = over_epsilon(found)
        made["epsilons"] = Made(
            f"Accuracy against epsilon, of all images with 95 % intervals. {radii(by_norm)}.",
            lambda path: curves.plot_epsilons(path, by_norm, **by),
            "epsilons.png",
            lambda path: curves.plot_epsilons(path, by_norm, caption=radii(by_norm), **by),
        )
    with contextlib.suppress(ValueError):
        families = over_passes(found)
        if any(len(points) > 1 for _, points in families):
            made["passes"] = Made(
                "Accuracy against what the attack costs, in passes of an image through the model. "
                f"{described(found)}.",
                lambda path: curves.plot_passes(path, families, **by),
                "passes.png",
                lambda path: curves.plot_passes(path, families, caption=below, **by),
            )
    return made


def _of_corruptions(evaluation: Mapping[str, Any], names: Sequence[str]) -> dict[str, Made]:
    """Returns the plots of accuracies under corruptions, by class and by severity."""
    if not (part := evaluation.get("corruptions")):
        return {}
    counts = np.asarray(evaluation["class_counts"])
    drawn = np.flatnonzero((counts > 0) | (len(names) <= plots.MANY))
    accuracy = {
        name: np.asarray(rates, np.float64)[:, drawn]
        for name, rates in part["class_accuracy"].items()
    }
    part = {**part, "class_accuracy": accuracy}
    some, count = [names[i] for i in drawn.tolist()], f"n\xa0=\xa0{counts.sum():,} images"
    below = f"constants of {part['profile']}; {count}"
    made = {
        "corruptions": Made(
            "Accuracy of each class under each corruption, the mean over its severities. "
            f"Constants of {part['profile']}; {count}.",
            lambda path: plot_corruptions(path, part, class_names=some),
            "corruptions.png",
            lambda path: plot_corruptions(path, part, class_names=some, caption=below),
        )
    }
    with contextlib.suppress(ValueError):  # of one severity each
        levels, said = corrupted(Report(evaluation))
        made["severities"] = Made(
            "Accuracy against severity, 0 being clean: of all images thick, of the weakest class, "
            f"which is named, in orange, {curves.severities_said(levels)}. {said}.",
            lambda path: curves.plot_severities(path, levels, class_names=names),
            "severities.png",
            lambda path: curves.plot_severities(path, levels, class_names=names, caption=said),
        )
    return made


def _of_counts(
    evaluation: Mapping[str, Any],
    shown: Mapping[str, np.ndarray],
    drawn: np.ndarray,
    some: Any,
    how: str,
) -> dict[str, Made]:
    """Returns the plot of accuracies over the classes' training images, where these differ."""
    if evaluation["train_class_counts"] is None:
        return {}
    trained = np.asarray(evaluation["train_class_counts"])[drawn]
    if trained.max() < 1.5 * trained.min():  # there is nothing to see
        return {}
    return {
        "sizes": Made(
            f"Accuracy of each class over the number of its training images, from "
            f"{trained.min():,} to {trained.max():,}. {how}.",
            lambda path: classes.plot_sizes(path, shown, train_counts=trained, **some),
        )
    }


def _of_matrices(
    evaluation: Mapping[str, Any], found: Sequence[Measured], names: Sequence[str]
) -> dict[str, Made]:
    """Returns the plot of the confusions, clean and under the attack that fools the most."""
    results = evaluation["results"]
    attacked = [label for label in evaluation["order"][1:] if "confusion" in results[label]]
    strongest = sorted(attacked, key=lambda label: results[label]["summary"]["accuracy"])[:1]
    shown = [label for label in ("clean", *strongest) if "confusion" in results[label]]
    if not shown:
        return {}
    matrices = {label: results[label]["confusion"] for label in shown}
    how = described([one for one in found if one.label in shown])
    return {
        "confusions": Made(
            "What each class is taken for, in per cent of its images: clean"
            + (f", and under the attack that fools the most. {how}." if strongest else f". {how}."),
            lambda path: classes.plot_confusions(path, matrices, class_names=names),
        )
    }


def _draw_survival(
    part: Mapping[str, Any], names: Sequence[str], path: Path, *, caption: str = ""
) -> None:
    fields = ("survival", "class_survival", "survival_band", "class_survival_band")
    curves = [np.asarray(part[name], np.float64) for name in fields]
    given: Any = {"band": curves[2], "class_band": curves[3], "caption": caption}
    plots.plot_survival(path, curves[0], curves[1], class_names=names, **given)
