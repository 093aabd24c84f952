"""The pictures that a report writes into a run directory, each if there are data for it."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from rbjax import atomic, console
from rbjax.analysis import tables
from rbjax.analysis.evaluation import (
    EXAMPLES_FILE,
    Report,
    read_arrays,
    recall_of,
    results_of,
    tested_on,
)
from rbjax.analysis.measured import (
    Levels,
    Measured,
    attacked,
    corrupted,
    described,
    over_epsilon,
    over_passes,
    radii,
)


def plot(
    folder: Path,
    evaluation: dict[str, Any] | None,
    scores: dict[str, Any] | None,
    records: list[dict[str, Any]],
) -> list[str]:
    """Writes the plots for which there are data, and returns the names of those that were."""
    pictures: dict[str, Callable[[Any, Path], None]] = {}
    if records:
        names = (evaluation or scores or {}).get("class_names", ())

        def draw(_: Any, path: Path) -> None:
            from rbjax.analysis.training_curves import plot_training, training_said

            plot_training(path, records, class_names=names, caption=training_said(records))

        pictures["training.png"] = draw
    survival = _survival(scores)
    if survival:
        said: Any = {"caption": of_scores(scores or {})}
        pictures["survival.png"] = lambda plots, path: plots.plot_survival(path, **survival, **said)
    if evaluation:
        pictures |= _of_evaluation(folder, evaluation, survival)
    return [name for name, draw in pictures.items() if is_drawn(folder / name, draw)]


def crafted_on(evaluation: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Returns each universal perturbation's label, and what it was crafted on; not of old ones."""
    details = [(label, result.get("details") or {}) for label, result in results_of(evaluation)]
    return [(label, said["crafted_on"]) for label, said in details if "crafted_on" in said]


def of_scores(scores: Mapping[str, Any]) -> str:
    """Returns what a caption says of a scoring: images, draws, perturbation."""
    config = (scores.get("config") or {}).get("score") or {}
    drawn = f"{scores['max_steps']:,} draws of {config.get('perturbation', 'a perturbation')}"
    return f"up to {drawn}; n\xa0=\xa0{scores['num_examples']:,} {scores['split']} images"


def is_drawn(path: Path, draw: Callable[[Any, Path], None]) -> bool:
    """Draws a picture; one that fails costs itself alone, and a warning that names it."""
    try:
        from rbjax.analysis import plots  # matplotlib takes a second to import

        draw(plots, path)
    except Exception as error:  # whatever matplotlib, a font or the disk says
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        logging.warning("%s is not drawn: %s", path.name, console.printable(reason))
        path.unlink(missing_ok=True)  # one of an earlier report would belong to other numbers
        return False
    return True


def _survival(scores: dict[str, Any] | None) -> dict[str, Any]:
    """Returns what the survival plot shows, {} without scores."""
    if not scores:
        return {}
    arrays = {
        name: np.asarray(scores["all"][name], np.float64)
        for name in ("survival", "class_survival", "survival_band", "class_survival_band")
    }
    return {
        "overall": arrays["survival"],
        "classes": arrays["class_survival"],
        "class_names": scores["class_names"],
        "band": arrays["survival_band"],
        "class_band": arrays["class_survival_band"],
    }


def _of_evaluation(
    folder: Path, evaluation: dict[str, Any], survival: dict[str, Any]
) -> dict[str, Callable[[Any, Path], None]]:
    """Returns what draws each picture of an evaluation."""
    names, class_counts = evaluation["class_names"], np.asarray(evaluation["class_counts"])
    # Of many classes those without images would be gaps.
    drawn = np.flatnonzero((class_counts > 0) | (len(names) <= tables.MANY))
    bars: dict[str, Any] = {
        "columns": {label: recall_of(result)[drawn] for label, result in results_of(evaluation)},
        "class_names": [names[label] for label in drawn],
        "counts": class_counts[drawn],
    }
    found = attacked(Report(evaluation))
    where = tested_on(evaluation["dataset"], evaluation["split"])
    said: Any = {"caption": f"{where}; {described(found)}"}
    pictures: dict[str, Callable[[Any, Path], None]] = {
        "classwise.png": lambda plots, path: plots.plot_classwise(path, **bars, **said),
        "overview.png": _overview(folder, evaluation, survival, bars | said),
        **_of_attacks(found, names, bars, said),
    }
    if corruptions := (evaluation or {}).get("corruptions"):
        accuracy = {
            name: np.asarray(rates, np.float64)[:, drawn]
            for name, rates in corruptions["class_accuracy"].items()
        }
        count = f"n\xa0=\xa0{class_counts.sum():,} images"
        of: Any = {"caption": f"constants of {corruptions['profile']}; {count}"}
        drawn = {**corruptions, "class_accuracy": accuracy}
        of |= {"class_names": bars["class_names"]}
        pictures["corruptions.png"] = functools.partial(_corruptions, drawn, of)
        with contextlib.suppress(ValueError):  # of one severity each
            curves = corrupted(Report(evaluation))
            pictures["severities.png"] = functools.partial(_severities, curves, names)
    if draw := _perturbations(folder, evaluation):
        pictures["perturbations.png"] = draw
    return pictures


def _overview(
    folder: Path, evaluation: dict[str, Any], survival: dict[str, Any], bars: dict[str, Any]
) -> Callable[[Any, Path], None]:
    """Returns what draws the whole run in one picture."""
    arrays = pictured(folder, evaluation)
    deltas = {k: v for k, v in arrays.items() if k.endswith("/perturbation")}
    # Those of one class each are in a picture of their own.
    of = next((name for name, delta in deltas.items() if delta.ndim == 3), "")
    panels = {"survival": survival.get("overall"), "class_survival": survival.get("classes")}
    panels |= {"perturbation": deltas.get(of)}
    crafted = dict(crafted_on(evaluation)).get(of.removesuffix("/perturbation"), "")
    return lambda plots, path: plots.plot_overview(path, **bars, **panels, crafted_on=crafted)


def _of_attacks(
    found: list[Measured], names: Sequence[str], bars: dict[str, Any], said: dict[str, Any]
) -> dict[str, Callable[[Any, Path], None]]:
    """Returns what draws the heat map and the curves, as far as there are several attacks."""
    pictures: dict[str, Callable[[Any, Path], None]] = {}

    def heat_map(_: Any, path: Path) -> None:
        from rbjax.analysis.classes import plot_heat_map

        plot_heat_map(path, bars["columns"], class_names=bars["class_names"], **said)

    def epsilons(_: Any, path: Path) -> None:
        from rbjax.analysis import curves

        by_norm = over_epsilon(found)
        curves.plot_epsilons(path, by_norm, class_names=names, caption=radii(by_norm))

    def passes(_: Any, path: Path) -> None:
        from rbjax.analysis import curves

        curves.plot_passes(path, over_passes(found), class_names=names, **said)

    if found[-1].label == "worst":
        pictures["heat_map.png"] = heat_map
    with contextlib.suppress(ValueError):  # of one size each
        over_epsilon(found)
        pictures["epsilons.png"] = epsilons
    with contextlib.suppress(ValueError):
        if any(len(points) > 1 for _, points in over_passes(found)):
            pictures["passes.png"] = passes
    return pictures


def _corruptions(drawn: dict[str, Any], of: dict[str, Any], _: Any, path: Path) -> None:
    from rbjax.analysis.corrupted import plot_corruptions

    plot_corruptions(path, drawn, **of)


def _severities(of: tuple[list[Levels], str], names: Sequence[str], _: Any, path: Path) -> None:
    from rbjax.analysis import curves

    curves.plot_severities(path, of[0], class_names=names, caption=of[1])


def _perturbations(folder: Path, evaluation: dict[str, Any]) -> Callable[[Any, Path], None] | None:
    """Returns what draws the universal perturbations, if there are any."""
    arrays = pictured(folder, evaluation)
    suffix = "/perturbation"
    deltas = {k.removesuffix(suffix): v for k, v in arrays.items() if k.endswith(suffix)}
    if not deltas or "shown/images" not in arrays:
        return None

    def draw(_: Any, path: Path) -> None:
        from rbjax.analysis.perturbations import plot_perturbations

        plot_perturbations(
            path,
            deltas,
            images=arrays["shown/images"],
            labels=arrays["shown/labels"],
            class_names=evaluation["class_names"],
            crafted_on=dict(crafted_on(evaluation)),
        )

    return draw


def pictured(folder: Path, evaluation: dict[str, Any]) -> dict[str, np.ndarray]:
    """Returns the arrays of an evaluation that pictures show; without the file, none."""
    if not (folder / EXAMPLES_FILE).exists():
        return {}
    try:
        with read_arrays(folder, evaluation) as file:
            names = [n for n in file.files if n.endswith("/perturbation") or n.startswith("shown/")]
            return {name: file[name] for name in names}
    except atomic.DAMAGED as error:
        logging.warning("no picture of perturbations: %s", error)
        return {}
