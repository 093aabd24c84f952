"""CFA: each class is trained with a radius and a regularization that fit how robust it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rbjax import attacks
from rbjax.attacks import CompiledAttack
from rbjax.methods.class_accuracy import robust_accuracy, validation_set
from rbjax.methods.forms import make_form
from rbjax.methods.idle import refuse_idle
from rbjax.methods.weight_perturbation import worst_weights
from rbjax.options import Count, Epsilon, NotNegative, Share, StepSize, checked
from rbjax.training.method import Epoch, Method, MethodState, Seen, Setting
from rbjax.training.state import TrainState
from rbjax.typing import Array, Key, LogitsFn


class Calibration(NamedTuple):
    """What CFA remembers."""

    accuracy: Any
    """(K,) float32 t, the share of each class that was right under attack in the last epoch."""
    is_calibrated: Any
    """() bool, whether t counts: not before the warm-up ends."""
    is_averaged: Any
    """() bool, whether the average holds an epoch already."""


@checked
def cfa(
    *,
    form: Literal["pgd", "trades"] = "pgd",
    epsilon: Epsilon = 8 / 255,
    step_size: StepSize | None = None,
    num_steps: Count = 10,
    norm: Literal["linf", "l2"] = "linf",
    beta: NotNegative = 6.0,
    lambda_1: NotNegative | None = None,
    lambda_2: NotNegative = 0.5,
    warmup_epochs: Count = 10,
    average_from: Count = 50,
    average_threshold: Share = 0.2,
    attack_batch_norm: Literal["eval", "train"] = "eval",
    weight_perturbation: NotNegative = 0.0,
) -> Method:
    """Returns class-wise calibrated fair adversarial training.

    With t_c, the share of class c that the network got right under attack in the training epoch
    before, each class has its radius (CCM) and in TRADES' form its regularization (CCR):

        epsilon_c = (lambda_1 + t_c) epsilon;  beta_c = (lambda_2 + t_c) beta
        loss = loss(f(x'), y), or (loss(f(x), y) + beta_c KL(f(x) || f(x'))) / (1 + beta_c)

    Where the run keeps an average of the weights (`optimizer.ema_decay`, 0.85 in the paper), the
    average is fairness aware (FAWA): it moves once an epoch, and only by weights under which the
    worst class's accuracy on the validation set, under 10 steps of PGD, is at least the threshold.
    Until the first of them it is the weights as they are.

    Args:
        form: "pgd" or "trades".
        epsilon: radius of the ball before it is calibrated.
        step_size: length of one step, the same for every class; None: epsilon / 4.
        num_steps: steps of the attack.
        norm: of the ball.
        beta: weight of TRADES' divergence before it is calibrated; only in that form.
        lambda_1: base of the radius; None: 0.5 in PGD's form and 0.3 in TRADES'.
        lambda_2: base of the regularization; only in TRADES' form.
        warmup_epochs: epochs in which every class has `epsilon` and `beta`.
        average_from: number of the first epoch that may go into the average; only where one is
            kept.
        average_threshold: least robust accuracy of the worst class of one that does; likewise.
        attack_batch_norm: batch norm while crafting: running statistics, as in the authors' form of
            TRADES and in `pgd` here, or the batch's own, as in their form of PGD, whose attack
            moves the running statistics as well.
        weight_perturbation: gamma of `worst_weights`; 0: none.

    Returns:
        The method; its state is the calibration.  It needs a validation set where an average is
        kept.

    Raises:
        ValueError: for beta or lambda_2 in PGD's form, which has neither.

    Source:
        Wei et al. 2023, arXiv:2303.14460, sections 4.1 to 4.3; bases and warm-up as in the authors'
        code (PKU-ML/CFA, 071f333), whose accuracies are K right / N: right / n_c here.
    """
    is_trades = form == "trades"
    if not is_trades:
        refuse_idle(cfa, "form = 'trades'", beta=beta, lambda_2=lambda_2)
    base = (0.3 if is_trades else 0.5) if lambda_1 is None else lambda_1
    length = epsilon / 4 if step_size is None else step_size
    trained = make_form(form, epsilon=epsilon, step_size=None, num_steps=num_steps, norm=norm)

    def init(key: Key, setting: Setting) -> MethodState:
        del key
        zeros = np.zeros(setting.model.num_classes, np.float32)
        return MethodState(Calibration(zeros, np.bool_(False), np.bool_(False)), ())

    def inputs(
        logits_fn: LogitsFn, keys: Key, state: MethodState, images: Array, labels: Array
    ) -> Array | tuple[Array, ...]:
        radius = epsilon * calibrated(state.replicated, base)
        lengths = jnp.full(radius.shape, length, jnp.float32)
        return trained.inputs(logits_fn, keys, images, labels, epsilon=radius, step_size=lengths)

    def loss(seen: Seen) -> Array:
        own = beta * calibrated(seen.state.replicated, lambda_2)[seen.labels]
        return trained.loss(seen, 1 / (1 + own), own / (1 + own))

    return Method(
        init=init,
        inputs=inputs,
        loss=loss if is_trades else None,
        average=fair_average(
            attacks.pgd(epsilon=epsilon, num_steps=10, norm=norm), average_from, average_threshold
        ),
        after_epoch=calibrated_after(warmup_epochs, row=1 if is_trades else 0),
        attack_batch_norm=attack_batch_norm,
        descend_at=worst_weights(weight_perturbation),
        softmax=is_trades,
    )


def calibrated_after(
    warmup_epochs: int, *, row: int
) -> Callable[[Key, TrainState, Epoch], TrainState]:
    """Returns a method's `after_epoch` that remembers what each class's accuracy was.

    Args:
        warmup_epochs: number of the first epoch after which it does.
        row: of the inputs, that of the perturbed images.
    """

    def after_epoch(key: Key, state: TrainState, epoch: Epoch) -> TrainState:
        del key
        if epoch.number < warmup_epochs:
            return state
        right = epoch.train.correct[row] / np.maximum(epoch.train.count, 1)
        known: Calibration = state.method_state.replicated
        known = known._replace(accuracy=np.asarray(right, np.float32), is_calibrated=np.bool_(True))
        return state._replace(method_state=state.method_state._replace(replicated=known))

    return after_epoch


def calibrated(known: Calibration, base: float) -> Array:
    """Returns what a class's size is multiplied by, base + t_c, (K,); 1 before the warm-up ends."""
    return jnp.where(known.is_calibrated, base + known.accuracy, 1.0)


def fair_average(
    attack: CompiledAttack, average_from: int, threshold: float
) -> Callable[[Key, TrainState, Epoch, float], TrainState]:
    """Returns a method's `average` that takes the epochs whose worst class is robust enough.

    Args:
        attack: what the validation set is attacked with.
        average_from: number of the first epoch that may be taken.
        threshold: least accuracy of the worst class under the attack.
    """

    def average(key: Key, state: TrainState, epoch: Epoch, decay: float) -> TrainState:
        known: Calibration = state.method_state.replicated
        is_fair = epoch.number >= average_from
        if is_fair:
            dataset = validation_set(epoch)
            robust, _ = robust_accuracy(key, epoch.model, state.variables, dataset, attack)
            is_fair = bool(np.min(robust) >= threshold)
        if known.is_averaged and not is_fair:
            return state
        kept = decay if known.is_averaged else 0.0
        known = known._replace(is_averaged=np.bool_(known.is_averaged or is_fair))
        return state._replace(
            ema=jax.tree.map(lambda old, new: moved(old, new, kept), state.ema, state.variables),
            method_state=state.method_state._replace(replicated=known),
        )

    return average


def moved(average: np.ndarray, weights: np.ndarray, decay: float) -> np.ndarray:
    """Returns decay * average + (1 - decay) * weights, in the average's dtype; 0: the weights."""
    return np.asarray(decay * average + (1 - decay) * weights, average.dtype)
