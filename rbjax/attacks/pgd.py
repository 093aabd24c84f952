"""Projected gradient ascent, the attack of adversarial training and of most evaluations."""

from __future__ import annotations

from rbjax import checks
from rbjax.attacks import norms, rules, steps
from rbjax.attacks.attack import CompiledAttack
from rbjax.tables import lookup
from rbjax.typing import LossFn


def pgd(
    *,
    epsilon: float,
    step_size: float | None = None,
    num_steps: int = 10,
    norm: str = "linf",
    num_restarts: int = 1,
    random_start: bool = True,
    start: str = "uniform",
    loss: str | LossFn = "cross_entropy",
    optimizer: str = "steepest",
    momentum: float = 0.0,
    use_best: bool = False,
) -> CompiledAttack:
    """Returns projected gradient ascent.

    x_0 = clip(x + u, 0, 1) with u random in the ball, then
    x_{k+1} = clip(P(x_k + step_size d(grad L(f(x_k), y))), 0, 1), where P projects to the ball of
    radius epsilon around x and d is the sign (l-inf), the gradient over its norm (l2) or the signs
    of its largest values (l1). Of several restarts an example keeps one that fools, and among those
    (or if none does) the highest loss.

    Args:
        epsilon: radius of the ball, in pixel units; at most 1 in l-inf.
        step_size: in pixel units; None: epsilon / 4.
        num_steps: steps of one restart.
        norm: `"linf"`, `"l2"` or `"l1"`.
        num_restarts: number of random starts.
        random_start: whether a restart begins at a random point, not at the image.
        start: the law of that point: `"uniform"` in the ball, `"sphere"`, on its surface,
            `"normal"`, N(0, 0.001²) (TRADES), `"half_signs"` (R+FGSM).
        loss: `"cross_entropy"`, `"margin"` (Carlini and Wagner), `"dlr"` (Croce and Hein), `"kl"`
            (TRADES: divergence from the clean prediction), or (logits, labels) -> (B,).
        optimizer: `"steepest"`, or `"adam"`, whose steps are of each value's own size.
        momentum: decay of the sum of past gradients (MI-FGSM); 0: none.
        use_best: whether the best iterate is kept, by the rule of the restarts, not the last.

    Returns:
        The attack; its set is the ball and the box.

    Raises:
        ValueError: for an option out of range, and for restarts that would all be the same.

    Source:
        Madry et al. 2018, arXiv:1706.06083, section 2.1; momentum: Dong et al. 2018,
        arXiv:1710.06081; l1: Tramèr and Boneh 2019, arXiv:1904.13000, section 3.2.
    """
    lookup(norms.STARTS, start, what="start")
    if not random_start and start != "uniform":
        raise ValueError(f"start is {start!r} with random_start off; leave one of them out")
    rule = lookup(rules.RULES, optimizer, what="optimizer")
    if checks.real("momentum", momentum) > 0:
        if optimizer != "steepest":
            raise ValueError(f"momentum is {momentum:g} with optimizer {optimizer!r}; choose one")
        rule = rules.momentum(momentum)
    return steps.make(
        norm=norm,
        epsilon=epsilon,
        step_size=step_size,
        step_ratio=0.25,
        num_steps=num_steps,
        loss=loss,
        start=start if random_start else None,
        num_restarts=num_restarts,
        rule=rule,
        use_best=use_best,
    )
