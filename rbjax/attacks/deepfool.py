"""DeepFool: step after step to the nearest boundary, each taken for a hyperplane.

Its walk is also what one kind of universal perturbation is made of (`universal/deepfool.py`).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp

from rbjax import prng
from rbjax.attacks.attack import CompiledAttack, Problem, clean_keys, select
from rbjax.attacks.norms import NORMS, check_size, dual_sizes, steepest
from rbjax.attacks.search import MarginPlan, clearly_fooled, ranked_targets
from rbjax.options import MOST, Count, Epsilon, NotNegative, Range, checked
from rbjax.typing import Array

SHORTEST_STEP = 1e-4
"""In pixel units: on the boundary itself, where classes tie, a step would have the length 0."""
_LONGEST_STEP = 1e6
"""Beyond every image; of a plane at 1e38 a step would not be finite."""


@checked
def deepfool(
    *,
    epsilon: Epsilon | None = None,
    norm: Literal["linf", "l2"] = "l2",
    num_steps: Count = 50,
    num_candidates: Annotated[int, Range(low=2, high=MOST)] = 10,
    overshoot: NotNegative = 0.02,
) -> CompiledAttack:
    """Returns DeepFool: a small perturbation to the nearest wrong class.

    At each iterate the boundary between the label y and each candidate k is taken for the
    hyperplane on which f_k + <w_k, d> = 0, with f_k = z_k - z_y and w_k = grad z_k - grad z_y. With
    k the one of smallest distance |f_k| / ||w_k||, the dual norm, the step r goes straight there:
    |f_k| / ||w_k||_2^2 w_k in l2, |f_k| / ||w_k||_1 sign(w_k) in l-inf. The image is
    clip(x + (1 + overshoot) sum r, 0, 1) and stops where it is fooled.

    It ends at 1.00 to 1.02 times the least distance in the median, as the overshoot lets it (at
    1.001 in l2 with one of 0.001), on nets of 8 ReLUs at up to 2.3, and finds nothing where the
    gradient at the image is 0: `fmn` is for what is nearest.

    With targets the hyperplane is that between the target and the class that is strongest besides.

    Args:
        epsilon: only perturbations of at most this size count, in pixel units: an image with none
            is returned as it is. None: whatever is found.
        norm: `"linf"` or `"l2"`.
        num_steps: the most steps of an image; few need more than four.
        num_candidates: classes with the largest logits at the image as it is, the label among them,
            whose boundaries are looked at: a backward pass a step for each but the label.
        overshoot: by how much the way to the boundary is lengthened, as a share.

    Returns:
        The attack; its set is the ball, if there is one, and the box. Its loss is the margin.

    Raises:
        ValueError: for an option out of range.

    Source:
        Moosavi-Dezfooli, Fawzi, Frossard 2016, arXiv:1511.04599, algorithm 2 and section 3.3 (other
        norms). The paper does not clip to the box, starts from the predicted class where this
        attack has the label (an image that is already taken for another does not move), and adds
        the overshoot at the end; its authors' code adds it at each step, as here.
    """
    check_size("epsilon", epsilon, norm)
    plan = DeepFoolPlan(norm, num_steps, num_candidates, overshoot)
    return CompiledAttack(plan, epsilon)


@dataclasses.dataclass(frozen=True)
class DeepFoolPlan(MarginPlan):
    """What the compiled program depends on."""

    norm: str
    num_steps: int
    num_candidates: int
    overshoot: float

    ball = True

    def search(self, problem: Problem) -> Array:
        """Returns what the walk finds, or the image itself where that is not in the ball."""
        images = problem.images
        clean = problem.classifier.logits(clean_keys(problem.keys), images)
        if problem.targets is None:
            planes = to_candidates(clean, problem.labels, self.num_candidates)
        else:
            planes = to_target(problem.targets, clean.shape[1])
        walked = walk(self, problem, clean, planes)
        sizes = jax.vmap(NORMS[self.norm].size)(walked.images - images)
        return select(walked.fooled & (sizes <= problem.epsilon), walked.images, images)


class Walked(NamedTuple):
    """Where a walk is."""

    number: Array
    """() int32, steps that were made."""
    images: Array
    """(B, H, W, C) in [0, 1]."""
    logits: Array
    """(B, K), at those images."""
    fooled: Array
    """(B,) bool."""


Planes = Callable[[Array], Array]
"""logits (B, K) -> (B, M, K): of which sums of logits the zeros are boundaries to step to."""


def walk(plan: DeepFoolPlan, problem: Problem, logits: Array, planes: Planes) -> Walked:
    """Returns where steps to the nearest of the boundaries end, for each image of a batch.

    An image stops moving once it is fooled by more than rounding, so that its way does not depend
    on its batch; the loop ends with the last of them.

    Args:
        plan: the plan.
        problem: the batch; of epsilon and the step size nothing is read.
        logits: (B, K), at its images.
        planes: the boundaries, as seen from an iterate.
    """
    images, classifier = problem.images, problem.classifier
    stretch = 1 + plan.overshoot

    def goes_on(state: Walked) -> Array:
        return (state.number < plan.num_steps) & ~jnp.all(state.fooled)

    def step(state: Walked) -> Walked:
        draw = 2 * state.number
        sums = planes(state.logits)
        seen, gradients = classifier.logits_and_gradients(
            sums, prng.per_draw(problem.keys, draw), state.images
        )
        # The logit of a masked class is -inf, and it is in no sum but its own.
        values = jnp.sum(jnp.where(sums == 0, 0.0, sums * seen[:, None]), axis=-1)
        distance, gradient = _nearest(values, gradients, plan.norm)
        moved = state.images + stretch * distance * steepest(gradient, plan.norm)
        moved = select(state.fooled, state.images, jnp.clip(moved, 0.0, 1.0))
        logits = classifier.logits(prng.per_draw(problem.keys, draw + 1), moved)
        fooled = clearly_fooled(problem, logits, images=moved, gradient=gradient)
        return Walked(state.number + 1, moved, logits, state.fooled | fooled)

    start = Walked(jnp.zeros((), jnp.int32), images, logits, problem.fooled(logits))
    end = jax.lax.while_loop(goes_on, step, start)
    return end._replace(fooled=end.fooled | problem.fooled(end.logits))


def to_candidates(logits: Array, labels: Array, num_candidates: int) -> Planes:
    """Returns the boundaries between the label and the other classes of largest logits.

    Args:
        logits: (B, K), at the images as they are.
        labels: (B,).
        num_candidates: classes, the label among them; at most K are taken.
    """
    num_classes = logits.shape[1]
    ranked = ranked_targets(logits, labels, min(num_candidates, num_classes) - 1)
    one_hot = functools.partial(jax.nn.one_hot, num_classes=num_classes, dtype=jnp.float32)
    sums = one_hot(ranked) - one_hot(labels)[:, None]
    return lambda _: sums


def to_target(targets: Array, num_classes: int) -> Planes:
    """Returns the boundary between the target and whichever class is strongest besides."""
    one_hot = functools.partial(jax.nn.one_hot, num_classes=num_classes, dtype=jnp.float32)
    target = one_hot(targets)

    def planes(logits: Array) -> Array:
        others = jnp.where(target > 0, -jnp.inf, logits)
        return (target - one_hot(jnp.argmax(others, axis=1)))[:, None]

    return planes


def _nearest(values: Array, gradients: Array, norm: str) -> tuple[Array, Array]:
    """Returns how far the nearest of several hyperplanes is, and its normal.

    Args:
        values: (B, M), what must become 0.
        gradients: (B, M, H, W, C), their gradients.
        norm: in which the distance is measured.

    Returns:
        (B, 1, 1, 1), 0 where nothing has a gradient or every other class is masked, and
        (B, H, W, C).
    """
    sizes = jax.vmap(functools.partial(dual_sizes, norm=norm))(gradients)
    is_plane = (sizes > 0) & jnp.isfinite(values)
    distances = jnp.where(is_plane, jnp.abs(values) / jnp.where(sizes > 0, sizes, 1.0), jnp.inf)
    chosen = jnp.argmin(distances, axis=1)[:, None]
    distance = jnp.take_along_axis(distances, chosen, axis=1)[:, :, None, None]
    steps = jnp.clip(distance, SHORTEST_STEP, _LONGEST_STEP)
    distance = jnp.where(jnp.isfinite(distance), steps, 0.0)
    gradient = jnp.take_along_axis(gradients, chosen[:, :, None, None, None], axis=1)
    return distance, gradient[:, 0]
