"""The fast gradient sign method: one step of size epsilon; and from a random start."""

from __future__ import annotations

from rbjax.attacks import steps
from rbjax.attacks.attack import CompiledAttack
from rbjax.attacks.objective import Direction
from rbjax.typing import LossFn


def fgsm(
    *,
    epsilon: float,
    norm: str = "linf",
    direction: Direction | None = None,
    loss: str | LossFn = "cross_entropy",
) -> CompiledAttack:
    """Returns the attack of one gradient step.

    x' = clip(x + epsilon sign(grad L(f(x), y)), 0, 1); in l2 the gradient over its norm in place of
    its sign; minus for descent.

    Args:
        epsilon: size of the step and radius of the ball, in pixel units; at most 1 in l-inf.
        norm: `"linf"`, `"l2"` or `"l1"`.
        direction: `"ascent"` or `"descent"` of the loss of the label (or target), or None: ascent
            from the label without targets, descent to the target with them.
        loss: `"cross_entropy"`, `"margin"`, `"dlr"`, or (logits, labels) -> (B,).

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
        step_ratio=1.0,
        num_steps=1,
        loss=loss,
        direction=direction,
    )


def r_fgsm(
    *, epsilon: float, norm: str = "linf", loss: str | LossFn = "cross_entropy"
) -> CompiledAttack:
    """Returns the attack of a random half step and a gradient half step (R+FGSM).

    x_0 = clip(x + (epsilon / 2) sign(N(0, I)), 0, 1), then
    x' = clip(x_0 + (epsilon / 2) sign(grad L(f(x_0), y)), 0, 1): the random step leaves the
    neighbourhood of x where a defence may have flattened the gradient.

    Args:
        epsilon: radius of the ball, in pixel units; at most 1 in l-inf.
        norm: `"linf"`, `"l2"` or `"l1"`; both steps have the length epsilon / 2 in it.
        loss: `"cross_entropy"`, `"margin"`, `"dlr"`, `"kl"`, or (logits, labels) -> (B,).

    Returns:
        The attack; its set is the ball and the box.

    Raises:
        ValueError: for an option out of range.

    Source:
        Tramèr et al. 2018, arXiv:1705.07204, section 4.1 (named by P4), with alpha = epsilon / 2
        as they take it.
    """
    return steps.make(
        norm=norm, epsilon=epsilon, step_ratio=0.5, num_steps=1, loss=loss, start="half_signs"
    )
