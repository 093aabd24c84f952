"""Projected gradient ascent, the attack of adversarial training and of most evaluations."""

from __future__ import annotations

from rbjax.attacks import steps
from rbjax.attacks.steps import GradientAttack
from rbjax.typing import LossFn


def pgd(
    *,
    epsilon: float,
    step_size: float | None = None,
    num_steps: int = 10,
    norm: str = "linf",
    num_restarts: int = 1,
    random_start: bool = True,
    loss: str | LossFn = "cross_entropy",
) -> GradientAttack:
    """Returns projected gradient ascent.

    x_0 = clip(x + u, 0, 1) with u uniform in the ball, then
    x_{k+1} = clip(P(x_k + step_size d(grad L(f(x_k), y))), 0, 1), where P projects to the ball of
    radius epsilon around x and d is the sign (l-inf) or the gradient over its norm (l2). Of several
    restarts an example keeps one that fools, and among those (or if none does) the highest loss.

    Args:
        epsilon: radius of the ball, in pixel units; at most 1 in l-inf.
        step_size: in pixel units; None: epsilon / 4.
        num_steps: steps of one restart.
        norm: `"linf"` or `"l2"`.
        num_restarts: number of random starts.
        random_start: whether a restart begins at a random point of the ball.
        loss: `"cross_entropy"`, `"margin"`, or (logits, labels) -> (B,).

    Returns:
        The attack; its set is the ball and the box.

    Raises:
        ValueError: for an option out of range, and for restarts that would all be the same.

    Source:
        Madry et al. 2018, arXiv:1706.06083, section 2.1.
    """
    return steps.make(
        norm=norm,
        epsilon=epsilon,
        step_size=step_size,
        step_ratio=0.25,
        num_steps=num_steps,
        loss=loss,
        random_start=random_start,
        num_restarts=num_restarts,
    )
