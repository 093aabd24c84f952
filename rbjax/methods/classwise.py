"""P2's remedies for classes that adversarial training leaves vulnerable."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np

from rbjax import attacks
from rbjax.attacks import norms
from rbjax.methods.by_class import (
    ClassNumber,
    check_class,
    check_one_a_class,
    class_counts,
    class_sums,
)
from rbjax.methods.idle import refuse_idle
from rbjax.methods.weight_perturbation import worst_weights
from rbjax.options import MOST, PIXELS, Count, Epsilon, NotNegative, Range, StepSize, checked
from rbjax.training.method import ClassSums, Epoch, Method, MethodState, Seen, Setting
from rbjax.training.state import TrainState
from rbjax.typing import Array, Key, LogitsFn

Weights = Annotated[tuple[float, ...], Range(low=0.0)]
Epsilons = Annotated[tuple[float, ...], Range(low=0.0, high=float(MOST), unit=PIXELS)]


@checked
def classwise_pgd(
    *,
    epsilon: Epsilon = 8 / 255,
    step_size: StepSize | None = None,
    num_steps: Count = 10,
    norm: Literal["linf", "l2"] = "linf",
    reweighting: NotNegative = 1.0,
    class_weights: Weights = (),
    critical_class: ClassNumber | None = None,
    critical_weight: NotNegative = 2.0,
    class_epsilons: Epsilons = (),
    similarity_weight: NotNegative = 0.0,
    attack_batch_norm: Literal["eval", "train"] = "eval",
    weight_perturbation: NotNegative = 0.0,
) -> Method:
    """Returns PGD adversarial training that takes care of the vulnerable classes.

    min_w E u_y max_{|d| <= epsilon_y} loss(f_w(x + d), y) + similarity_weight S, where u_c is the
    weight of a class, epsilon_c its radius, and S the mean cosine similarity between the mean
    logits of two classes, over the pairs of classes in the batch.  As in `pgd`, the attack climbs
    the cross-entropy.

    u_c = given_c v_c.  v_c is 1 in the first epoch and then follows the class's error under attack
    in the epoch before, e_c = (wrong_c + 1) / (n_c + 2): v_c = e_c**reweighting over its mean in
    the classes that the epoch had.

    With reweighting 0, no given weights or radii and similarity_weight 0 it is `pgd`.

    Args:
        epsilon: radius of the ball; at most 1 in linf, any positive size in l2.  Where classes have
            radii of their own, that of the evaluation alone.
        step_size: length of one step; None: a quarter of the radius, as in 8/255 and 2/255.
        num_steps: steps of the attack.
        norm: of the ball.
        reweighting: how far weights follow the measured errors; 0: not, 1: in proportion.
        class_weights: given weight of each class's losses, as many as classes; none: 1.
        critical_class: number of a class that matters most; None: no class does.
        critical_weight: its given weight is multiplied by this; only with such a class.
        class_epsilons: radius of each class's ball, as many as classes; none: `epsilon`.
        similarity_weight: weight of the regularizer S.
        attack_batch_norm: batch norm while crafting: running statistics, as in `pgd` here (the
            paper does not say), or the batch's own.
        weight_perturbation: gamma of `worst_weights`; 0: none.

    Returns:
        The method; its state is u, (K,).

    Raises:
        ValueError: for a critical weight without a class; by `init`, for a class that there is
            not, or another number of weights or radii than classes.

    Source:
        Benz et al. 2020, "Robustness May Be at Odds with Fairness" (P2), section 3.3, which leaves
        the rules open; reweighting in proportion to the error is ours.
    """
    attack = attacks.pgd(epsilon=epsilon, step_size=step_size, num_steps=num_steps, norm=norm)
    norms.check_size("class_epsilons", np.asarray(class_epsilons), norm)
    if critical_class is None:
        refuse_idle(classwise_pgd, "a critical_class", critical_weight=critical_weight)
    given = functools.partial(
        given_weights, class_weights, critical_class=critical_class, critical_weight=critical_weight
    )

    def init(key: Key, setting: Setting) -> MethodState:
        del key
        num_classes = setting.model.num_classes
        check_one_a_class("class_weights", class_weights, num_classes)
        check_one_a_class("class_epsilons", class_epsilons, num_classes)
        check_class("critical_class", critical_class, num_classes)
        return MethodState(jnp.asarray(given(num_classes)), ())

    def inputs(
        logits_fn: LogitsFn, keys: Key, state: MethodState, images: Array, labels: Array
    ) -> Array:
        del state
        radius = jnp.asarray(class_epsilons, jnp.float32)[labels] if class_epsilons else None
        return attack(logits_fn, keys, images, labels, epsilon=radius).images

    def loss(seen: Seen) -> Array:
        weighted = seen.state.replicated[seen.labels] * seen.task_loss(seen.outputs.logits)
        if not similarity_weight:
            return weighted
        return weighted + similarity_weight * mean_similarity(*seen.sums)

    return Method(
        init=init,
        inputs=inputs,
        sums=logits_of_classes if similarity_weight else None,
        loss=loss,
        after_epoch=reweighted_after(given, reweighting) if reweighting else None,
        attack_batch_norm=attack_batch_norm,
        descend_at=worst_weights(weight_perturbation),
    )


def given_weights(
    class_weights: Sequence[float],
    num_classes: int,
    *,
    critical_class: int | None,
    critical_weight: float,
) -> np.ndarray:
    """Returns the given weights of classes, (K,) float32; see `classwise_pgd` for the options."""
    weights = np.asarray(class_weights or np.ones(num_classes), np.float32)
    if critical_class is not None:
        weights[critical_class] *= critical_weight
    return weights


def reweighted_after(
    given: Callable[[int], np.ndarray], power: float
) -> Callable[[Key, TrainState, Epoch], TrainState]:
    """Returns a method's `after_epoch` that multiplies given weights by measured ones.

    Args:
        given: K -> (K,).
        power: as for `measured_weights`.
    """

    def after_epoch(key: Key, state: TrainState, epoch: Epoch) -> TrainState:
        del key
        measured = measured_weights(epoch.train, power)
        weights = given(len(measured)) * measured
        return state._replace(method_state=state.method_state._replace(replicated=weights))

    return after_epoch


def measured_weights(train: ClassSums, power: float) -> np.ndarray:
    """Returns weights of classes by their errors in an epoch, of mean 1 over those it had.

    `v_c = e_c**power / mean_j e_j**power`, `e_c = (wrong_c + 1) / (n_c + 2)`: the rule of
    succession, so that no class is left out for being learnt.  The mean is that of the classes with
    examples.

    Args:
        train: what the epoch came to; of several inputs the first counts.
        power: 0 weighs all classes alike.

    Returns:
        (K,) float32.
    """
    errors = (train.count - train.correct[0] + 1) / (train.count + 2)
    weights = errors**power
    return (weights / weights[train.count > 0].mean()).astype(np.float32)


def logits_of_classes(seen: Seen) -> tuple[Array, Array]:
    """Returns the sum of the logits of each class's examples, (K, K), and their number, (K,)."""
    logits = seen.outputs.logits
    num_classes = logits.shape[1]
    return class_sums(seen.labels, logits, num_classes), class_counts(seen.labels, num_classes)


def mean_similarity(sums: Array, counts: Array) -> Array:
    """Returns the mean cosine similarity between the mean logits of two different classes.

    Args:
        sums: (K, K) the sum of the logits of each class's examples; a mean has the same cosines.
        counts: (K,) how many examples; classes without any are left out.

    Returns:
        () in [-1, 1]; 0 where fewer than two classes are present.

    Source:
        P2, section 3.2, "cross-class feature similarity".
    """
    lengths = jnp.sum(sums**2, axis=1, keepdims=True)
    units = sums * jax.lax.rsqrt(jnp.maximum(lengths, 1e-12))
    present = jnp.sum(counts > 0)
    # All pairs at once: |sum of units|^2 holds each pair twice, and each unit with itself.
    between = jnp.sum(jnp.sum(units, axis=0) ** 2) - jnp.sum(units**2)
    return between / jnp.maximum(present * (present - 1), 1)
