"""Attacks made of gradient steps: start, climb, project, clip; the best of several restarts.

FGSM, the iterative gradient sign and PGD are one loop with different parts: the norm's random
start, projection and rule that makes steps of gradients (`norms.py`), and the loss that is climbed.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp

from rbjax import prng, tables
from rbjax.attacks import norms
from rbjax.attacks.attack import CompiledAttack, Problem, clean_keys, column
from rbjax.attacks.norms import RULES, Inside, Rule
from rbjax.attacks.search import Found, best_restart, better, merit, nothing_found
from rbjax.classifier import Classifier, Objective
from rbjax.losses import adversarial
from rbjax.losses.adversarial import Climbed, Direction, OfLabels
from rbjax.options import Count, Epsilon, Norm, NotNegative, StepSize, checked
from rbjax.typing import Array, Key, LossFn


@checked
def fgsm(
    *,
    epsilon: Epsilon,
    norm: Norm = "linf",
    direction: Direction | None = None,
    loss: OfLabels | LossFn = "cross_entropy",
) -> CompiledAttack:
    """Returns the attack of one gradient step.

    x' = clip(x + epsilon sign(grad L(f(x), y)), 0, 1); in l2 the gradient over its norm in place of
    its sign, in l1 as many of the largest values, each up to the edge of [0, 1], as epsilon is
    enough for; minus for descent. On a linear model of two classes no step is better in l-inf and
    l1; in l2 what the box cuts off is lost, and nine tenths of the images need 1.3 times the least
    distance.

    Args:
        epsilon: size of the step and radius of the ball, in pixel units; at most 1 in l-inf.
        norm: `"linf"`, `"l2"` or `"l1"`.
        direction: `"ascent"` or `"descent"` of the loss of the label (or target), or None: ascent
            from the label without targets, descent to the target with them.
        loss: `"cross_entropy"`, `"margin"`, `"dlr"`, `"probability_margin"`, or (logits, labels)
            -> (B,).

    Returns:
        The attack; its set is the ball and the box.

    Raises:
        ValueError: for an option out of range.

    Source:
        Goodfellow, Shlens, Szegedy 2015, arXiv:1412.6572, section 4.
    """
    return _make(
        norm=norm,
        epsilon=epsilon,
        step_ratio=1.0,
        num_steps=1,
        loss=loss,
        direction=direction,
    )


@checked
def r_fgsm(
    *, epsilon: Epsilon, norm: Norm = "linf", loss: Climbed | LossFn = "cross_entropy"
) -> CompiledAttack:
    """Returns the attack of a random half step and a gradient half step (R+FGSM).

    x_0 = clip(x + (epsilon / 2) sign(N(0, I)), 0, 1), then
    x' = clip(x_0 + (epsilon / 2) sign(grad L(f(x_0), y)), 0, 1): the random step leaves the
    neighbourhood of x where a defence may have flattened the gradient.

    Args:
        epsilon: radius of the ball, in pixel units; at most 1 in l-inf.
        norm: `"linf"`, `"l2"` or `"l1"`; both steps have the length epsilon / 2 in it. In l1 the
            random one moves 1 % of the values.
        loss: `"cross_entropy"`, `"margin"`, `"dlr"`, `"probability_margin"`, `"kl"`, or (logits,
            labels) -> (B,).

    Returns:
        The attack; its set is the ball and the box.

    Raises:
        ValueError: for an option out of range.

    Source:
        Tramèr et al. 2018, arXiv:1705.07204, section 4.1 (named by P4), with alpha = epsilon / 2
        as they take it.
    """
    return _make(
        norm=norm, epsilon=epsilon, step_ratio=0.5, num_steps=1, loss=loss, start="half_signs"
    )


@checked
def iterative_gradient_sign(
    *,
    epsilon: Epsilon,
    step_size: StepSize | None = None,
    num_steps: Count = 10,
    norm: Norm = "linf",
    direction: Direction | None = None,
    projected: bool = True,
    clipped: bool = True,
    loss: OfLabels | LossFn = "cross_entropy",
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
        loss: `"cross_entropy"`, `"margin"`, `"dlr"`, `"probability_margin"`, or (logits, labels)
            -> (B,).

    Returns:
        The attack; its set is the ball if projected and the box if clipped.

    Raises:
        ValueError: for an option out of range.

    Source:
        Kurakin, Goodfellow, Bengio 2017, arXiv:1607.02533, section 2.2. Possas and Zhou,
        "Effectiveness of adversarial learning on class-imbalanced convolutional neural networks",
        equations 1 and 2 (P5).
    """
    return _make(
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


@checked
def pgd(
    *,
    epsilon: Epsilon,
    step_size: StepSize | None = None,
    num_steps: Count = 10,
    norm: Norm = "linf",
    num_restarts: Count = 1,
    random_start: bool = True,
    start: Literal["uniform", "sphere", "normal", "half_signs"] = "uniform",
    loss: Climbed | LossFn = "cross_entropy",
    optimizer: Literal["steepest", "adam"] = "steepest",
    momentum: NotNegative = 0.0,
    use_best: bool = False,
) -> CompiledAttack:
    """Returns projected gradient ascent.

    x_0 = clip(x + u, 0, 1) with u random in the ball, then
    x_{k+1} = clip(P(x_k + step_size d(grad L(f(x_k), y))), 0, 1), where P projects to the ball of
    radius epsilon around x and d is the sign (l-inf) or the gradient over its norm (l2). Of several
    restarts an example keeps one that fools, and among those (or if none does) the highest loss.

    In l1 P is the projection on the ball and [0, 1] at once. At first the 1 % of the values with
    the largest gradients move alike; a step of the last quarter, or the last four, is the one that
    climbs most inside both: values move in the order of their gradient, up to the edge of the box,
    and what exceeds epsilon is taken from those that gain least. The best iterate is kept. Ten
    steps fool a linear model at 1.05 times the least distance; networks want more (of LeNet-5 on
    MNIST, epsilon 10, 31.5 % withstand 10 steps, 23.5 % 40; from a sparse start 35.0 and 24.5 %).

    Of ten classes cross-entropy does not go for the nearest: to fool nine tenths of the images of a
    linear model takes 1.3 times the least distance in l-inf and l2, and 1.4 in l1. With 40 steps on
    loss="margin" it takes 1.001, 1.02 and 1.15.

    Args:
        epsilon: radius of the ball, in pixel units; at most 1 in l-inf.
        step_size: in pixel units; None: epsilon / 4.
        num_steps: steps of one restart.
        norm: `"linf"`, `"l2"` or `"l1"`.
        num_restarts: number of random starts.
        random_start: whether a restart begins at a random point, not at the image.
        start: the law of that point: `"uniform"` in the ball, `"sphere"`, on its surface,
            `"normal"`, N(0, 0.001²) (TRADES), `"half_signs"` (R+FGSM).
        loss: `"cross_entropy"`, `"margin"` (Carlini and Wagner), `"dlr"` (Croce and Hein),
            `"probability_margin"` (PMA: Xie et al.), `"kl"` (TRADES: divergence from the clean
            prediction), or (logits, labels) -> (B,).
        optimizer: `"steepest"`, or `"adam"`, whose steps are of each value's own size, and so in
            l1 weak: on a linear model all values move alike.
        momentum: decay of the sum of past gradients (MI-FGSM); 0: none.
        use_best: whether the best iterate is kept, by the rule of the restarts, not the last.

    Returns:
        The attack; its set is the ball and the box.

    Raises:
        ValueError: for an option out of range, and for restarts that would all be the same.

    Source:
        Madry et al. 2018, arXiv:1706.06083, section 2.1; momentum: Dong et al. 2018,
        arXiv:1710.06081; l1: Croce and Hein 2021, arXiv:2103.01208, section 2.
    """
    if not random_start and start != "uniform":
        raise ValueError(f"start is {start!r} with random_start off; leave one of them out")
    rule = RULES[optimizer]
    if momentum > 0:
        if optimizer != "steepest":
            raise ValueError(f"momentum is {momentum:g} with optimizer {optimizer!r}; choose one")
        rule = norms.momentum(momentum)
    return _make(
        norm=norm,
        epsilon=epsilon,
        step_size=step_size,
        step_ratio=0.25,
        num_steps=num_steps,
        loss=loss,
        start=start if random_start else None,
        num_restarts=num_restarts,
        rule=rule,
        use_best=use_best or norm == "l1",
    )


@dataclasses.dataclass(frozen=True)
class GradientPlan:
    """What the compiled program of an attack depends on; sizes are arguments, not part of it."""

    norm: str
    num_steps: int
    loss: LossFn
    direction: Direction | None
    """Which way the loss of the label goes; None: up from the label, down towards a target."""
    ball: bool
    """Whether every step is projected to the ball of radius epsilon."""
    box: bool
    """Whether every step is clipped to [0, 1]."""
    start: str | None
    """A name in `norms.STARTS`; None: the image itself."""
    num_restarts: int
    rule: Rule
    use_best: bool
    """Whether the best iterate is kept, not the last one."""

    takes_step_size = True

    def objective(
        self,
        classifier: Classifier,
        keys: Key,
        images: Array,
        labels: Array,
        targets: Array | None,
    ) -> Objective:
        """Returns the loss of labels or targets, or that against the clean images."""
        clean_logits = None
        if self.loss is adversarial.kl_divergence:
            if targets is not None:
                raise ValueError("loss 'kl' has no targets; use 'cross_entropy'")
            clean_logits = jax.lax.stop_gradient(classifier.logits(clean_keys(keys), images))
        return adversarial.objective(
            self.loss, labels, targets, direction=self.direction, clean_logits=clean_logits
        )

    def search(self, problem: Problem) -> Array:
        """Returns the last or the best iterate of the best restart."""
        return best_restart(functools.partial(_climb, self), problem, self.num_restarts).images


def _climb(plan: GradientPlan, problem: Problem, _: Array | int) -> Found:
    """Returns what `num_steps` of `x <- box(ball(x + step_size * direction))` find.

    Args:
        plan: the plan.
        problem: the batch, with the keys of this restart.
    """
    images, keys, classifier = problem.images, problem.keys, problem.classifier

    def constrain(moved: Array) -> Array:
        if plan.ball and plan.box:
            return norms.confine(moved, images, problem.epsilon, plan.norm)
        if plan.ball:
            return images + norms.project(moved - images, problem.epsilon, plan.norm)
        return jnp.clip(moved, 0.0, 1.0) if plan.box else moved

    def judged(moved: Array, logits: Array) -> Found:
        return Found(moved, problem.fooled(logits), merit(problem.objective(logits)))

    def step(number: Array | int, carry: tuple[Array, Any, Found]) -> tuple[Array, Any, Found]:
        current, memory, best = carry
        ascent = classifier.value_and_grad(
            problem.objective, prng.per_draw(keys, number + 1), current
        )
        if plan.use_best:
            best = better(judged(current, ascent.logits), best)
        memory, climbed = plan.rule.step(memory, ascent.gradient)
        if plan.rule.is_direction:
            ahead = column(problem.step_size) * climbed
        else:
            box = (-images, 1.0 - images)
            inside = Inside(current - images, problem.epsilon, *box) if plan.box else None
            is_early = number < plan.num_steps - norms.num_sharp(plan.num_steps)
            ahead = norms.climb(climbed, problem.step_size, plan.norm, inside, is_early=is_early)
        return constrain(current + ahead), memory, best

    start = images
    if plan.start is not None:
        law = norms.STARTS[plan.start]
        start = constrain(
            images + norms.start(law, keys, images.shape[1:], problem.epsilon, plan.norm)
        )
    carry = (start, plan.rule.init(images), nothing_found(images))
    if plan.num_steps == 1:
        last, _, best = step(0, carry)
    else:
        last, _, best = jax.lax.fori_loop(0, plan.num_steps, step, carry)
    if plan.num_restarts == 1 and not plan.use_best:  # judged by the attack itself
        return best._replace(images=last)
    end = judged(last, classifier.logits(prng.per_draw(keys, plan.num_steps + 1), last))
    return better(end, best) if plan.use_best else end


def _make(
    *,
    norm: str,
    epsilon: float,
    step_size: float | None = None,
    step_ratio: float,
    num_steps: int,
    loss: str | LossFn = "cross_entropy",
    direction: Direction | None = None,
    ball: bool = True,
    box: bool = True,
    start: str | None = None,
    num_restarts: int = 1,
    rule: Rule = RULES["steepest"],
    use_best: bool = False,
) -> CompiledAttack:
    """Returns an attack of gradient steps.

    Args:
        norm: a name in `norms.NORMS`.
        epsilon: in pixel units.
        step_size: in pixel units; None: `step_ratio` times epsilon.
        step_ratio: see `step_size`.
        num_steps: steps of one restart.
        loss: a name in `losses.adversarial.LOSSES`, or (logits, labels) -> (B,), which is climbed.
        direction: see `GradientPlan`.
        ball: see `GradientPlan`.
        box: see `GradientPlan`.
        start: see `GradientPlan`.
        num_restarts: restarts; the best is kept.
        rule: what makes steps of gradients.
        use_best: see `GradientPlan`.

    Returns:
        The attack.

    Raises:
        ValueError: for an option out of range.
    """
    norms.check_size("epsilon", epsilon, norm)
    norms.check_size("step_size", step_size, norm)
    if num_restarts > 1 and start is None:
        raise ValueError(
            f"num_restarts is {num_restarts} with random_start off; every restart would be the same"
        )
    loss_fn = _loss(loss) if isinstance(loss, str) else loss
    if loss_fn is adversarial.kl_divergence and start is None:
        raise ValueError(
            "loss is 'kl' with random_start off; its gradient at the image itself is 0, so that "
            "nothing would move"
        )
    plan = GradientPlan(
        norm, num_steps, loss_fn, direction, ball, box, start, num_restarts, rule, use_best
    )
    return CompiledAttack(plan, epsilon, step_size, step_ratio)


def _loss(name: str) -> LossFn:
    """Returns a loss by its name here, or by that of the function or its maker outside."""
    if not tables.is_path(name):
        return adversarial.LOSSES[name]
    loss = tables.load(name, what="loss")
    return loss if tables.is_made(loss, 2) else loss()
