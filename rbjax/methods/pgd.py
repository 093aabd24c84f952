"""Adversarial training on the images that PGD finds."""

from __future__ import annotations

from typing import Literal

from rbjax import attacks
from rbjax.methods.weight_perturbation import worst_weights
from rbjax.options import Count, Epsilon, NotNegative, StepSize, checked
from rbjax.training.method import Method, MethodState
from rbjax.typing import Array, Key, LogitsFn


@checked
def pgd(
    *,
    epsilon: Epsilon = 8 / 255,
    step_size: StepSize | None = None,
    num_steps: Count = 10,
    norm: Literal["linf", "l2"] = "linf",
    random_start: bool = True,
    attack_batch_norm: Literal["eval", "train"] = "eval",
    weight_perturbation: NotNegative = 0.0,
) -> Method:
    """Returns PGD adversarial training.

    min_w E max_{|d| <= epsilon} loss(f_w(x + d), y), the maximum by projected gradient ascent of
    the cross-entropy, also where the config's loss is another.

    Args:
        epsilon: radius of the ball; at most 1 in linf, any positive size in l2.
        step_size: length of one step; None: epsilon / 4, as in 8/255 and 2/255.
        num_steps: steps of the attack.
        norm: of the ball.
        random_start: whether the attack starts at a random point of the ball.
        attack_batch_norm: batch norm while crafting: running statistics, or the batch's own, as in
            the authors' code.  Pang et al. 2021, arXiv:2010.00467, rate the former as useful.
        weight_perturbation: gamma of `worst_weights`, 0.01 in AT-AWP; 0 is plain training.

    Returns:
        The method; it remembers nothing between steps.

    Source:
        Madry et al. 2018, arXiv:1706.06083, equation 2.1.
    """
    attack = attacks.pgd(
        epsilon=epsilon,
        step_size=step_size,
        num_steps=num_steps,
        norm=norm,
        random_start=random_start,
    )

    def inputs(
        logits_fn: LogitsFn, keys: Key, state: MethodState, images: Array, labels: Array
    ) -> Array:
        del state
        return attack(logits_fn, keys, images, labels).images

    return Method(
        inputs=inputs,
        attack_batch_norm=attack_batch_norm,
        descend_at=worst_weights(weight_perturbation),
    )
