"""A guard against catastrophic overfitting: weights that have collapsed are put back."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rbjax.attacks import CompiledAttack
from rbjax.methods.class_accuracy import measuring_set, robust_accuracy
from rbjax.training.method import Epoch, Method, MethodState, Setting
from rbjax.training.state import TrainState
from rbjax.typing import Array, Key

WATCHED = 512
"""Images that the guard attacks: a standard error of at most 2.2 points; six passes on each are a
twentieth of an epoch's two where that has 30,000 images."""
_ERRORS = 3
"""Standard errors that a loss must exceed."""


class Good(NamedTuple):
    """The most robust epoch so far."""

    number: Array | np.int32
    """() int32; 0 before the first."""
    accuracy: Array | np.float32
    """() float32, robust; 0 before the first epoch."""
    variables: Any
    ema: Any
    """The average of the weights; None where none is kept."""
    opt_state: Any


def guarded(method: Method, attack: CompiledAttack, *, max_loss: float) -> Method:
    """Returns a method that goes back to its most robust weights after a collapse.

    After each epoch the same held-out images, or training images where there is no validation
    split, are attacked.  Where more than the share `max_loss` of the best epoch's accuracy is lost,
    and more than chance explains (three standard errors of the difference), that epoch's weights,
    their average and the optimizer's averages are put back, and training goes on from there with
    the data and the learning rate that come next.  It is said on standard output.  The validation
    comes after that: its figures, the best epoch and early stopping are of the weights that are
    there then; the training figures are of the steps that were made.

    The weights that are watched are those that are trained, also where an average of them is kept:
    they collapse first, the average would take epochs to show it, and goes back with them.

    Args:
        method: one that remembers nothing and has no guard.
        attack: what the weights have to withstand.
        max_loss: share of the best accuracy under attack, in [0, 1].

    Returns:
        The method; its state is a `Good`.
    """

    def init(key: Key, setting: Setting) -> MethodState:
        del key
        nothing = jnp.int32(0), jnp.float32(0.0)
        ema = setting.variables if setting.has_ema else None
        return MethodState(Good(*nothing, setting.variables, ema, setting.opt_state), ())

    def guard(key: Key, state: TrainState, epoch: Epoch) -> TrainState:
        good: Good = state.method_state.replicated
        watched = measuring_set(epoch, WATCHED)
        _, of_all = robust_accuracy(key, epoch.model, state.variables, watched, attack)
        accuracy = np.float32(of_all)
        variance = sum(share * (1 - share) for share in (accuracy, good.accuracy))
        noise = _ERRORS * np.sqrt(variance / watched.num_examples)
        if accuracy >= good.accuracy:
            number = np.int32(epoch.number)
            good = Good(number, accuracy, state.variables, state.ema, state.opt_state)
            return state._replace(method_state=MethodState(good, ()))
        if good.accuracy - accuracy <= max(max_loss * good.accuracy, noise):
            return state
        print(
            f"epoch {epoch.number}: accuracy under attack fell from {good.accuracy:.1%} to "
            f"{accuracy:.1%}: catastrophic overfitting; the weights of epoch {good.number} are back"
        )
        opt_state = jax.tree.map(_earlier, good.opt_state, state.opt_state)
        return state._replace(variables=good.variables, ema=good.ema, opt_state=opt_state)

    return method._replace(init=init, guard=guard)


def _earlier(good: Any, now: Any) -> Any:
    """Averages of gradients go back with the weights; the counts of a schedule go on."""
    return good if jnp.issubdtype(np.asarray(now).dtype, jnp.floating) else now
