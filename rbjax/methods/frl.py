"""FRL: classes whose errors exceed the average by too much get more weight, and larger balls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np

from rbjax import attacks
from rbjax.attacks import CompiledAttack
from rbjax.data import Dataset
from rbjax.methods.class_accuracy import Accuracy, class_accuracy, validation_set
from rbjax.methods.earlier_run import weights_of
from rbjax.methods.forms import make_form
from rbjax.methods.idle import refuse_idle
from rbjax.methods.weight_perturbation import worst_weights
from rbjax.models import Model
from rbjax.options import Count, Epsilon, NotNegative, Range, Share, StepSize, checked
from rbjax.training.method import Epoch, Method, MethodState, Prepared, Seen, Setting
from rbjax.training.state import TrainState
from rbjax.typing import Array, Key, LogitsFn

LEAST_RADIUS, LARGEST_RADIUS = 0.98, 3.0
"""Of a class, over epsilon."""


class Multipliers(NamedTuple):
    """What FRL remembers, each (K,) float32; all 0 at the start."""

    clean: Array | np.ndarray
    """Of the constraint on a class's error; with the next one it makes the weights."""
    boundary: Array | np.ndarray
    """Of the constraint on its boundary error."""
    margin: Array | np.ndarray
    """The same errors added up, which make the radius."""


class Rule(NamedTuple):
    """How a measurement changes the multipliers; see `frl` for the options."""

    reweight_rate: float
    remargin_rate: float
    tolerance: float
    most_weight: float

    def updated(self, known: Multipliers, measured: Accuracy) -> Multipliers:
        """Returns the multipliers after a measurement."""
        clean_error = 1 - measured.clean
        boundary_error = measured.clean - measured.robust
        too_much = clean_error - (1 - measured.clean_of_all) - self.tolerance
        boundary_of_all = measured.clean_of_all - measured.robust_of_all
        boundary_too_much = boundary_error - boundary_of_all - self.tolerance

        def bounded(multipliers: Array | np.ndarray) -> np.ndarray:
            kept = np.maximum(multipliers, 0)
            return (kept * min(1.0, self.most_weight / max(kept.sum(), 1e-12))).astype(np.float32)

        return Multipliers(
            bounded(known.clean + self.reweight_rate * too_much),
            bounded(known.boundary + 2 * self.reweight_rate * boundary_too_much),
            np.asarray(known.margin + self.remargin_rate * boundary_too_much, np.float32),
        )


@checked
def frl(
    *,
    epsilon: Epsilon = 8 / 255,
    step_size: StepSize | None = None,
    num_steps: Count = 10,
    norm: Literal["linf", "l2"] = "linf",
    beta: NotNegative = 1.5,
    reweight_rate: NotNegative = 0.05,
    remargin_rate: NotNegative = 0.2,
    tolerance: Share = 0.07,
    most_weight: Annotated[float, Range(low=0.0, below=1.0)] = 0.5,
    start_from: str | None = None,
    warmup_epochs: Count = 1,
    attack_batch_norm: Literal["eval", "train"] = "eval",
    weight_perturbation: NotNegative = 0.0,
) -> Method:
    """Returns fair robust learning, TRADES under constraints on each class's errors.

    A class's error may exceed the error of all by the tolerance, and so may its boundary error,
    clean minus robust accuracy.  After each epoch both are measured on the validation set with 20
    steps of PGD; what is too much, negative if it is not, raises the class's multipliers:

        excess = error_c - error - tolerance        (0: clean, 1: boundary)
        l0_c += reweight_rate excess0
        l1_c += 2 reweight_rate excess1
        m_c += remargin_rate excess1

    l0 and l1 stay at least 0, and are scaled down to the sum most_weight where they exceed it.  The
    weights are u_c = 1 + K l_c - sum l, the radius epsilon clip(exp(2 m_c), 0.98, 3), and

        sum u0_y loss(f(x), y) / sum u0_y + beta sum u1_y KL(f(x) || f(x')) / sum u1_y

    is minimised, sums over the whole batch.  With both rates 0 it is `trades`.

    Args:
        epsilon: radius of the ball before it is changed.
        step_size: length of one step; None: a quarter of the largest radius.
        num_steps: steps of the attack that is trained on.
        norm: of the ball.
        beta: weight of TRADES' divergence.
        reweight_rate: how fast weights change; 0: no re-weighting.
        remargin_rate: how fast radii change; 0: no re-margin.
        tolerance: what a class's errors may exceed those of all by; 0.1 without re-margin.
        most_weight: the sum of either kind of multipliers at most.
        start_from: run directory of a robust model with the same layers, settings and
            normalisation, whose weights are fine-tuned, as the authors do; None: random ones, and
            plain TRADES for longer.  It should have held out the same images: those it was trained
            on seem easier than they are.
        warmup_epochs: number of the first epoch after which multipliers change.
        attack_batch_norm: batch norm while crafting: running statistics, as in the authors' code,
            or the batch's own.
        weight_perturbation: gamma of `worst_weights`; 0: none.

    Returns:
        The method, which needs a validation set; its state is the multipliers.

    Raises:
        ValueError: for options of the multipliers that are set where the rates keep these at 0.

    Source:
        Xu et al. 2021, arXiv:2010.06121, section 4; constants and the form of the loss as in the
        authors' code (hannxu123/fair_robust, a80547d), which measures before the first epoch.
    """
    if not reweight_rate:
        refuse_idle(frl, "reweight_rate above 0", most_weight=most_weight)
    if not (reweight_rate or remargin_rate):
        needed = "reweight_rate or remargin_rate above 0"
        refuse_idle(frl, needed, tolerance=tolerance, warmup_epochs=warmup_epochs)
    trained = make_form("trades", epsilon=epsilon, step_size=None, num_steps=num_steps, norm=norm)
    rule = Rule(reweight_rate, remargin_rate, tolerance, most_weight)

    def inputs(
        logits_fn: LogitsFn, keys: Key, state: MethodState, images: Array, labels: Array
    ) -> Array | tuple[Array, ...]:
        radius = epsilon * radius_scales(state.replicated.margin)
        length = jnp.max(radius) / 4 if step_size is None else step_size
        lengths = jnp.full(radius.shape, length, jnp.float32)
        return trained.inputs(logits_fn, keys, images, labels, epsilon=radius, step_size=lengths)

    def loss(seen: Seen) -> Array:
        weight, boundary_weight = example_weights(seen)
        total, boundary_total, count = seen.sums
        task_weight = weight * (count / total)
        divergence_weight = boundary_weight * (count / boundary_total)
        return trained.loss(seen, task_weight, beta * divergence_weight)

    return Method(
        init=without_multipliers,
        inputs=inputs,
        loss=loss,
        softmax=True,
        sums=sums_of_weights,
        prepare=None if start_from is None else fine_tuned(start_from),
        after_epoch=measured_after(
            warmup_epochs, attacks.pgd(epsilon=epsilon, num_steps=20, norm=norm), rule
        ),
        attack_batch_norm=attack_batch_norm,
        descend_at=worst_weights(weight_perturbation),
        validation=True,
    )


def without_multipliers(key: Key, setting: Setting) -> MethodState:
    """Is the method's `init`: all multipliers are 0."""
    del key
    zeros = np.zeros(setting.model.num_classes, np.float32)
    return MethodState(Multipliers(zeros, zeros, zeros), ())


def fine_tuned(start_from: str) -> Callable[[Key, Dataset, Model], Prepared]:
    """Returns a method's `prepare` that begins with the weights of a run."""

    def prepare(key: Key, train_set: Dataset, model: Model) -> Prepared:
        del key, train_set
        return Prepared(variables=weights_of(start_from, model, field="start_from"))

    return prepare


def measured_after(
    warmup_epochs: int, attack: CompiledAttack, rule: Rule
) -> Callable[[Key, TrainState, Epoch], TrainState]:
    """Returns a method's `after_epoch` that updates multipliers by what is measured.

    Args:
        warmup_epochs: number of the first epoch after which it does.
        attack: what the validation set is attacked with.
        rule: what the multipliers are updated by.
    """

    def after_epoch(key: Key, state: TrainState, epoch: Epoch) -> TrainState:
        if epoch.number < warmup_epochs:
            return state
        dataset = validation_set(epoch)
        measured = class_accuracy(key, epoch.model, state.variables, dataset, attack)
        multipliers = rule.updated(state.method_state.replicated, measured)
        return state._replace(method_state=state.method_state._replace(replicated=multipliers))

    return after_epoch


def example_weights(seen: Seen) -> tuple[Array, Array]:
    """Returns the weight of each example's clean loss and of its divergence, (B,) each."""
    known: Multipliers = seen.state.replicated
    return class_weights(known.clean)[seen.labels], class_weights(known.boundary)[seen.labels]


def sums_of_weights(seen: Seen) -> tuple[Array, Array, Array]:
    """Returns the sums of both weights, and the number of examples."""
    weight, boundary_weight = example_weights(seen)
    return jnp.sum(weight), jnp.sum(boundary_weight), jnp.float32(len(seen.labels))


def radius_scales(margin: Array | np.ndarray) -> Array:
    """Returns each class's radius over epsilon, clip(exp(2 m_c), 0.98, 3), (K,)."""
    return jnp.clip(jnp.exp(2 * margin), LEAST_RADIUS, LARGEST_RADIUS)


def class_weights(multipliers: Array | np.ndarray) -> Array:
    """Returns K times the paper's weights, 1 + K l_c - sum l, (K,): exactly 1 where l is 0."""
    return 1.0 + len(multipliers) * jnp.asarray(multipliers) - jnp.sum(multipliers)
