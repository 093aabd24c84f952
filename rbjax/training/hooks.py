"""What a training method does outside the compiled step: before the first, and between epochs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rbjax import atomic, prng, processes
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
            anything else than a training set and weights of the model's form.
    """
    if method.prepare is None:
        return Prepared(train_set)
    path = Path(workdir) / PREPARED_FILE
    if has_begun:
        return Prepared(_read(path, train_set))
    try:
        # Without groups, which have done their work: the method may make other examples.
        given = dataclasses.replace(train_set, groups=None, files=None)
        prepared = method.prepare(prng.named(key, "prepare"), given, model)
    except ValueError as error:  # of a data set that it made, for example
        raise ValueError(f"the method's prepare failed: {error}") from error
    if not isinstance(prepared, Prepared):
        raise ValueError(
            f"the method's prepare returned a {type(prepared).__name__}; it must be an "
            "rbjax.methods.Prepared, whose fields are None for what stays as it is"
        )
    if prepared.variables is not None:
        _check_form("prepare", prepared.variables, model.shapes)
    made = prepared.train_set
    if made is not None:
        _check_train_set(made, model)
    # Always written, so that a run that has begun and lacks it is known to be damaged.
    arrays = {} if made is None else {name: getattr(made, name) for name in _ARRAYS}
    processes.of_first(lambda: atomic.write_npz(path, **arrays))
    if not processes.is_first():  # the last bits of what it made may be others
        return prepared._replace(train_set=_read(path, train_set))
    return prepared if made is not None else prepared._replace(train_set=train_set)


def trained_on(workdir: str | Path, train_set: Dataset) -> Dataset:
    """Returns the training set of a run: what its method prepared, or else the config's.

    Args:
        workdir: the run directory.
        train_set: the config's training set.

    Raises:
        ValueError: if what was prepared cannot be read.
    """
    path = Path(workdir) / PREPARED_FILE
    return _read(path, train_set) if path.exists() else train_set


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
    own = prng.fold_in(prng.named(key, "after_epoch"), epoch.number)
    return _checked("after_epoch", method.after_epoch(own, state, epoch), state)


def guard(method: Method, key: Key, state: TrainState, epoch: Epoch) -> TrainState:
    """Returns the state to validate and continue with after an epoch, which may be an earlier one.

    Args:
        method: one with `guard`.
        key: the run's key.
        state: on the host.
        epoch: what the method is told, without a confusion matrix.

    Raises:
        ValueError: if the method returns a state of another form.
    """
    assert method.guard is not None
    own = prng.fold_in(prng.named(key, "guard"), epoch.number)
    return _checked("guard", method.guard(own, state, epoch), state)


def average(
    method: Method, key: Key, state: TrainState, epoch: Epoch, *, decay: float
) -> TrainState:
    """Returns the state after an epoch with its average moved, as the method has it.

    Args:
        method: one with `average`.
        key: the run's key.
        state: on the host, with an average.
        epoch: what the method is told, without a confusion matrix.
        decay: of the average.

    Raises:
        ValueError: if the method returns a state of another form.
    """
    assert method.average is not None
    own = prng.fold_in(prng.named(key, "average"), epoch.number)
    return _checked("average", method.average(own, state, epoch, decay), state)


def _checked(hook: str, returned: Any, state: TrainState) -> TrainState:
    returned = jax.device_get(returned)
    if not isinstance(returned, TrainState):
        raise ValueError(
            f"the method's {hook} returned a {type(returned).__name__}; it must be the state "
            "it was given, with what changes replaced"
        )
    _check_form(hook, returned, state)
    return returned._replace(step=state.step)  # also with earlier weights, the data move on


_ARRAYS = ("images", "labels", "index", "example_ids")


def _read(path: Path, train_set: Dataset) -> Dataset:
    arrays = atomic.read_npz(path)
    if arrays is None:
        raise ValueError(
            f"{path}: is missing or damaged; it held the training set of a run that has begun. "
            "Restore it, or train into another workdir"
        )
    # An empty file: nothing was prepared. Other examples have not the groups of those.
    return (
        dataclasses.replace(train_set, **arrays, groups=None, files=None) if arrays else train_set
    )


def _check_train_set(made: Any, model: Model) -> None:
    """Refuses a training set that the loop or the model cannot take."""
    start = "the method's prepare returned a training set"
    if not isinstance(made, Dataset):
        raise ValueError(f"{start} that is a {type(made).__name__}; it must be a data.Dataset")
    expected = (made.num_examples, *model.image_shape)
    dtype, shape = made.images.dtype, tuple(made.images.shape)
    if dtype not in (np.uint8, np.float32) or shape != expected:
        raise ValueError(
            f"{start} whose images are {dtype} of shape {shape}; they must be uint8, or float32 in "
            f"[0, 1], of shape {expected}"
        )
    labels, last = np.asarray(made.labels), model.num_classes - 1
    allowed = np.issubdtype(labels.dtype, np.integer)
    if not allowed or not np.all((labels >= 0) & (labels <= last)):
        raise ValueError(f"{start} with other labels than the whole numbers 0 to {last}")
    for name in ("index", "example_ids"):
        if np.shape(getattr(made, name)) != labels.shape:
            raise ValueError(
                f"{start} whose {name} has shape {np.shape(getattr(made, name))}; it must be "
                f"{labels.shape}, one an example"
            )


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
