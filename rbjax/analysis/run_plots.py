"""The pictures that a report writes into a run directory, each if there are data for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from rbjax import atomic, console
from rbjax.analysis.content import Content
from rbjax.analysis.evaluation import (
    EXAMPLES_FILE,
    read_arrays,
    results_of,
)


def plot(folder: Path, content: Content, names: Sequence[str]) -> list[str]:
    """Writes the pictures for which there are data, and returns the names of those that were.

    Args:
        folder: the run directory.
        content: what there is of the run.
        names: of the classes.
    """
    try:
        from rbjax.analysis.run_pictures import made_of  # matplotlib takes a second to import
    except Exception as error:  # whatever matplotlib says
        logging.warning("no plots are drawn: %s", _reason(error))
        return []
    files = {it.file: it.into for it in made_of(content, names).values() if it.into is not None}
    return [name for name, draw in files.items() if is_drawn(folder / name, draw)]


def crafted_on(evaluation: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Returns each universal perturbation's label, and what it was crafted on; not of old ones."""
    details = [(label, result.get("details") or {}) for label, result in results_of(evaluation)]
    return [(label, said["crafted_on"]) for label, said in details if "crafted_on" in said]


def of_scores(scores: Mapping[str, Any]) -> str:
    """Returns what a caption says of a scoring: images, draws, perturbation."""
    config = (scores.get("config") or {}).get("score") or {}
    drawn = f"{scores['max_steps']:,} draws of {config.get('perturbation', 'a perturbation')}"
    return f"up to {drawn}; n\xa0=\xa0{scores['num_examples']:,} {scores['split']} images"


def is_drawn(path: Path, draw: Callable[[Path], None]) -> bool:
    """Draws a picture; one that fails costs itself alone, and a warning that names it."""
    try:
        draw(path)
    except Exception as error:  # whatever matplotlib, a font or the disk says
        logging.warning("%s is not drawn: %s", path.name, _reason(error))
        path.unlink(missing_ok=True)  # one of an earlier report would belong to other numbers
        return False
    return True


def _reason(error: Exception) -> str:
    return console.printable(" ".join(f"{type(error).__name__}: {error}".split()))


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
