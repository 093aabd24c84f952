"""The pictures of report.html with what is said of each, each if there are data for it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rbjax.analysis import classes, curves, inline, plots
from rbjax.analysis.corrupted import plot_corruptions
from rbjax.analysis.document import Picture
from rbjax.analysis.evaluation import Report
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

Made = tuple[str, Callable[[Path], None]]
"""A caption, and what draws the picture into a file."""


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
    """The most and the least robust ones: "images", "labels", "first_failure", "example_ids",
    and "files" where images have them."""


def pictures_of(content: Content, names: Sequence[str]) -> dict[str, Picture]:
    """Returns the pictures for which there are data; one that cannot be drawn is left out."""
    evaluation = content.evaluation
    made: dict[str, Made] = {}
    found = attacked(Report(evaluation)) if evaluation else []
    if content.accuracies and evaluation:
        made |= _of_accuracies(evaluation, found, content.accuracies, names)
        made |= _of_matrices(evaluation, found, names)
        made |= _of_corruptions(evaluation, names)
    if content.scores:
        made["survival"] = _of_survival(content.scores, names)
    if content.perturbations and content.images is not None:
        made["perturbations"] = _of_perturbations(content, found, names)
    if content.records:
        made["training"] = (
            training_said(content.records),
            lambda path: plot_training(path, content.records, class_names=names),
        )
    return {name: picture for name, it in made.items() if (picture := inline.drawn(name, *it))}


def _of_accuracies(
    evaluation: Mapping[str, Any],
    found: list[Measured],
    accuracies: Mapping[str, np.ndarray],
    names: Sequence[str],
) -> dict[str, Made]:
    """Returns the plots of the classes' accuracies, clean and under each attack."""
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
    made: dict[str, Made] = {
        "accuracy": (
            f"{what}. {said}.",
            lambda path: plots.plot_classwise(path, bars, counts=counts[drawn], bare=bare, **some),
        ),
        "differences": (
            "How far each class lies from the mean over the classes, in points: what is left of "
            "the differences when what an attack takes from all classes alike is taken away. "
            f"{said}.",
            lambda path: classes.plot_differences(path, bars, **some),
        ),
    }
    made |= _of_attacks(found, shown, names, some)
    return made | _of_counts(evaluation, shown, drawn, some, how)


def _of_survival(scores: Mapping[str, Any], names: Sequence[str]) -> Made:
    present = ~np.isnan(np.asarray(scores["all"]["class_survival"], np.float64)).any(axis=1)
    return (
        "RPR: the share of images that are still correctly classified after each number of random "
        f"draws, with 95 % bands of all and {plots.class_curves_said(int(present.sum()))}; "
        f"{of_scores(scores)}.",
        lambda path: _draw_survival(path, scores["all"], names),
    )


def _of_perturbations(content: Content, found: list[Measured], names: Sequence[str]) -> Made:
    given: Any = {"images": content.images, "labels": content.labels, "class_names": names}
    said = [described([found[0], *(one for one in found if one.label in content.perturbations)])]
    said += [f"{label}: crafted on {on}" for label, on in crafted_on(content.evaluation)]
    return (
        "Universal perturbations, each scaled to full contrast with its largest value above, "
        f"and an image without and with it. {'; '.join(said)}".strip(),
        lambda path: plot_perturbations(path, content.perturbations, **given),
    )


def _of_attacks(
    found: list[Measured], shown: Mapping[str, np.ndarray], names: Sequence[str], some: Any
) -> dict[str, Made]:
    """Returns the heat map of several attacks, and curves of those at several sizes or efforts."""
    made: dict[str, Made] = {}
    if found[-1].label == "worst":
        made["heat_map"] = (
            'Accuracy of each class under each attack, in per cent. "worst" counts what is '
            f"correctly classified as it is and under every attack. {described(found)}.",
            lambda path: classes.plot_heat_map(path, shown, **some),
        )
    with contextlib.suppress(ValueError):  # of one size each
        by_norm = over_epsilon(found)
        made["epsilons"] = (
            f"Accuracy against epsilon, of all images with 95 % intervals. {radii(by_norm)}.",
            lambda path: curves.plot_epsilons(path, by_norm, class_names=names),
        )
    with contextlib.suppress(ValueError):
        families = over_passes(found)
        if any(len(points) > 1 for _, points in families):
            made["passes"] = (
                "Accuracy against what the attack costs, in passes of an image through the model. "
                f"{described(found)}.",
                lambda path: curves.plot_passes(path, families, class_names=names),
            )
    return made


def _of_corruptions(evaluation: Mapping[str, Any], names: Sequence[str]) -> dict[str, Made]:
    """Returns the plots of accuracies under corruptions, by class and by severity."""
    if not (part := evaluation.get("corruptions")):
        return {}
    count = f"n\xa0=\xa0{sum(evaluation['class_counts']):,} images"
    made: dict[str, Made] = {
        "corruptions": (
            "Accuracy of each class under each corruption, the mean over its severities. "
            f"Constants of {part['profile']}; {count}.",
            lambda path: plot_corruptions(path, part, class_names=list(names)),
        )
    }
    with contextlib.suppress(ValueError):  # of one severity each
        levels, said = corrupted(Report(evaluation))
        made["severities"] = (
            "Accuracy against severity, 0 being clean: of all images thick, of the weakest class, "
            f"which is named, in orange, {curves.severities_said(levels)}. {said}.",
            lambda path: curves.plot_severities(path, levels, class_names=names),
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
        "sizes": (
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
        "confusions": (
            "What each class is taken for, in per cent of its images: clean"
            + (f", and under the attack that fools the most. {how}." if strongest else f". {how}."),
            lambda path: classes.plot_confusions(path, matrices, class_names=names),
        )
    }


def _draw_survival(path: Path, part: Mapping[str, Any], names: Sequence[str]) -> None:
    fields = ("survival", "class_survival", "survival_band", "class_survival_band")
    curves = [np.asarray(part[name], np.float64) for name in fields]
    bands: Any = {"band": curves[2], "class_band": curves[3]}
    plots.plot_survival(path, curves[0], curves[1], class_names=names, **bands)
