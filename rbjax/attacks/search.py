"""What searches find, restarts and tries of one target class each, and plans of the margin."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from rbjax import prng
from rbjax.attacks import norms
from rbjax.attacks.attack import Problem, clean_keys, select
from rbjax.attacks.norms import NORMS
from rbjax.classifier import Classifier, Objective
from rbjax.losses import adversarial
from rbjax.typing import Array, Key


class Found(NamedTuple):
    """Images, and how far they got."""

    images: Array
    """(B, H, W, C)."""
    fooled: Array
    """(B,) bool."""
    merit: Array
    """(B,) the loss that was climbed, or minus the size of the smallest perturbation."""


def merit(loss: Array) -> Array:
    """Returns a loss as what finds are compared by, a NaN as minus infinity."""
    return jnp.where(jnp.isnan(loss), -jnp.inf, loss)


def nothing_found(images: Array) -> Found:
    """Returns what any find is better than, or as good as."""
    none = jnp.full(images.shape[:1], -jnp.inf, jnp.float32)
    return Found(images, jnp.zeros(none.shape, bool), none)


def better(new: Found, old: Found) -> Found:
    """Returns for each example what fools where the other does not, or else has more merit."""
    fools, same = new.fooled & ~old.fooled, new.fooled == old.fooled
    return select(fools | (same & (new.merit > old.merit)), new, old)


def best_restart(
    finder: Callable[[Problem, Array | int], Found], problem: Problem, num_restarts: int
) -> Found:
    """Returns the best find of several restarts: `finder(problem, restart's number)`."""
    if num_restarts == 1:
        return finder(problem._replace(keys=prng.per_draw(problem.keys, 0)), 0)

    def restart(number: Array | int, best: Found) -> Found:
        again = problem._replace(keys=prng.per_draw(problem.keys, number))
        return better(finder(again, number), best)

    return jax.lax.fori_loop(0, num_restarts, restart, nothing_found(problem.images))


class Finder(Protocol):
    """A search that can be tried with any keys and targets."""

    @property
    def norm(self) -> str:
        """Name of the norm of the ball."""
        ...

    def find(self, problem: Problem) -> Found:
        """Returns the best of its tries."""
        ...


def margin_objective(labels: Array, targets: Array | None) -> Objective:
    """Returns the margin as what is climbed, of the labels or towards targets."""
    if targets is None:
        return lambda logits: adversarial.margin(logits, labels)
    return lambda logits: -adversarial.margin(logits, targets)


_ROUNDING = 2e-6
"""Of what is added up to a logit, in float32: a lead that is less may be of one program alone."""


def clearly_fooled(
    problem: Problem, logits: Array, *, images: Array, gradient: Array | float
) -> Array:
    """Returns which examples are fooled by more than rounding, (B,) bool.

    What looks for the smallest perturbation ends at the boundary, where another program of the
    same model may say otherwise. Its logits differ by a few units in the last place of what they
    are sums of, for which sum |g x| stands.

    Args:
        problem: the batch.
        logits: (B, K), at the images.
        images: (B, H, W, C), x.
        gradient: (B, H, W, C) of the lead near the images, g; 0 where none was taken.
    """
    aimed = None if problem.any_wrong else problem.targets
    reference = problem.labels if aimed is None else aimed
    is_reference = jax.nn.one_hot(reference, logits.shape[1], dtype=bool)
    own = jnp.max(jnp.where(is_reference, logits, -jnp.inf), axis=1)
    other = jnp.max(jnp.where(is_reference, -jnp.inf, logits), axis=1)
    lead = other - own if aimed is None else own - other
    parts = jnp.sum(jnp.abs(gradient * images), axis=(1, 2, 3)) + jnp.abs(own) + jnp.abs(other)
    is_close = lead <= _ROUNDING * jnp.where(jnp.isfinite(parts), parts, 0.0)
    return problem.fooled(logits) & ~is_close


_UNSURE = 1e20
"""So many times larger counts what rounding may undo, or is too large: anything else is better."""


def keep_smallest(
    best: Found, problem: Problem, images: Array, logits: Array, *, gradient: Array, norm: str
) -> Found:
    """Returns the smallest perturbations that fool: of the best so far and of some images.

    What is fooled by no more than rounding, or lies outside the ball, counts only where there is
    nothing else.

    Args:
        best: with minus the sizes of its perturbations as merit, see `nothing_found`.
        problem: the batch.
        images: (B, H, W, C).
        logits: (B, K), at those images.
        gradient: see `clearly_fooled`.
        norm: in which size is measured.
    """
    sizes = jax.vmap(NORMS[norm].size)(images - problem.images)
    is_sure = clearly_fooled(problem, logits, images=images, gradient=gradient)
    is_sure &= sizes <= problem.epsilon
    fooled = problem.fooled(logits)
    new = Found(images, fooled, jnp.where(is_sure, -sizes, -_UNSURE * (1 + sizes)))
    return select(fooled & (new.merit > best.merit), new, best)


def within(best: Found, problem: Problem, norm: str) -> Found:
    """Returns a find of the smallest, or the image itself where it is too large."""
    sizes = jax.vmap(NORMS[norm].size)(best.images - problem.images)
    counts = best.fooled & (sizes <= problem.epsilon)
    return Found(select(counts, best.images, problem.images), counts, best.merit)


def annealed(
    number: Array | int, num_steps: Array | int, first: float, last: Array | float
) -> Array:
    """Returns a size that falls like a cosine from the first step to the last."""
    return last + 0.5 * (first - last) * (1 + jnp.cos(jnp.pi * number / num_steps))


class MarginPlan:
    """What plans have in common that climb the margin, or report their finds by it."""

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
        """Returns the margin, of the labels or towards targets."""
        del classifier, keys, images
        return margin_objective(labels, targets)


@dataclasses.dataclass(frozen=True)
class TargetsPlan(MarginPlan):
    """One search a target: the classes with the largest clean logits, but for the label.

    Whatever wrong class an image ends in, it is fooled: targets are only directions. A call with
    targets of its own goes for those alone.
    """

    finder: Finder
    num_targets: int
    ball: bool = True

    @property
    def norm(self) -> str:
        """Name of the norm of the ball."""
        return self.finder.norm

    def search(self, problem: Problem) -> Array:
        """Returns the best find over the targets."""
        if problem.targets is not None:
            return self.finder.find(problem).images
        clean = problem.classifier.logits(clean_keys(problem.keys), problem.images)
        count = min(self.num_targets, problem.classifier.num_classes - 1)
        ranked = ranked_targets(clean, problem.labels, count)

        def attempt(rank: Array, best: Found) -> Found:
            aimed = problem._replace(
                keys=prng.per_draw(problem.keys, rank), targets=ranked[:, rank], any_wrong=True
            )
            return better(self.finder.find(aimed), best)

        start = nothing_found(problem.images)
        return jax.lax.fori_loop(0, count, attempt, start).images


@dataclasses.dataclass(frozen=True)
class AimedPlan(TargetsPlan):
    """One try of such a search: towards the targets of the call, which are only directions."""

    num_targets: int = 1

    def search(self, problem: Problem) -> Array:
        """Returns what is found on the way to the targets."""
        return self.finder.find(problem._replace(any_wrong=True)).images


def ranked_targets(logits: Array, labels: Array, count: int) -> Array:
    """Returns the wrong classes with the largest logits, largest first, (B, count) int32.

    A class that is masked, its logit -inf, is no target: the first one is, again.
    """
    is_label = jax.nn.one_hot(labels, logits.shape[1], dtype=bool)
    largest, ranked = jax.lax.top_k(jnp.where(is_label, -jnp.inf, logits), count)
    return jnp.where(largest > -jnp.inf, ranked, ranked[:, :1])


def beginning(
    problem: Problem, restart: Array | int, num_restarts: int
) -> tuple[Callable[[Array, Array], Array], Array | bool]:
    """Returns what the steps of a restart climb, and whether the first one goes at random instead.

    The first restart climbs the problem's objective. The first step of the next ones climbs
    z_t - z_y of the label y and the wrong class t with the second largest logit, the third largest
    and so on; those after them, or with targets all but the first, begin at random. So they meet
    other boundaries.

    Args:
        problem: the batch.
        restart: its number.
        num_restarts: how many there are.

    Returns:
        (step's number, logits (B, K)) -> (B,), and a flag.
    """
    if num_restarts == 1:
        return lambda _, logits: problem.objective(logits), False
    if problem.targets is not None:
        return lambda _, logits: problem.objective(logits), restart > 0
    count = min(num_restarts, problem.classifier.num_classes - 1)
    rows = jnp.arange(len(problem.labels))

    def climbed(number: Array, logits: Array) -> Array:
        ranked = ranked_targets(jax.lax.stop_gradient(logits), problem.labels, count)
        targets = ranked[:, jnp.minimum(restart, count - 1)]
        lead = logits[rows, targets] - logits[rows, problem.labels]
        return jnp.where((number == 0) & (restart > 0), lead, problem.objective(logits))

    return climbed, restart >= problem.classifier.num_classes - 1


_LENGTHS = 8
"""Along a direction, each twice the one before."""


def lost(
    number: Array, num_steps: int, is_random: Array | bool, gradient: Array, best: Found
) -> Array:
    """Returns which examples look for a boundary at random in a step, (B,) bool: see `elsewhere`.

    Those of a restart that begins at random, and those without a gradient, until they find one,
    and for half of the steps at most.

    Args:
        number: of the step.
        num_steps: how many there are.
        is_random: whether this restart begins at random, see `beginning`.
        gradient: (B, H, W, C).
        best: what was found so far.
    """
    begins = is_random & (number < min(2 * _LENGTHS, num_steps // 2))
    is_flat = jnp.all(gradient == 0, axis=(1, 2, 3)) & (number < num_steps // 2)
    return (begins | is_flat) & ~best.fooled


def elsewhere(
    problem: Problem, number: Array, wanted: Array, *, draw: int, sparse: bool = False
) -> Array:
    """Returns images that step after step lie farther along a random direction, then along another.

    A direction and its opposite have `_LENGTHS` steps each, the last of which brings most values to
    the edge of the box.

    Args:
        problem: the batch.
        number: of the step.
        wanted: (B,) bool, the examples that it is wanted of; of the others it is the image.
        draw: number of the first draw.
        sparse: whether few values are to move much.
    """
    origin = problem.images
    longest = 4.0 * math.sqrt(origin[0].size)

    def look() -> Array:
        keys = prng.per_draw(problem.keys, draw + number // (2 * _LENGTHS))
        direction = norms.start(norms.STARTS["sphere"], keys, origin.shape[1:], 1.0, "l2")
        if sparse:
            direction = norms.steepest(direction**3, "l2")
        way = jnp.where(number % (2 * _LENGTHS) < _LENGTHS, longest, -longest)
        length = way * 2.0 ** (number % _LENGTHS + 1 - _LENGTHS)
        return jnp.clip(origin + length * direction, 0.0, 1.0)

    # Most calls want none.
    moved = jax.lax.cond(jnp.any(wanted), look, lambda: origin)
    return select(wanted, moved, origin)


_FARTHEST, _FLATTEST = 1e30, 1e-37


def to_boundary(loss: Array, slope: Array) -> Array:
    """Returns how far the boundary is to first order, |L| / slope, (B,), at most 1e30.

    Args:
        loss: (B,), of a loss that is 0 at the boundary.
        slope: (B,), dual norm of its gradient.
    """
    height = jnp.abs(jnp.nan_to_num(loss, posinf=_FARTHEST, neginf=-_FARTHEST))
    return jnp.minimum(height / jnp.maximum(slope, _FLATTEST), _FARTHEST)
