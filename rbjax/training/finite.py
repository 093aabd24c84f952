"""Whether a run can go on from its numbers, and be judged by them.

The loss of a step says whether the weights before it were good; nothing says that of the last
update but the weights themselves, and what the model answers with them.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rbjax.data import Dataset
from rbjax.errors import NotFiniteError
from rbjax.inputs import NO_CLASS
from rbjax.models import Model
from rbjax.training.checkpoint import Checkpoints
from rbjax.training.predict import predict
from rbjax.training.state import TrainState, evaluation_variables


def check_losses(are_finite: bool, step: int, checkpoints: Checkpoints) -> None:
    """Stops a run whose losses or gradients are not finite.

    Args:
        are_finite: of the steps so far.
        step: updates made.
        checkpoints: of the run.

    Raises:
        NotFiniteError: saying which checkpoint is kept, and what to try.
    """
    if not are_finite:
        what = f"the loss or its gradient stopped being finite in the steps before {step}"
        raise NotFiniteError(f"{what}; {_advice(checkpoints)}")


def check_state(state: TrainState, step: int, checkpoints: Checkpoints) -> None:
    """Stops a run whose last update left weights, or what is learnt beside them, not finite.

    Args:
        state: on the host.
        step: updates made.
        checkpoints: of the run.

    Raises:
        NotFiniteError: naming the arrays.
    """
    if names := _not_finite(state):
        what = f"the updates up to step {step} left {_shortened(names)} not finite"
        raise NotFiniteError(f"{what}; {_advice(checkpoints)}")


def check_logits(
    state: TrainState, step: int, checkpoints: Checkpoints, model: Model, images: Dataset
) -> None:
    """Stops a run whose model has no answer: with large weights its logits are not finite.

    Args:
        state: on the host.
        step: updates made.
        checkpoints: of the run.
        model: the run's.
        images: some training images, one batch.

    Raises:
        NotFiniteError: saying of how many images.
    """
    logits_fn = jax.tree_util.Partial(model.apply, evaluation_variables(state))
    predictions = predict(logits_fn, images, batch_size=images.num_examples)
    if num_wrong := int(np.sum(predictions == NO_CLASS)):
        what = f"after step {step} the logits of {num_wrong} of {len(predictions)} training images"
        raise NotFiniteError(f"{what} are not finite; {_advice(checkpoints)}")


def check_stored(state: Any, step: int, workdir: str) -> None:
    """Refuses weights of a checkpoint that are not finite.

    Args:
        state: as it was read.
        step: of the checkpoint.
        workdir: the run directory.

    Raises:
        NotFiniteError: naming the arrays.
    """
    if names := _not_finite(state):
        raise NotFiniteError(
            f"workdir = {workdir!r}: the checkpoint of step {step} holds {_shortened(names)} with "
            f"values that are not finite; delete checkpoints/{step} in it to go back to an older "
            "one, or train into another workdir"
        )


def _not_finite(state: Any) -> list[str]:
    """Returns the names of the arrays, on the host, that no run can go on from.

    NaN is nowhere right. Infinite weights are wrong, too; what an optimizer or a method remembers
    may be infinite, such as the least loss before the first.
    """
    names = []
    for path, leaf in jax.tree.leaves_with_path(state):
        name, values = jax.tree_util.keystr(path, simple=True, separator="."), np.asarray(leaf)
        if jnp.issubdtype(values.dtype, jnp.inexact):
            remembers = name.startswith(("opt_state", "method_state"))
            is_wrong = np.isnan(values) if remembers else ~np.isfinite(values)
            names += [name] if np.any(is_wrong) else []
    return names


def _advice(checkpoints: Checkpoints) -> str:
    kept = checkpoints.steps()
    where = f"the checkpoint of step {kept[0]} is kept" if kept else "there was no checkpoint yet"
    return f"{where}; try a smaller schedule.learning_rate, or set optimizer.gradient_clip"


def _shortened(names: list[str]) -> str:
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return ", ".join(names[:2]) + more
