"""FMN: fast minimum-norm attacks, gradient steps in a ball whose radius adapts to the boundary."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp

from rbjax import prng
from rbjax.attacks import norms
from rbjax.attacks.attack import CompiledAttack, Problem, column, select
from rbjax.attacks.l1 import movable
from rbjax.attacks.norms import NORMS
from rbjax.attacks.search import (
    Found,
    MarginPlan,
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
from rbjax.options import Count, Epsilon, Positive, Range, checked
from rbjax.typing import Array


@checked
def fmn(
    *,
    epsilon: Epsilon | None = None,
    norm: Literal["linf", "l2", "l1", "l0"] = "linf",
    num_steps: Count = 100,
    num_restarts: Count = 1,
    step_length: Positive = 1.25,
    gamma: Annotated[float, Range(above=0.0, below=1.0)] = 0.05,
) -> CompiledAttack:
    """Returns the fast minimum-norm attack: the smallest perturbation that it finds.

    d_{k+1} = P(d_k + alpha_k g / ||g||_2) from d_0 = 0, with g the gradient at x + d_k of the
    margin m = max_{j != y} z_j - z_y (towards a target z_t - max_{j != t} z_j) and P the projection
    on the ball of radius r_{k+1} and the box. The radius is

        min((1 - gamma_k) r_k, the smallest size so far) where x + d_k fools,
        (1 + gamma_k) r_k                                where it does not and one before did,
        ||d_k|| + (1 + gamma_k) |m| / ||g||_dual         where none has: just beyond the boundary,

    (where a run went at random and fools at most ||d_k|| - |m| / (2 ||g||_dual), half of the way
    back) and in l0, a whole number, at least one smaller or larger than r_k. alpha, in units of the
    largest l2 norm in the ball, falls from `step_length` to a hundredth and gamma to a fiftieth of
    itself, like a cosine. Kept is the smallest d_k that fools. A step is a pass forwards and
    backwards.

    Args:
        epsilon: only perturbations of at most this size count, in pixel units, in l0 a number of
            values: an image with none is returned as it is. None: whatever is found.
        norm: `"linf"`, `"l2"`, `"l1"`, or `"l0"`, the number of values that change.
        num_steps: steps of each run.
        num_restarts: runs from the image; the first step of the second goes towards the wrong
            class with the second largest logit, and so on; further ones first look for a boundary
            in random directions, as one does where the gradient at the image is 0. Of 40 images and
            nets of 8 ReLUs one run ended at 1.000 times the least distance in the median and 1.92
            at worst, 20 at 1.02 at worst; of 80 others (`--seed 1`) at 4.55 and 1.06.
        step_length: alpha_0, over the largest l2 norm in the ball of radius r: r in l2 and l1,
            r sqrt(d) in l-inf of d values, sqrt(r) in l0.
        gamma: gamma_0, by which share the radius changes in a step, between 0 and 1.

    Returns:
        The attack; its set is the ball, if there is one, and the box. Its loss is the margin.

    Raises:
        ValueError: for an option out of range.

    Source:
        Pintor et al. 2021, arXiv:2102.12827, algorithm 1. There alpha is a length, 1 to 0.01, which
        is too long near the boundary. Their code, maurapintor/Fast-Minimum-Norm-FMN-Attack at
        3f0283a, comes up to the boundary from below before it has crossed it, and may never cross:
        here it aims beyond, comes back half of the way where it went at random, and
        ||g||_dual leaves out what is at the edge of the box. It projects on the ball and then on
        the box, which cuts off what the ball has spent; here P is the nearest point of both. It has
        no restarts, but can begin at a point that fools.
    """
    norms.check_size("epsilon", epsilon, norm)
    plan = FMNPlan(
        norm=norm,
        ball=epsilon is not None,
        num_steps=num_steps,
        num_restarts=num_restarts,
        step_length=step_length,
        gamma=gamma,
    )
    return CompiledAttack(plan, epsilon)


@dataclasses.dataclass(frozen=True)
class FMNPlan(MarginPlan):
    """What the compiled program depends on."""

    norm: str
    ball: bool
    num_steps: int
    num_restarts: int
    step_length: float
    gamma: float

    def search(self, problem: Problem) -> Array:
        """Returns the smallest find, or the image itself where there is none in the ball."""
        best = best_restart(functools.partial(_walk, self), problem, self.num_restarts)
        return within(best, problem, self.norm).images


_REACH: dict[str, Callable[[Array, int], Array]] = {
    "linf": lambda radius, size: radius * math.sqrt(size),
    "l2": lambda radius, _: radius,
    "l1": lambda radius, _: radius,
    "l0": lambda radius, _: jnp.sqrt(radius),
}
"""(radius, number of values) -> the largest l2 norm in the ball."""


class _State(NamedTuple):
    images: Array
    radius: Array
    """(B,) that of the ball in which the images lie."""
    smallest: Array
    """(B,) the smallest size that fooled; infinite where none did."""
    strayed: Array
    """(B,) bool, whether it went beyond a boundary in a random direction."""
    best: Found


def _walk(plan: FMNPlan, problem: Problem, restart: Array | int) -> Found:
    """Returns the smallest perturbation that fools of one run."""
    origin, size = problem.images, jax.vmap(NORMS[plan.norm].size)
    farthest = size(jnp.maximum(origin, 1.0 - origin))
    climbed, is_random = beginning(problem, restart, plan.num_restarts)

    def step(number: Array, state: _State) -> _State:
        keys, climbs = prng.per_draw(problem.keys, number), functools.partial(climbed, number)
        seen = problem.classifier.value_and_grad(climbs, keys, state.images)
        fooled = clearly_fooled(problem, seen.logits, images=state.images, gradient=seen.gradient)
        best = keep_smallest(
            state.best, problem, state.images, seen.logits, gradient=seen.gradient, norm=plan.norm
        )
        sizes = size(state.images - origin)
        smallest = jnp.where(fooled, jnp.minimum(sizes, state.smallest), state.smallest)
        gamma = annealed(number, plan.num_steps, plan.gamma, 0.02 * plan.gamma)
        if plan.norm == "l0":
            radius = _whole_radius(state.radius, fooled, smallest, gamma)
        else:
            slope = norms.dual_sizes(movable(seen.gradient, state.images), plan.norm)
            away = to_boundary(seen.loss, slope)
            larger = jnp.where(
                jnp.isinf(smallest), sizes + (1.0 + gamma) * away, (1.0 + gamma) * state.radius
            )
            nearer = jnp.where(state.strayed, sizes - 0.5 * away, jnp.inf)
            smaller = jnp.minimum(jnp.minimum((1.0 - gamma) * state.radius, nearer), smallest)
            radius = jnp.where(fooled, smaller, larger)
        radius = jnp.minimum(radius, farthest)
        ahead = norms.steepest(seen.gradient, "l2")
        in_l0 = plan.norm == "l0"  # where one step goes at random: far away all values have changed
        is_lost = lost(number, 2 if in_l0 else plan.num_steps, is_random, seen.gradient, best)
        at_random = elsewhere(
            problem, number, is_lost, draw=plan.num_steps, sparse=plan.norm == "l1"
        )
        if in_l0:
            ahead = select(is_lost, norms.steepest(at_random - origin, "l2"), ahead)
        length = annealed(number, plan.num_steps, plan.step_length, 0.01 * plan.step_length)
        reach = _REACH[plan.norm](radius, origin[0].size)
        images = state.images + column(length * reach) * ahead
        images = _confine(images, origin, radius, plan.norm)
        if not in_l0:
            images = select(is_lost, at_random, images)
            radius = jnp.where(is_lost, size(at_random - origin), radius)
        return _State(images, radius, smallest, state.strayed | is_lost, best)

    none = jnp.full(farthest.shape, jnp.inf, jnp.float32)
    radius = jnp.ones_like(none) if plan.norm == "l0" else none
    start = _State(origin, radius, none, jnp.isnan(none), nothing_found(origin))
    return jax.lax.fori_loop(0, plan.num_steps, step, start).best


def _whole_radius(radius: Array, fooled: Array, smallest: Array, gamma: Array) -> Array:
    """Returns the next radius in l0: at least one value more or less, and at least one."""
    fewer = jnp.minimum(radius - 1.0, jnp.floor((1.0 - gamma) * radius))
    more = jnp.maximum(radius + 1.0, jnp.floor((1.0 + gamma) * radius))
    return jnp.maximum(jnp.where(fooled, jnp.minimum(fewer, smallest), more), 1.0)


_HALVINGS = 32
"""Of the bracket around a share."""


def _confine(moved: Array, images: Array, radius: Array, norm: str) -> Array:
    """Returns the nearest points of the balls around images and [0, 1].

    In l2 clip(t d) with the largest t in [0, 1] that brings it into the ball: where `norms.confine`
    scales and then clips, what lies outside takes from the rest.
    """
    if norm != "l2":
        return norms.confine(moved, images, radius, norm)
    delta = moved - images

    def inside(share: Array) -> Array:
        return jnp.clip(images + column(share) * delta, 0.0, 1.0)

    def halve(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        middle = 0.5 * (low + high)
        fits = jax.vmap(NORMS["l2"].size)(inside(middle) - images) <= radius
        return jnp.where(fits, middle, low), jnp.where(fits, high, middle)

    ones = jnp.ones_like(radius)
    return inside(jax.lax.fori_loop(0, _HALVINGS, halve, (0 * ones, ones))[0])
