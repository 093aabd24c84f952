"""FAB: the fast adaptive boundary attack, which looks for the smallest perturbation."""

from __future__ import annotations

import dataclasses
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from rbjax import prng
from rbjax.attacks import norms
from rbjax.attacks.attack import CompiledAttack, Problem, column, select
from rbjax.attacks.l1 import spend
from rbjax.attacks.norms import NORMS
from rbjax.attacks.search import (
    Found,
    MarginPlan,
    TargetsPlan,
    best_restart,
    keep_smallest,
    nothing_found,
    within,
)
from rbjax.classifier import Objective
from rbjax.options import MOST, Count, Epsilon, Norm, Range, Share, checked
from rbjax.typing import Array, Key

_LEAST_STEP, _LARGEST_GAP = 1e-8, 1e30


@checked
def fab(
    *,
    epsilon: Epsilon | None = None,
    norm: Norm = "linf",
    num_targets: Annotated[int, Range(low=0, high=MOST)] = 9,
    num_steps: Count = 100,
    num_restarts: Count = 1,
    alpha_max: Share = 0.1,
    eta: Annotated[float, Range(low=1.0)] = 1.05,
    beta: Share = 0.9,
) -> CompiledAttack:
    """Returns the fast adaptive boundary attack: the smallest perturbation that it finds.

    With the boundary to a class taken for a hyperplane at x_k, d_1 and d_0 the shortest steps to
    it in the box from x_k and from the image,
    x_{k+1} = clip((1 - alpha) (x_k + eta d_1) + alpha (x_0 + eta d_0)) with
    alpha = min(|d_1| / (|d_1| + |d_0|), alpha_max). An adversarial x_{k+1} is kept if it is the
    smallest so far, and the search goes on from x_0 + beta (x_{k+1} - x_0).

    There is no final search on the line to the image: the official code has none. It ends at 1.005
    times the least distance in the median, on linear models and nets of 8 ReLUs, on these at up to
    1.17; where the gradient at the image is 0 one run finds nothing (`fmn` does, and ends nearer).

    Args:
        epsilon: only perturbations of at most this size count, in pixel units: an image with none
            is returned as it is. None: whatever is found.
        norm: `"linf"`, `"l2"` or `"l1"`.
        num_targets: runs, each towards the boundary to one of the classes with the largest logits
            at the image as it is (FAB-T), or to every one where there are fewer; 0: one run,
            each step to the nearest of all boundaries, which costs a gradient a class.
        num_steps: steps of each run.
        num_restarts: runs; the first from the image, others from random points nearby.
        alpha_max: largest pull towards the image, in [0, 1].
        eta: how far beyond the boundary a step goes, at least 1.
        beta: how far out the search goes on, in (0, 1).

    Returns:
        The attack; its set is the ball, if there is one, and the box.

    Raises:
        ValueError: for an option out of range.

    Source:
        Croce and Hein 2020, arXiv:1907.02044, algorithm 1; targets: arXiv:2003.01690, section 5.
    """
    norms.check_size("epsilon", epsilon, norm)
    plan = FABPlan(
        norm=norm,
        ball=epsilon is not None,
        num_steps=num_steps,
        num_restarts=num_restarts,
        alpha_max=alpha_max,
        eta=eta,
        beta=beta,
    )
    if num_targets == 0:
        return CompiledAttack(plan, epsilon)
    return CompiledAttack(TargetsPlan(plan, num_targets, ball=plan.ball), epsilon)


@dataclasses.dataclass(frozen=True)
class FABPlan(MarginPlan):
    """What the compiled program depends on."""

    norm: str
    ball: bool
    num_steps: int
    num_restarts: int
    alpha_max: float
    eta: float
    beta: float

    def search(self, problem: Problem) -> Array:
        """Returns the smallest find, or the image itself where there is none in the ball."""
        return self.find(problem).images

    def find(self, problem: Problem) -> Found:
        """Returns the smallest find over the restarts; its merit is minus its size."""
        best = best_restart(
            lambda again, number: _walk(self, again, number), problem, self.num_restarts
        )
        return within(best, problem, self.norm)


class _State(NamedTuple):
    images: Array
    best: Found
    """The smallest adversarial image so far."""


def _walk(plan: FABPlan, problem: Problem, restart: Array | int) -> Found:
    """Returns the smallest adversarial image of one run."""
    origin, classifier, size = problem.images, problem.classifier, jax.vmap(NORMS[plan.norm].size)

    def look(images: Array, keys: Key, best: Found, normal: Array) -> tuple[Array, Found]:
        logits = classifier.logits(keys, images)
        best = keep_smallest(best, problem, images, logits, gradient=normal, norm=plan.norm)
        return problem.fooled(logits), best

    def step(number: Array, state: _State) -> _State:
        keys = prng.per_draw(problem.keys, 2 * number + 2)
        gap, normal = _boundary(problem, keys, state.images, plan.norm)
        slack = jnp.sum(normal * (origin - state.images), axis=(1, 2, 3))
        from_here = nearest_step(state.images, normal, -gap, plan.norm)
        from_origin = nearest_step(origin, normal, -gap - slack, plan.norm)
        near, far = (jnp.maximum(size(d), _LEAST_STEP) for d in (from_here, from_origin))
        alpha = column(jnp.minimum(near / (near + far), plan.alpha_max))
        moved = (1 - alpha) * (state.images + plan.eta * from_here)
        moved = jnp.clip(moved + alpha * (origin + plan.eta * from_origin), 0.0, 1.0)
        keys = prng.per_draw(problem.keys, 2 * number + 3)
        fooled, best = look(moved, keys, state.best, normal)
        return _State(select(fooled, origin + plan.beta * (moved - origin), moved), best)

    start = nothing_found(origin)
    _, best = look(origin, prng.per_draw(problem.keys, 1), start, jnp.zeros_like(origin))
    first = origin
    if plan.num_restarts > 1:  # a further one begins at half of epsilon, or of the range
        radius = jnp.minimum(problem.epsilon, 1.0) / 2
        keys, sphere = prng.per_draw(problem.keys, 0), norms.STARTS["sphere"]
        moved = origin + norms.start(sphere, keys, origin.shape[1:], radius, plan.norm)
        first = jnp.where(restart == 0, origin, jnp.clip(moved, 0.0, 1.0))
    return jax.lax.fori_loop(0, plan.num_steps, step, _State(first, best)).best


def _boundary(problem: Problem, keys: Key, images: Array, norm: str) -> tuple[Array, Array]:
    """Returns the gap z_t - z_y to the nearest boundary, or the target's, and its gradient."""

    def climb(gap: Objective) -> tuple[Array, Array]:
        ascent = problem.classifier.value_and_grad(gap, keys, images)
        return ascent.loss, ascent.gradient

    def towards(targets: Array) -> tuple[Array, Array]:
        rows = jnp.arange(images.shape[0])
        return climb(lambda logits: logits[rows, targets] - logits[rows, problem.labels])

    if problem.targets is not None:
        # Where it counts alone the target has to exceed all others, not only the label.
        reached = towards(problem.targets) if problem.any_wrong else climb(problem.objective)
        gap, gradient = reached
        # Nowhere, where it is a NaN.
        gap = jnp.where(jnp.isnan(gap), 0.0, gap)
        return jnp.clip(gap, -_LARGEST_GAP, _LARGEST_GAP), gradient

    def nearer(offset: Array, best: tuple[Array, ...]) -> tuple[Array, ...]:
        gap, gradient = towards((problem.labels + offset) % problem.classifier.num_classes)
        distance = jnp.abs(gap) / jnp.maximum(norms.dual_sizes(gradient, norm), 1e-12)
        return select(distance < best[0], (distance, gap, gradient), best)

    far = jnp.full(images.shape[:1], jnp.inf, jnp.float32)
    start = (far, jnp.zeros_like(far), jnp.zeros_like(images))
    _, gap, gradient = jax.lax.fori_loop(1, problem.classifier.num_classes, nearer, start)
    return gap, gradient


def nearest_step(points: Array, normals: Array, offsets: Array, norm: str) -> Array:
    """Returns the smallest step to a hyperplane that stays in [0, 1].

    min ||d|| so that <w, d> = c and 0 <= x + d <= 1. Every value moves towards the plane, by t in
    l-inf and by t |w_i| in l2 unless the box stops it, with t so that the plane is reached; in l1
    one after the other, in the order of |w_i|, up to the box.

    Args:
        points: (B, H, W, C) in [0, 1], x.
        normals: (B, H, W, C), w.
        offsets: (B,), c.
        norm: `"linf"`, `"l2"` or `"l1"`.

    Returns:
        (B, H, W, C) d; where the box ends before the plane, as far as it goes; 0 where w is 0.

    Source:
        Croce and Hein 2020, arXiv:1907.02044, equations 4 to 6.
    """
    # Exact and without sorting: the distance to go solves a concave, piecewise linear equation of
    # one unknown, on which Newton's steps from zero arrive in a few turns.
    # Scaled, so that neither the gradients of a sure model (1e-30) nor their squares underflow.
    largest = jnp.max(jnp.abs(normals), axis=(1, 2, 3), keepdims=True)
    scale = jnp.where(largest > 0, largest, 1.0)
    w, c = normals / scale, offsets[:, None, None, None] / scale
    directions = jnp.sign(c) * jnp.sign(w)
    room = jnp.maximum(jnp.where(directions > 0, 1.0 - points, points), 0.0)
    weights, distance = jnp.abs(w), jnp.abs(c)
    if norm == "l1":
        gained = jax.vmap(spend)(distance[:, 0, 0, 0], weights * room, -weights)
        return directions * jnp.minimum(gained / jnp.where(weights > 0, weights, 1.0), room)
    pace = weights if norm == "l2" else jnp.where(weights > 0, 1.0, 0.0)

    def total(values: Array) -> Array:
        return jnp.sum(values, axis=(1, 2, 3), keepdims=True)

    def advances(carry: tuple[Array, Array]) -> Array:
        return jnp.any(carry[1])

    def newton(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        t, _ = carry
        reached = total(weights * jnp.minimum(t * pace, room))
        slope = total(jnp.where(t * pace < room, weights * pace, 0.0))
        further = t + (distance - reached) / jnp.where(slope > 0, slope, 1.0)
        further = jnp.where(slope > 0, further, t)
        # A step too small for float32 ends it too.
        return jnp.maximum(further, t), further > t * (1 + 1e-6)

    start = jnp.zeros_like(distance)
    t, _ = jax.lax.while_loop(advances, newton, (start, jnp.ones(start.shape, bool)))
    return directions * jnp.minimum(t * pace, room)
