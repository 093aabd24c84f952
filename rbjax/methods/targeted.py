"""Targeted adversarial training: images are pushed towards one class, which is to become robust."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import jax.numpy as jnp
import numpy as np

from rbjax import attacks
from rbjax.attacks import CompiledAttack
from rbjax.losses.adversarial import cross_entropy
from rbjax.methods.by_class import ClassNumber, check_class
from rbjax.methods.class_accuracy import measuring_set, robust_accuracy
from rbjax.methods.weight_perturbation import worst_weights
from rbjax.options import Count, Epsilon, NotNegative, StepSize, checked
from rbjax.training.method import Epoch, Method, MethodState, Setting
from rbjax.training.state import TrainState
from rbjax.typing import Array, Key, LogitsFn

MEASURED = 1000
"""Images that say which class is the most vulnerable: about 100 of each of ten."""
_NONE = -1


@checked
def targeted(
    *,
    target_class: ClassNumber | None = None,
    epsilon: Epsilon = 8 / 255,
    step_size: StepSize | None = None,
    num_steps: Count = 10,
    norm: Literal["linf", "l2"] = "linf",
    random_start: bool = True,
    attack_batch_norm: Literal["eval", "train"] = "eval",
    weight_perturbation: NotNegative = 0.0,
) -> Method:
    """Returns adversarial training against images that are to be taken for one class.

    min_w E loss(f_w(x'), y), where x' descends the cross-entropy to the target class t by projected
    gradient steps; images of t itself, of which P2 does not speak, ascend that to their label, as
    in PGD training: there is nothing to be taken for, and they are what should become robust.

    t is an important class, or the most vulnerable one: after each epoch held-out images, or
    training images where there is no validation split, are attacked without target, and t is from
    then on the class with the lowest accuracy.  Before the first measurement training is that of
    `pgd`.

    Args:
        target_class: number of the important class; None: the most vulnerable, measured.
        epsilon: radius of the ball; at most 1 in linf, any positive size in l2.
        step_size: length of one step; None: epsilon / 4, as in 8/255 and 2/255.
        num_steps: steps of the attack.
        norm: of the ball.
        random_start: whether the attack starts at a random point of the ball.
        attack_batch_norm: batch norm while crafting: running statistics, as in `pgd` here (the
            paper does not say), or the batch's own.
        weight_perturbation: gamma of `worst_weights`; 0: none.

    Returns:
        The method; its state is t, () int32, -1 while it is unknown.

    Raises:
        ValueError: when training begins, for a class that the dataset does not have.

    Source:
        Benz et al., "Robustness May Be at Odds with Fairness", section 3.3 (P2).
    """
    options = {
        "epsilon": epsilon,
        "step_size": step_size,
        "num_steps": num_steps,
        "norm": norm,
        "random_start": random_start,
    }
    untargeted = attacks.pgd(**options)

    def init(key: Key, setting: Setting) -> MethodState:
        del key
        check_class("target_class", target_class, setting.model.num_classes)
        return MethodState(jnp.int32(_NONE if target_class is None else target_class), ())

    def inputs(
        logits_fn: LogitsFn, keys: Key, state: MethodState, images: Array, labels: Array
    ) -> Array:
        target = state.replicated
        is_aimed = (target != _NONE) & (labels != target)
        aims = jnp.where(is_aimed, target, labels)

        def climbed(logits: Array, labels: Array) -> Array:
            del labels
            return jnp.where(is_aimed, -1.0, 1.0) * cross_entropy(logits, aims)

        return attacks.pgd(**options, loss=climbed)(logits_fn, keys, images, labels).images

    return Method(
        init=init,
        inputs=inputs,
        attack_batch_norm=attack_batch_norm,
        descend_at=worst_weights(weight_perturbation),
        after_epoch=measured_after(untargeted) if target_class is None else None,
    )


def measured_after(attack: CompiledAttack) -> Callable[[Key, TrainState, Epoch], TrainState]:
    """Returns a method's `after_epoch` that makes the most vulnerable class the target.

    Args:
        attack: what measures that, without target.
    """

    def after_epoch(key: Key, state: TrainState, epoch: Epoch) -> TrainState:
        dataset = measuring_set(epoch, MEASURED)
        accuracy, _ = robust_accuracy(key, epoch.model, state.variables, dataset, attack)
        most_vulnerable = np.int32(np.argmin(accuracy))
        name = dataset.info.class_names[most_vulnerable]
        lowest = accuracy[most_vulnerable]
        print(f"epoch {epoch.number}: the target is {name}, {lowest:.1%} correct under attack")
        return state._replace(method_state=MethodState(most_vulnerable, ()))

    return after_epoch
