"""DDN: the direction of a perturbation by gradients, its size by whether it fools."""

from __future__ import annotations

import dataclasses
import functools
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from rbjax import prng
from rbjax.attacks import norms
from rbjax.attacks.attack import CompiledAttack, Problem, column, select
from rbjax.attacks.norms import NORMS
from rbjax.attacks.search import (
    Found,
    annealed,
    beginning,
    best_restart,
    clearly_fooled,
    elsewhere,
    keep_smallest,
    lost,
    nothing_found,
    to_boundary,
    within,
)
from rbjax.classifier import Classifier, Objective
from rbjax.losses import adversarial
from rbjax.losses.adversarial import OfLabels
from rbjax.options import MOST, PIXELS, Count, Epsilon, Positive, Range, checked
from rbjax.typing import Array, Key, LossFn

_MARGINS = (adversarial.margin, adversarial.dlr, adversarial.probability_margin)
"""Losses that are 0 at the boundary."""


@checked
def ddn(
    *,
    epsilon: Annotated[Epsilon, Range(low=0.0, high=MOST, unit=PIXELS, norm="l2")] | None = None,
    num_steps: Count = 100,
    num_restarts: Count = 1,
    initial_size: Annotated[float, Range(above=0.0, high=MOST, unit=PIXELS)] | None = None,
    gamma: Annotated[float, Range(above=0.0, below=1.0)] = 0.05,
    step_length: Positive = 0.5,
    loss: OfLabels | LossFn = "margin",
) -> CompiledAttack:
    """Returns the attack that decouples a perturbation's direction from its norm, in l2.

    r_{k+1} = (1 - gamma) r_k where x + d_k fools, else (1 + gamma) r_k, and
    d_{k+1} = clip(x + r_{k+1} u / ||u||, 0, 1) - x with u = d_k + alpha_k r_{k+1} g / ||g||, g the
    gradient of the loss at x + d_k and d_0 = 0. alpha falls from `step_length` to a hundredth of it
    like a cosine. Kept is the smallest d_k that fools. A step is a pass forwards and backwards.

    Args:
        epsilon: only perturbations of at most this size count, in pixel units: an image with none
            is returned as it is. None: whatever is found.
        num_steps: steps of each run.
        num_restarts: runs from the image; the first step of the second goes towards the wrong
            class with the second largest logit, and so on; further ones first look for a boundary
            in random directions, as one does where the gradient at the image is 0. On nets of 8
            ReLUs one run ended at up to 1.57 times the least distance, 20 at up to 1.01.
        initial_size: r_0, in pixel units; None: where the boundary is to first order, |L| / ||g||
            at the image of a loss L that is 0 there, "margin", "dlr" and "probability_margin", and
            1 of any other.
        gamma: by which share the size changes in a step, between 0 and 1.
        step_length: alpha_0, in radii. On `experiments.parity.published`'s LeNet-5, trained by PGD,
            1 ended at 1.94 in the median of 1,000 images, 0.5 at 1.84.
        loss: `"cross_entropy"`, `"margin"`, `"dlr"`, `"probability_margin"`, or (logits, labels)
            -> (B,). Cross-entropy goes for all wrong classes at once: on a linear model of 5 it
            ends at 1.10 to 1.27 of the exact distance in the median, the margin at 1.001; and its
            gradient is 0 where the gap of the logits is above about 100.

    Returns:
        The attack; its set is the l2 ball, if there is one, and the box.

    Raises:
        ValueError: for an option out of range.

    Source:
        Rony et al. 2019, arXiv:1811.09600, algorithm 1, where the loss is cross-entropy, r_0 is 1
        and alpha a length: near the boundary, or far from it, 1 is too long or too short. Their
        code, jeromerony/fast_adversarial at 45210b7, makes a step in a random direction where the
        gradient is 0, and rounds the images to 256 levels, which this attack does not.
    """
    norms.check_size("epsilon", epsilon, "l2")
    loss_fn = adversarial.LOSSES[loss] if isinstance(loss, str) else loss
    if initial_size is None and loss_fn not in _MARGINS:
        initial_size = 1.0
    plan = DDNPlan(
        ball=epsilon is not None,
        num_steps=num_steps,
        num_restarts=num_restarts,
        initial_size=initial_size,
        gamma=gamma,
        step_length=step_length,
        loss=loss_fn,
    )
    return CompiledAttack(plan, epsilon)


@dataclasses.dataclass(frozen=True)
class DDNPlan:
    """What the compiled program depends on."""

    ball: bool
    num_steps: int
    num_restarts: int
    initial_size: float | None
    """None: to first order, see `ddn`."""
    gamma: float
    step_length: float
    loss: LossFn

    norm = "l2"
    box = True
    takes_step_size = False

    def objective(
        self,
        classifier: Classifier,
        keys: Key,
        images: Array,
        labels: Array,
        targets: Array | None,
    ) -> Objective:
        """Returns the loss, of the labels or towards targets."""
        del classifier, keys, images
        return adversarial.objective(self.loss, labels, targets)

    def search(self, problem: Problem) -> Array:
        """Returns the smallest find, or the image itself where there is none in the ball."""
        best = best_restart(functools.partial(_walk, self), problem, self.num_restarts)
        return within(best, problem, self.norm).images


class _State(NamedTuple):
    images: Array
    radius: Array
    """(B,) that of the sphere on which the images lie, the box aside."""
    best: Found


def _walk(plan: DDNPlan, problem: Problem, restart: Array | int) -> Found:
    """Returns the smallest perturbation that fools of one run."""
    origin, size = problem.images, jax.vmap(NORMS["l2"].size)
    farthest = size(jnp.maximum(origin, 1.0 - origin))
    climbed, is_random = beginning(problem, restart, plan.num_restarts)

    def step(number: Array, state: _State) -> _State:
        keys, climbs = prng.per_draw(problem.keys, number), functools.partial(climbed, number)
        seen = problem.classifier.value_and_grad(climbs, keys, state.images)
        fooled = clearly_fooled(problem, seen.logits, images=state.images, gradient=seen.gradient)
        best = keep_smallest(
            state.best, problem, state.images, seen.logits, gradient=seen.gradient, norm="l2"
        )
        radius = state.radius
        if plan.initial_size is None:
            ahead = to_boundary(seen.loss, norms.dual_sizes(seen.gradient, "l2"))
            radius = jnp.where(number == 0, ahead, radius)
        radius = radius * jnp.where(fooled, 1.0 - plan.gamma, 1.0 + plan.gamma)
        radius = jnp.minimum(radius, farthest)
        ahead = norms.steepest(seen.gradient, "l2")
        length = annealed(number, plan.num_steps, plan.step_length, 0.01 * plan.step_length)
        ahead = column(length * radius) * ahead
        direction = norms.steepest(state.images - origin + ahead, "l2")
        images = jnp.clip(origin + column(radius) * direction, 0.0, 1.0)
        is_lost = lost(number, plan.num_steps, is_random, seen.gradient, best)
        at_random = elsewhere(problem, number, is_lost, draw=plan.num_steps)
        images = select(is_lost, at_random, images)
        radius = jnp.where(is_lost, size(at_random - origin), radius)
        return _State(images, radius, best)

    radius = jnp.full(farthest.shape, plan.initial_size or 1.0, jnp.float32)
    start = _State(origin, radius, nothing_found(origin))
    return jax.lax.fori_loop(0, plan.num_steps, step, start).best
