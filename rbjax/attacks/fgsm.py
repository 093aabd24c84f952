"""The fast gradient sign method: one step of size epsilon."""

from __future__ import annotations

from typing import Literal

from rbjax.attacks import steps
from rbjax.attacks.steps import GradientAttack
from rbjax.typing import LossFn


def fgsm(
    *,
    epsilon: float,
    norm: str = "linf",
    direction: Literal["ascent", "descent"] | None = None,
    loss: str | LossFn = "cross_entropy",
) -> GradientAttack:
    """Returns the attack of one gradient step.

    x' = clip(x + epsilon sign(grad L(f(x), y)), 0, 1); in l2 the gradient over its norm in place of
    its sign; minus for descent.

    Args:
        epsilon: size of the step and radius of the ball, in pixel units; at most 1 in l-inf.
        norm: `"linf"` or `"l2"`.
        direction: `"ascent"` or `"descent"` of the loss of the label (or target), or None: ascent
            from the label without targets, descent to the target with them.
        loss: `"cross_entropy"`, `"margin"`, or (logits, labels) -> (B,).

    Returns:
        The attack; its set is the ball and the box.

    Raises:
        ValueError: for an option out of range.

    Source:
        Goodfellow, Shlens, Szegedy 2015, arXiv:1412.6572, section 4.
    """
    return steps.make(
        norm=norm,
        epsilon=epsilon,
        step_size=None,
        step_ratio=1.0,
        num_steps=1,
        loss=loss,
        direction=direction,
    )
