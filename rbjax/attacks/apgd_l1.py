"""APGD in l1: sparse steps, their sparsity adapted, in balls that shrink to the one asked for."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rbjax import prng
from rbjax.attacks import norms
from rbjax.attacks.attack import Problem, column, select
from rbjax.attacks.l0 import project_l0, size_l0
from rbjax.attacks.l1 import movable
from rbjax.attacks.search import Found, best_restart, merit
from rbjax.classifier import Classifier, Objective
from rbjax.losses import adversarial
from rbjax.typing import Array, Key, LossFn

_RADII = ((3.0, 0.3), (2.0, 0.3), (1.0, 0.4))
"""Of the balls, in epsilons, and which share of the steps is made in each."""
_SPARSER, _SHORTER, _SHORTEST = 1.5, 1.5, 10.0
"""The steps move so many times fewer values than the best point has changed; a step that does not
get sparser becomes shorter, ten times at most."""
_FEWER = 0.95
"""With a smaller share of the values that had changed at the last checkpoint it is sparser."""


_ROUNDING = 1e-5
"""What a value has to change by to count."""


@dataclasses.dataclass(frozen=True)
class APGDL1Plan:
    """What the compiled program depends on."""

    num_steps: int
    num_restarts: int
    loss: LossFn

    norm = "l1"
    ball = True
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
        """Returns the best restart's images."""
        return self.find(problem).images

    def find(self, problem: Problem) -> Found:
        """Returns the best find of the restarts."""
        return best_restart(lambda again, _: _ascend(self, again), problem, self.num_restarts)


class Schedule(NamedTuple):
    """What each look at the model is, (V,) each."""

    radius: np.ndarray
    """Of its ball, in epsilons."""
    begins: np.ndarray
    """Whether it is the first one in its ball."""
    is_checkpoint: np.ndarray
    """Whether sparsity and step size are set anew after it."""


def schedule(num_steps: int) -> Schedule:
    """Returns the looks of a search of N steps: one a step, and one where each ball begins.

    Checkpoints come after each 4 % of the steps of a ball.

    Args:
        num_steps: N.
    """
    counts, left = [], num_steps
    for _, share in _RADII[:-1]:
        counts.append(min(-(-round(100 * share) * num_steps // 100), left))
        left -= counts[-1]
    counts.append(left)
    radius, begins, is_checkpoint = [], [], []
    for (size, _), count in zip(_RADII, counts, strict=True):
        interval = max(4 * count // 100, 1)
        radius += [size] * (count + 1)
        begins += [True, *[False] * count]
        is_checkpoint += [False, *[step % interval == interval - 1 for step in range(count)]]
    return Schedule(np.array(radius, np.float32), np.array(begins), np.array(is_checkpoint))


class _Point(NamedTuple):
    """An iterate."""

    images: Array
    gradient: Array
    loss: Array


class _State(NamedTuple):
    point: _Point
    best: _Point
    """Of those in this ball."""
    adversarial: Found
    """The last misclassified iterate in this ball."""
    step_size: Array
    num_moved: Array
    """Values that a step moves."""
    num_then: Array
    """Values that the best point had changed at the last checkpoint."""


def _ascend(plan: APGDL1Plan, problem: Problem) -> Found:
    """Returns what one run finds."""
    origin, size = problem.images, jax.vmap(size_l0)
    # Not the problem's own where targets are tried in turn.
    climbed = plan.objective(
        problem.classifier, problem.keys, origin, problem.labels, problem.targets
    )

    def look(state: _State, now: tuple[Array, ...]) -> tuple[_State, None]:
        number, radius, begins, is_checkpoint = now
        epsilon, here = radius * problem.epsilon, state.point
        gradient = movable(here.gradient, here.images)
        sparse = jnp.sign(jax.vmap(project_l0)(gradient, state.num_moved))
        step = sparse / jnp.maximum(jnp.sum(jnp.abs(sparse), (1, 2, 3), keepdims=True), 1.0)
        ahead = here.images + column(state.step_size) * step
        ahead = jnp.where(begins, state.best.images, ahead)
        images = norms.confine(ahead, origin, epsilon, "l1")
        seen = problem.classifier.value_and_grad(
            climbed, prng.per_draw(problem.keys, number + 1), images
        )
        new = _Point(images, seen.gradient, merit(seen.loss))
        fooled = problem.fooled(seen.logits)
        found = Found(images, fooled, state.adversarial.merit)
        best = select(begins | (new.loss > state.best.loss), new, state.best)
        # What it has changed is what the next steps are about.
        delta = best.images - origin
        changed = size(jnp.where(jnp.abs(delta) > _ROUNDING, delta, 0.0))
        is_sparser = begins | (changed < _FEWER * state.num_then)
        shorter = jnp.maximum(state.step_size / _SHORTER, epsilon / _SHORTEST)
        sets = begins | is_checkpoint
        num_moved = jnp.maximum(jnp.ceil(changed / _SPARSER), 1.0)
        return _State(
            point=select(is_checkpoint & is_sparser, best, new),
            best=best,
            adversarial=select(begins | fooled, found, state.adversarial),
            step_size=jnp.where(sets, jnp.where(is_sparser, epsilon, shorter), state.step_size),
            num_moved=jnp.where(sets, num_moved, state.num_moved),
            num_then=jnp.where(sets, changed, state.num_then),
        ), None

    normal = jax.vmap(lambda key: prng.normal(key, origin.shape[1:]))
    zeros = jnp.zeros(origin.shape[:1], jnp.float32)
    start = _Point(
        origin + normal(prng.per_draw(problem.keys, 0)), jnp.zeros_like(origin), zeros - jnp.inf
    )
    state = _State(start, start, Found(origin, zeros > 0, zeros), zeros, zeros, zeros)
    looks = schedule(plan.num_steps)
    numbers = jnp.arange(len(looks.radius))
    state, _ = jax.lax.scan(look, state, (numbers, *map(jnp.asarray, looks)))
    adversarial = state.adversarial
    return Found(
        select(adversarial.fooled, adversarial.images, state.best.images),
        adversarial.fooled,
        state.best.loss,
    )
