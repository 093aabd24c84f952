"""CFOL: classes are trained on the more, the more often they are mistaken under attack."""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from rbjax import attacks
from rbjax.classifier import predicted
from rbjax.methods.by_class import class_sums
from rbjax.methods.idle import refuse_idle
from rbjax.methods.weight_perturbation import worst_weights
from rbjax.options import Count, Epsilon, NotNegative, Share, StepSize, checked
from rbjax.training.method import Method, MethodState, Seen, Setting
from rbjax.typing import Array, Key, LogitsFn


class Classes(NamedTuple):
    """What CFOL remembers."""

    log_weights: Array
    """(K,) w, whose softmax is the adversary's distribution of classes."""
    shares: Array
    """(K,) of each class in the training set; they do not change."""


@checked
def cfol(
    *,
    epsilon: Epsilon = 8 / 255,
    step_size: StepSize | None = None,
    num_steps: Count = 10,
    norm: Literal["linf", "l2"] = "linf",
    rate: NotNegative = 1e-7,
    uniform_share: Share = 0.5,
    attack_batch_norm: Literal["eval", "train"] = "eval",
    weight_perturbation: NotNegative = 0.0,
) -> Method:
    """Returns class focused online learning: PGD adversarial training against the worst class.

    Classes are drawn from p = uniform_share / K + (1 - uniform_share) softmax(w), and each example
    drawn adds rate 1[mistaken under attack] / p_y to w_y (Exp3).

    Here the batches stay what they are and an example of class c counts p_c / q_c times, q_c being
    the class's share of the training set; it adds p_c / q_c times as much to w_c as well, so
    rate 1[mistaken] / q_c.  Gradient and update have the expectation they have under that
    sampler.  A sampler on the host would have to wait for every step's errors before it could
    draw the next batch, and would see each example another number of times in an epoch.

    With rate 0 and classes of equal size it is `pgd`.

    Args:
        epsilon: radius of the ball; at most 1 in linf, any positive size in l2.
        step_size: length of one step; None: epsilon / 4.
        num_steps: steps of the attack.
        norm: of the ball.
        rate: the paper's eta: how far one mistake moves w.  What w gains in an epoch grows with the
            number of examples: 1e-7 is for 50,000 of them and 200 epochs.
        uniform_share: the paper's gamma: what every class gets in any case.
        attack_batch_norm: batch norm while crafting: running statistics, as in the authors' code,
            or the batch's own.
        weight_perturbation: gamma of `worst_weights`; 0: none.

    Returns:
        The method; its state is w, and the classes' shares.  It weighs against the shares of the
        training set, so that no other sampler than the uniform one goes with it.

    Raises:
        ValueError: for a rate where uniform_share leaves it nothing to weigh, and for a share where
            with rate 0 all classes have the same.

    Source:
        Pethick, Chrysos, Cevher 2023, "Revisiting adversarial training for the worst-performing
        class", TMLR, algorithm 1; rate and share as in the authors' code
        (LIONS-EPFL/class-focused-online-learning-code, 7fe3b0b).
    """
    if uniform_share == 1.0:
        refuse_idle(cfol, "uniform_share below 1", rate=rate)
    if not rate:
        refuse_idle(cfol, "rate above 0", uniform_share=uniform_share)
    attack = attacks.pgd(epsilon=epsilon, step_size=step_size, num_steps=num_steps, norm=norm)

    def inputs(
        logits_fn: LogitsFn, keys: Key, state: MethodState, images: Array, labels: Array
    ) -> Array:
        del state
        return attack(logits_fn, keys, images, labels).images

    def weights(seen: Seen) -> Array:
        known: Classes = seen.state.replicated
        drawn = class_distribution(known.log_weights, uniform_share)
        return (drawn / known.shares)[seen.labels]

    def sums(seen: Seen) -> Array:
        logits = seen.outputs.logits
        mistaken = predicted(logits) != seen.labels
        return class_sums(seen.labels, mistaken.astype(jnp.float32), logits.shape[1])

    def update(seen: Seen, input_gradients: Array, shared: None) -> MethodState:
        del input_gradients, shared
        known: Classes = seen.state.replicated
        # A class without examples has share 0, and no mistakes either.
        raised = known.log_weights + rate * seen.sums / jnp.maximum(known.shares, 1e-12)
        return seen.state._replace(replicated=known._replace(log_weights=raised))

    return Method(
        init=equal_weights,
        inputs=inputs,
        weights=weights,
        sums=sums,
        update=update,
        uniform_sampler=True,
        attack_batch_norm=attack_batch_norm,
        descend_at=worst_weights(weight_perturbation),
    )


def equal_weights(key: Key, setting: Setting) -> MethodState:
    """Is the method's `init`."""
    del key
    num_classes = setting.model.num_classes
    counts = jnp.ones(num_classes) if setting.class_counts is None else setting.class_counts
    counts = jnp.asarray(counts, jnp.float32)
    zeros = jnp.zeros(num_classes, jnp.float32)
    return MethodState(Classes(zeros, counts / jnp.sum(counts)), ())


def class_distribution(log_weights: Array, uniform_share: float) -> Array:
    """Returns p = uniform_share / K + (1 - uniform_share) softmax(w), (K,).

    Args:
        log_weights: (K,) w.
        uniform_share: in [0, 1].
    """
    num_classes = log_weights.shape[0]
    # Written so that equal weights give exactly 1 / K.
    adversary = jax.nn.softmax(log_weights)
    return adversary + uniform_share * (1.0 / num_classes - adversary)
