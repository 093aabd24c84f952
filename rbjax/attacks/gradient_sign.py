"""The iterative gradient sign method, up or down the loss, projected or not (P5)."""

from __future__ import annotations

from rbjax.attacks import steps
from rbjax.attacks.attack import CompiledAttack
from rbjax.attacks.objective import Direction
from rbjax.typing import LossFn


def iterative_gradient_sign(
    *,
    epsilon: float,
    step_size: float | None = None,
    num_steps: int = 10,
    norm: str = "linf",
    direction: Direction | None = None,
    projected: bool = True,
    clipped: bool = True,
    loss: str | LossFn = "cross_entropy",
) -> CompiledAttack:
    """Returns the attack of repeated gradient steps from the image itself.

    x_{k+1} = clip(P(x_k + step_size sign(grad L(f(x_k), y))), 0, 1), where P projects to the ball
    of radius epsilon around x_0 (the basic iterative method), or does nothing: with
    `projected=False` the fast step of size epsilon is taken `num_steps` times, as P5 describes it.

    Args:
        epsilon: radius of the ball, or the size of every step where it is not projected; in pixel
            units, at most 1 in l-inf.
        step_size: in pixel units; None: epsilon / 4 if projected, else epsilon.
        num_steps: number of steps.
        norm: `"linf"`, `"l2"` (the gradient over its norm in place of its sign) or `"l1"`.
        direction: `"ascent"` (equation 1) or `"descent"` (equation 2) of the loss of the label (or
            target), or None: ascent from the label without targets, descent to the target with
            them.
        projected: whether every step is projected to the ball.
        clipped: whether every step is clipped to [0, 1].
        loss: `"cross_entropy"`, `"margin"`, `"dlr"`, or (logits, labels) -> (B,).

    Returns:
        The attack; its set is the ball if projected and the box if clipped.

    Raises:
        ValueError: for an option out of range.

    Source:
        Kurakin, Goodfellow, Bengio 2017, arXiv:1607.02533, section 2.2. Possas and Zhou,
        "Effectiveness of adversarial learning on class-imbalanced convolutional neural networks",
        equations 1 and 2 (P5).
    """
    return steps.make(
        norm=norm,
        epsilon=epsilon,
        step_size=step_size,
        step_ratio=0.25 if projected else 1.0,
        num_steps=num_steps,
        loss=loss,
        direction=direction,
        ball=projected,
        box=clipped,
    )
