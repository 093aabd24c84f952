"""Loading a trained model."""

from __future__ import annotations

import os
from typing import Any

from rbjax import platforms
from rbjax.errors import nearest, spelled
from rbjax.paths import expanded
from rbjax.trained import directory, model_file
from rbjax.trained.run import Run


def load(
    path: str | os.PathLike[str],
    *,
    checkpoint: str | int | None = None,
    tau_norm: float | None = None,
    logit_adjustment: float | None = None,
    model: Any = None,
) -> Run:
    """Loads a trained model.

    Args:
        path: a run directory, or a file that `rbjax.save` wrote.
        checkpoint: of a run directory, "best", "last" or a step; None: what its config says.
        tau_norm: of a run directory, as the field `model.tau_norm`; None: what its config says.
        logit_adjustment: likewise, as `model.logit_adjustment`.
        model: of a file whose architecture is not rbjax's, `package.module:Module` or the class:
            what a file names is not imported unless it is named here, too.

    Returns:
        The model, its weights, and what is known of them. A file needs neither the run directory
        nor the dataset; a run directory needs the dataset where logits are adjusted to its counts.

    Raises:
        ValueError: if there is nothing to load at the path, it is damaged, holds no such
            checkpoint, or needs a module that cannot be imported.
    """
    place = expanded(path)
    choices: dict[str, Any] = {
        "checkpoint": checkpoint,
        "tau_norm": tau_norm,
        "logit_adjustment": logit_adjustment,
    }
    if place.is_dir():
        if model is not None:
            raise ValueError(
                f"model = {spelled(model)}: {str(path)!r} is a run directory, whose config says "
                "which model it has; leave it out"
            )
        platforms.check()
        return directory.read(str(place), **choices)
    if not place.exists():
        beside = place.parent.iterdir() if place.parent.is_dir() else ()
        hint = nearest(place.name, [entry.name for entry in beside])
        raise ValueError(f"path = {str(path)!r}: there is no such run directory or file{hint}")
    for field, value in choices.items():
        if value is not None:
            raise ValueError(
                f"{field} = {spelled(value)}: {str(path)!r} is a file, which holds one model; give "
                "its run directory to choose"
            )
    platforms.check()
    return model_file.read(place, model)
