"""What a training method does outside the compiled step: before the first, and between epochs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rbjax import atomic, prng
from rbjax.data import Dataset
from rbjax.models import Model
from rbjax.training.method import Epoch, Method, Prepared
from rbjax.training.state import TrainState
from rbjax.typing import Key

PREPARED_FILE = "prepared.npz"
"""The training set a method made, in the run directory."""


def prepare(
    method: Method,
    key: Key,
    train_set: Dataset,
    model: Model,
    workdir: str | Path,
    *,
    has_begun: bool,
) -> Prepared:
    """Returns what a method prepared: made now, or read back where the run has begun.

    Args:
        method: the method.
        key: the run's key.
        train_set: the config's training set.
        model: the model.
        workdir: the run directory.
        has_begun: whether there is a checkpoint; it holds the weights then.

    Returns:
        The training set, and the initial weights if the method gives any and there is no
        checkpoint yet.

    Raises:
        ValueError: if a run has begun and its training set cannot be read, or the method returns
            weights of another form than the model's.
    """
    if method.prepare is None:
        return Prepared(train_set)
    path = Path(workdir) / PREPARED_FILE
    if not has_begun:
        prepared = method.prepare(prng.named(key, "prepare"), train_set, model)
        if prepared.variables is not None:
            images = jax.ShapeDtypeStruct((1, *model.image_shape), np.float32)
            expected = dict(jax.eval_shape(model.init, jax.random.key(0), images))
            _check_form("prepare", prepared.variables, expected)
        made = prepared.train_set
        # Always written, so that a run that has begun and lacks it is known to be damaged.
        arrays = {} if made is None else {name: getattr(made, name) for name in _ARRAYS}
        atomic.write_npz(path, **arrays)
        return prepared if made is not None else prepared._replace(train_set=train_set)
    arrays = atomic.read_npz(path)
    if arrays is None:
        raise ValueError(
            f"{path}: is missing or damaged; it held the training set of a run that has begun. "
            "Restore it, or train into another workdir"
        )
    return Prepared(dataclasses.replace(train_set, **arrays))


def after_epoch(method: Method, key: Key, state: TrainState, epoch: Epoch) -> TrainState:
    """Returns the state to continue with after an epoch.

    Args:
        method: one with `after_epoch`.
        key: the run's key.
        state: on the host.
        epoch: what the method is told.

    Raises:
        ValueError: if the method returns a state of another form.
    """
    assert method.after_epoch is not None
    own = jax.random.fold_in(prng.named(key, "after_epoch"), epoch.number)
    returned = jax.device_get(method.after_epoch(own, state, epoch))
    _check_form("after_epoch", returned, state)
    return returned._replace(step=state.step)  # also with earlier weights, the data move on


_ARRAYS = ("images", "labels", "index", "example_ids")


def _check_form(hook: str, tree: Any, expected: Any) -> None:
    """Refuses a tree whose names, shapes or dtypes are not those the step is compiled for."""

    def forms(tree: Any) -> dict[str, str]:
        return {
            jax.tree_util.keystr(path, simple=True, separator="."): (
                f"{np.dtype(getattr(leaf, 'dtype', type(leaf)))}{list(np.shape(leaf))}"
            )
            for path, leaf in jax.tree.leaves_with_path(tree)
        }

    here, there = forms(tree), forms(expected)
    for name in sorted({*here, *there}):
        if here.get(name) != there.get(name):
            raise ValueError(
                f"the method's {hook} returned {name} as {here.get(name, 'nothing')}; it must be "
                f"{there.get(name, 'left out')}"
            )
