"""A trained model, read from its run directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from absl import logging

from rbjax import config as schema
from rbjax.analysis.evaluation import REPORT_FILE, read_json, read_report
from rbjax.analysis.report import weights_of
from rbjax.analysis.robustness import SCORES_FILE, read_scores
from rbjax.config import Config
from rbjax.data import DatasetInfo
from rbjax.errors import nearest, spelled
from rbjax.inputs import check_integer
from rbjax.models import Model
from rbjax.tables import is_path
from rbjax.trained.run import CHECKPOINTS, Run
from rbjax.training import data_card, run_directory, setup
from rbjax.training.log import read_metrics


def read(
    workdir: str,
    *,
    checkpoint: str | int | None,
    tau_norm: float | None,
    logit_adjustment: float | None,
) -> Run:
    """Reads the model of a run directory; its arguments are those of `rbjax.load`."""
    which = _checked(checkpoint)
    config = _with(
        schema.stored(run_directory.read_config(workdir)),
        tau_norm=tau_norm,
        logit_adjustment=logit_adjustment,
    )
    info = _info(config, workdir)
    model = _model(config, info, workdir)
    step, variables = setup.trained_variables(config, workdir, model, checkpoint=which)
    if which is None:  # the last, where nothing was held out to find a best
        has_best = bool(setup.best_checkpoints(workdir).steps())
        is_best = has_best and config.checkpoint.get("which") == "best"
        which = "best" if is_best else "last"
    return Run(
        path=workdir,
        model=setup.evaluated_model(config, workdir, model),
        variables=jax.device_put(variables),
        class_names=info.class_names,
        config=config,
        step=step,
        checkpoint=which if isinstance(which, str) else "step",
        history=_or_warned(lambda: read_metrics(workdir), []),
        report=_of_these(REPORT_FILE, read_report, config, workdir, step),
        scores=_of_these(SCORES_FILE, read_scores, config, workdir, step),
    )


def _model(config: Config, info: DatasetInfo, workdir: str) -> Model:
    try:
        return setup.create_model(config, info)
    except ValueError as error:
        if not is_path(config.model.name):
            raise
        raise ValueError(
            f"{error}; the config of the run in {workdir} names it: start from the folder that "
            "holds it, or set PYTHONPATH"
        ) from None


def _checked(checkpoint: Any) -> str | int | None:
    if checkpoint is None or (isinstance(checkpoint, str) and checkpoint in CHECKPOINTS):
        return checkpoint
    if isinstance(checkpoint, str):
        raise ValueError(
            f"checkpoint = {spelled(checkpoint)}: unknown; allowed: best, last, or a step"
            f"{nearest(checkpoint, CHECKPOINTS)}"
        )
    return check_integer("checkpoint", checkpoint, low=0)


def _with(config: Config, **fields: float | None) -> Config:
    """Returns a run's config with fields of `model` that an evaluation may change."""
    given = {name: value for name, value in fields.items() if value is not None}
    for name, value in given.items():
        given[name], words = schema.GROUPS["model"].own[name].check(value)
        if words:
            raise ValueError(f"{name} = {spelled(value)}: must be {words}")
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.model.update(given)
    return config


def _info(config: Config, workdir: str) -> DatasetInfo:
    """Returns what the model was made for; of one's own data the run keeps it, if it is not older.

    Raises:
        ValueError: of an older one, if other data are there now: their mean was the model's.
    """
    source = setup.own_data(config)
    if source is not None:
        if (kept := data_card.read(workdir, config)) is not None:
            return kept
        setup.check_unchanged(config, source)
    return setup.info(config)


def _of_these[T](
    file: str, read: Callable[[str], T], config: Config, workdir: str, step: int
) -> T | None:
    """Returns the run's evaluation, or its scoring, if it is of these weights."""
    if not (Path(workdir) / file).exists():
        return None
    about = _or_warned(lambda: read_json(Path(workdir) / file), None)
    if about is None or (found := _or_warned(lambda: read(workdir), None)) is None:
        return None
    there, here = weights_of(about), weights_of({"config": config.to_dict(), "step": step})
    for name in ("step", "model.tau_norm", "model.logit_adjustment"):
        if (there[name] or None) != (here[name] or None):
            logging.warning(
                "%s: its %s is of %s %s, the weights loaded are of %s; it is left out",
                workdir,
                file,
                name,
                there[name],
                here[name],
            )
            return None
    return found


def _or_warned[T](read: Callable[[], T], otherwise: T) -> T:
    """Returns what is read beside a model, which can do without it."""
    try:
        return read()
    except ValueError as error:
        logging.warning("%s", error)
        return otherwise
