"""Carlini and Wagner's l2 attack: the smallest perturbation that fools, by an optimiser."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from rbjax import prng
from rbjax.attacks.attack import CompiledAttack, Problem, clean_keys, column, select
from rbjax.attacks.norms import NORMS, RULES, check_size, dual_sizes
from rbjax.attacks.search import MarginPlan, clearly_fooled, to_boundary
from rbjax.classifier import Gradient
from rbjax.options import MOST, PIXELS, Count, Epsilon, NotNegative, Positive, Range, checked
from rbjax.typing import Array

_LARGEST = 1e10


@checked
def carlini_wagner(
    *,
    epsilon: Annotated[Epsilon, Range(low=0.0, high=MOST, unit=PIXELS, norm="l2")] | None = None,
    confidence: NotNegative = 0.0,
    num_steps: Count = 1000,
    search_steps: Count = 9,
    learning_rate: Positive = 0.01,
    initial_constant: Annotated[float, Range(low=1e-10, high=_LARGEST)] = 1e-3,
    abort_early: bool = True,
) -> CompiledAttack:
    """Returns Carlini and Wagner's attack in l2.

    min_w ||x' - x||_2^2 + c max(confidence - m(x'), 0) with x' = (tanh(w) + 1) / 2, which stays in
    the box, m = max_{j != y} z_j - z_y (with targets z_t - max_{j != t} z_j), by Adam from w of the
    image. Each image has its own c: times ten until it is fooled, at least a tenth of what would be
    right for a linear m, then halfway between the largest that was too small and the smallest that
    was not. Kept is the smallest perturbation of all steps
    that fools with a margin of at least `confidence`. It ends at 1.001 to 1.003 times the least
    distance in the median, on nets of 8 ReLUs at up to 1.45 (2.8 of other images), and may find
    nothing where the gradient at the image is 0; `fmn` with restarts does.

    Args:
        epsilon: only perturbations of at most this size count, in pixel units: an image with none
            is returned as it is. None: whatever is found.
        confidence: kappa, by how much the wrong class has to win, in units of the logits.
        num_steps: steps of Adam for each c, at most.
        search_steps: values of c that are tried.
        learning_rate: of Adam, in units of w.
        initial_constant: the first c.
        abort_early: whether an image stops for one c when a tenth of its steps has not lowered the
            smallest sum so far by a ten-thousandth.

    Returns:
        The attack; its set is the l2 ball, if there is one, and the box. Its loss is the margin.

    Raises:
        ValueError: for an option out of range.

    Source:
        Carlini and Wagner 2017, arXiv:1608.04644, section VI-A with f_6. A c counts as large enough
        if the last tenth of its steps fooled: in their code any step does, also Adam's first leap
        across the boundary, after which c is lowered for nothing. Their code ends a batch as
        a whole when its summed loss stands still; here each image ends by itself, so that a result
        does not depend on its batch.
    """
    check_size("epsilon", epsilon, "l2")
    plan = CarliniWagnerPlan(
        confidence=confidence,
        num_steps=num_steps,
        search_steps=search_steps,
        learning_rate=learning_rate,
        initial_constant=initial_constant,
        abort_early=abort_early,
    )
    return CompiledAttack(plan, epsilon)


class _Best(NamedTuple):
    """The smallest perturbation that fools, so far."""

    images: Array
    sizes: Array
    """(B,) its l2 norm; infinite where there is none."""


class _Constants(NamedTuple):
    """The weights of the margin that an image has tried, each (B,)."""

    current: Array
    low: Array
    """The largest that did not fool."""
    high: Array
    """The smallest that did; infinite where none has."""


class _Descent(NamedTuple):
    """An optimisation with one c for each image."""

    number: Array
    """() int32, steps that were made."""
    w: Array
    memory: Any
    best: _Best
    fooled: Array
    """(B,) whether any step since the last look fooled."""
    lowest: Array
    """(B,) the smallest sum so far."""
    lowest_before: Array
    """(B,) that at the last look."""
    stopped: Array
    """(B,) whether it stands still."""


_EDGE = 0.999999
"""Values at the edge of the box lie at infinity in w; their code moves them this far inside."""

"""The largest c."""

_ADAM = RULES["adam"]


@dataclasses.dataclass(frozen=True)
class CarliniWagnerPlan(MarginPlan):
    """What the compiled program depends on."""

    confidence: float
    num_steps: int
    search_steps: int
    learning_rate: float
    initial_constant: float
    abort_early: bool

    norm = "l2"
    ball = True

    def search(self, problem: Problem) -> Array:
        """Returns the smallest find, or the image itself where there is none in the ball."""
        images = problem.images
        keys = clean_keys(problem.keys)
        clean, near = _near_constant(
            problem.classifier.value_and_grad(problem.objective, keys, images)
        )
        # The smallest perturbation of what is fooled already is none.
        best = _Best(images, jnp.where(self.succeeds(problem, clean), jnp.float32(0.0), jnp.inf))
        ones = jnp.ones(images.shape[:1], jnp.float32)
        constants = _Constants(self.initial_constant * ones, 0.0 * ones, jnp.inf * ones)

        def search(number: Array, carry: tuple[_Best, _Constants]) -> tuple[_Best, _Constants]:
            best, constants = carry
            again = problem._replace(keys=prng.per_draw(problem.keys, number))
            descent = _descend(self, again, constants.current, best)
            # c is bisected once one has fooled, and made ten times larger before, or more where
            # logits are small.
            current, low, high = constants
            high = jnp.where(descent.fooled, jnp.minimum(high, current), high)
            low = jnp.where(descent.fooled, low, jnp.maximum(low, current))
            larger = jnp.minimum(jnp.maximum(10 * current, 0.1 * near), _LARGEST)
            current = jnp.where(jnp.isfinite(high), (low + high) / 2, larger)
            return descent.best, _Constants(current, low, high)

        best, _ = jax.lax.fori_loop(0, self.search_steps, search, (best, constants))
        return select(best.sizes <= problem.epsilon, best.images, images)

    def succeeds(self, problem: Problem, logits: Array) -> Array:
        """Returns which images are fooled by enough of a margin, (B,) bool."""
        too_little = problem.objective(logits) < self.confidence  # which a NaN is not
        return problem.fooled(logits) & ~too_little


def _near_constant(seen: Gradient) -> tuple[Array, Array]:
    """Returns the logits, and the c that would be right if the margin m were linear, (B,).

    ||d||^2 - c <g, d> is least at d = c g / 2, which is on the boundary for c = 2 |m| / ||g||^2.
    """
    slope = dual_sizes(seen.gradient, "l2")
    right = 2 * to_boundary(seen.loss, slope) / jnp.maximum(slope, 1 / _LARGEST)
    return seen.logits, jnp.where(slope > 0, right, 0.0)


def _descend(plan: CarliniWagnerPlan, problem: Problem, c: Array, best: _Best) -> _Descent:
    """Returns the end of an optimisation from the images, and the best find so far.

    Args:
        plan: the plan.
        problem: the batch, with the keys of this optimisation.
        c: (B,) weights of the margin.
        best: what earlier ones found.
    """
    images, window = problem.images, max(plan.num_steps // 10, 10)

    def climbed(logits: Array) -> Array:
        return jnp.minimum(problem.objective(logits), plan.confidence)

    def goes_on(state: _Descent) -> Array:
        return (state.number < plan.num_steps) & ~jnp.all(state.stopped)

    def step(state: _Descent) -> _Descent:
        tanh = jnp.tanh(state.w)
        moved = (tanh + 1) / 2
        keys = prng.per_draw(problem.keys, state.number)
        ascent = problem.classifier.value_and_grad(climbed, keys, moved)
        sizes = jax.vmap(NORMS["l2"].size)(moved - images)
        going = ~state.stopped
        # One that has stopped waits for its batch: what it finds meanwhile does not count.
        is_sure = clearly_fooled(problem, ascent.logits, images=moved, gradient=0.0)
        succeeded = plan.succeeds(problem, ascent.logits) & is_sure & going
        better = succeeded & (sizes < state.best.sizes)
        lowest = jnp.minimum(state.lowest, sizes**2 + c * (plan.confidence - ascent.loss))
        # The last stretch is never shorter than the others.
        begins = (state.number % window == 0) & (plan.num_steps - state.number >= window)
        fooled = state.fooled & ~begins
        looked = (state.number % window == window - 1) & plan.abort_early
        still = looked & (lowest > 0.9999 * state.lowest_before)
        gradient = (2 * (moved - images) - column(c) * ascent.gradient) * (1 - tanh**2) / 2
        memory, direction = _ADAM.step(state.memory, gradient)
        return _Descent(
            number=state.number + 1,
            w=state.w - plan.learning_rate * direction,
            memory=memory,
            best=select(better, _Best(moved, sizes), state.best),
            fooled=jnp.where(going, fooled | succeeded, state.fooled),
            lowest=lowest,
            lowest_before=jnp.where(looked, lowest, state.lowest_before),
            stopped=state.stopped | still,
        )

    never = jnp.full(c.shape, jnp.inf, jnp.float32)
    w = jnp.arctanh((2 * jnp.clip(images, 0.0, 1.0) - 1) * _EDGE)
    start = _Descent(
        number=jnp.zeros((), jnp.int32),
        w=w,
        memory=_ADAM.init(w),
        best=best,
        fooled=jnp.zeros(c.shape, bool),
        lowest=never,
        lowest_before=never,
        stopped=best.sizes == 0,
    )
    return jax.lax.while_loop(goes_on, step, start)
