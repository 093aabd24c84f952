"""The weights of a finished run, for methods that begin with them."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rbjax import config as schema
from rbjax.errors import spelled
from rbjax.models import Model, outside
from rbjax.models.model import Classifier, Whole
from rbjax.training import run_directory, setup

_MAY_DIFFER = ("parent", "name", "num_classes", "image_shape", "dtype", "axis_name")
_MAY_DIFFER += ("dropout", "pool_dropout", "last_dropout", "remat")
"""Fields of modules: what shapes say already, how it is computed, and what acts in training."""


def weights_of(workdir: str, model: Model, *, field: str, besides: str | None = None) -> Any:
    """Returns a run's weights, the ones it is judged by, for a model that is built the same.

    Args:
        workdir: the run directory.
        model: what they are for.
        field: the option of the method that names the run.
        besides: the module whose parameters and settings may be others, such as "head"; None: none.

    Returns:
        {"params": ..., "batch_stats": ...} as numpy arrays.

    Raises:
        ValueError: naming the field, if the directory holds no weights, or those of a model with
            another normalisation, other settings or other layers.
    """
    try:
        run = schema.stored(run_directory.read_config(workdir))
        theirs = setup.create_model(run, setup.info(run))
        variables = setup.trained_variables(run, workdir, theirs)[1]
    except ValueError as error:
        raise ValueError(f"method.{field}: {error}") from None
    for words in (_other_normalization(theirs, model), _other_setting(theirs, model, besides)):
        if words is not None:
            raise ValueError(f"method.{field} = {workdir!r}: {words}")
    here, there = _shapes(model.shapes, besides), _shapes(variables, besides)
    for name in sorted({*here, *there}):
        if here.get(name) != there.get(name):
            raise ValueError(
                f"method.{field} = {workdir!r}: has {name} of shape {there.get(name)}, model "
                f"{model.name!r} one of {here.get(name)}; give model.* as that run has it"
            )
    return variables


def _other_normalization(theirs: Model, ours: Model) -> str | None:
    """Returns in words what a run's images are normalised by, if that is not what ours are."""
    for name in ("mean", "std"):
        there, here = getattr(theirs, name), getattr(ours, name)
        # The mean of one's own images has other last digits on another machine.
        if len(there) != len(here) or not np.allclose(there, here, rtol=1e-5):
            return (
                f"its model normalises by the {name} {there}, this one by {here}; give dataset.* "
                "and model.normalize as that run has them"
            )
    return None


def _other_setting(theirs: Model, ours: Model, besides: str | None) -> str | None:
    """Returns in words what a run's model has been asked to be, if ours is another."""
    there, here = _innermost(theirs.module), _innermost(ours.module)
    same = type(there) is type(here)
    differing = [
        field.name
        for field in (dataclasses.fields(here) if same and here is not None else ())
        if field.name not in _MAY_DIFFER
        and not (besides and field.name.startswith(besides))
        and getattr(there, field.name) != getattr(here, field.name)
    ]
    if same and not differing:
        return None
    if not same or theirs.name != ours.name:
        return f"is of model {theirs.name!r}, and this one is {ours.name!r}; give that model"
    name = differing[0]
    return (
        f"has model.{name} = {spelled(getattr(there, name))}, this run "
        f"{spelled(getattr(here, name))}; give model.* as that run has it"
    )


def _innermost(module: nn.Module | None) -> nn.Module | None:
    """Returns the architecture itself, without normalisation, head, and what adapts it."""
    while isinstance(module, (Classifier, Whole, outside.Adapted, outside.Flat)):
        module = module.backbone if isinstance(module, Classifier) else module.module
    return module


def _shapes(variables: Any, besides: str | None) -> dict[str, tuple[int, ...]]:
    named = {
        jax.tree_util.keystr(path, simple=True, separator="/"): jnp.shape(leaf)
        for path, leaf in jax.tree.leaves_with_path(variables)
    }
    return {name: shape for name, shape in named.items() if f"params/{besides}/" not in name}
