"""Attacks made of gradient steps: start, climb, project, clip; the best of several restarts.

FGSM, the iterative gradient sign and PGD are one loop with different parts: the norm's steepest
direction, projection and random start (`norms.py`), the rule that makes steps of gradients, and
what is climbed (`objective.py`).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from rbjax import checks, prng
from rbjax.attacks import norms, objective
from rbjax.attacks.attack import (
    CompiledAttack,
    Problem,
    check_radius,
    clean_keys,
    column,
)
from rbjax.attacks.classifier import Classifier, Objective
from rbjax.attacks.norms import check_size
from rbjax.attacks.objective import Direction
from rbjax.attacks.rules import RULES, Rule
from rbjax.attacks.search import Found, best_restart, better, nothing_found
from rbjax.tables import lookup
from rbjax.typing import Array, Key, LossFn


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
        if objective.is_of_clean_logits(self.loss):
            if targets is not None:
                raise ValueError("loss 'kl' has no targets; use 'cross_entropy'")
            clean_logits = jax.lax.stop_gradient(classifier.logits(clean_keys(keys), images))
        return objective.objective(self.loss, self.direction, labels, targets, clean_logits)

    def search(self, problem: Problem) -> Array:
        """Returns the last or the best iterate of the best restart."""

        def restart(again: Problem, _: Array | int) -> Found:
            return _climb(self, again, final=self.num_restarts > 1)

        return best_restart(restart, problem, self.num_restarts).images


def _climb(plan: GradientPlan, problem: Problem, *, final: bool) -> Found:
    """Returns what `num_steps` of `x <- box(ball(x + step_size * direction))` find.

    Args:
        plan: the plan.
        problem: the batch, with the keys of this restart.
        final: whether the last iterate must be judged.
    """
    images, keys, asked = problem.images, problem.keys, problem.classifier

    def constrain(moved: Array) -> Array:
        if plan.ball:
            moved = images + norms.project(moved - images, problem.epsilon, plan.norm)
        return jnp.clip(moved, 0.0, 1.0) if plan.box else moved

    def judged(moved: Array, logits: Array) -> Found:
        return Found(moved, problem.fooled(logits), problem.objective(logits))

    def step(number: Array | int, carry: tuple[Array, Any, Found]) -> tuple[Array, Any, Found]:
        current, memory, best = carry
        found = asked.value_and_grad(problem.objective, prng.per_draw(keys, number + 1), current)
        if plan.use_best:
            best = better(judged(current, found.logits), best)
        gradient = found.gradient
        if plan.box and plan.norm == "l1":
            gradient = norms.movable(gradient, current)
        memory, direction = plan.rule.step(memory, gradient, plan.norm)
        return constrain(current + column(problem.step_size) * direction), memory, best

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
    if not (final or plan.use_best):
        return best._replace(images=last)
    found = judged(last, asked.logits(prng.per_draw(keys, plan.num_steps + 1), last))
    return better(found, best) if plan.use_best else found


def make(
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
    """Returns an attack of gradient steps, its options checked.

    Args:
        norm: a name in `norms.NORMS`.
        epsilon: in pixel units.
        step_size: in pixel units; None: `step_ratio` times epsilon.
        step_ratio: see `step_size`.
        num_steps: steps of one restart.
        loss: a name in `objective.LOSSES`, or (logits, labels) -> (B,), which is climbed.
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
    radius = check_radius(epsilon, norm)
    if step_size is not None:
        check_size("step_size", checks.real("step_size", step_size, low=float("-inf")), norm)
    if direction not in (None, "ascent", "descent"):
        raise ValueError(f"direction is {direction!r}; allowed: 'ascent', 'descent', None")
    checks.integer("num_steps", num_steps, low=1)
    checks.integer("num_restarts", num_restarts, low=1)
    if start is not None:
        lookup(norms.STARTS, start, what="start")
    if num_restarts > 1 and start is None:
        raise ValueError(
            f"num_restarts is {num_restarts} with random_start off; every restart would be the same"
        )
    loss_fn = objective.create(loss)
    if objective.is_of_clean_logits(loss_fn) and start is None:
        raise ValueError(
            "loss is 'kl' with random_start off; its gradient at the image itself is 0, so that "
            "nothing would move"
        )
    plan = GradientPlan(
        norm, num_steps, loss_fn, direction, ball, box, start, num_restarts, rule, use_best
    )
    return CompiledAttack(plan, radius, step_size, step_ratio)
