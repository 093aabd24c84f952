"""The weights of a finished run, for methods that begin with them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rbjax import config as schema
from rbjax import prng
from rbjax.models import Model
from rbjax.training import run_directory, setup


def weights_of(workdir: str, model: Model, *, field: str, besides: str | None = None) -> Any:
    """Returns a run's weights, the ones it is judged by, for a model with the same layers.

    Args:
        workdir: the run directory.
        model: what they are for.
        field: the option of the method that names the run.
        besides: the module whose parameters may be others, such as "head"; None: none.

    Returns:
        {"params": ..., "batch_stats": ...} as numpy arrays.

    Raises:
        ValueError: naming the field, if the directory holds no weights, or those of other layers.
    """
    try:
        run = schema.stored(run_directory.read_config(workdir))
        theirs = setup.create_model(run, setup.info(run))
        variables = setup.trained_variables(run, workdir, theirs)[1]
    except ValueError as error:
        raise ValueError(f"method.{field}: {error}") from None
    images = jax.ShapeDtypeStruct((1, *model.image_shape), np.float32)
    expected = dict(jax.eval_shape(model.init, prng.key(0), images))
    here, there = _shapes(expected, besides), _shapes(variables, besides)
    for name in sorted({*here, *there}):
        if here.get(name) != there.get(name):
            raise ValueError(
                f"method.{field} = {workdir!r}: has {name} of shape {there.get(name)}, model "
                f"{model.name!r} one of {here.get(name)}; give model.* as that run has it"
            )
    return variables


def _shapes(variables: Any, besides: str | None) -> dict[str, tuple[int, ...]]:
    named = {
        jax.tree_util.keystr(path, simple=True, separator="/"): jnp.shape(leaf)
        for path, leaf in jax.tree.leaves_with_path(variables)
    }
    return {name: shape for name, shape in named.items() if f"params/{besides}/" not in name}
