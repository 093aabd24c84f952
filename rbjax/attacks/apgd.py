"""APGD: gradient ascent that chooses its step size by itself, on a schedule known beforehand."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rbjax import prng
from rbjax.attacks import norms
from rbjax.attacks.apgd_l1 import APGDL1Plan
from rbjax.attacks.attack import CompiledAttack, Problem, column, select
from rbjax.attacks.search import Found, TargetsPlan, best_restart, merit
from rbjax.classifier import Classifier, Objective
from rbjax.losses import adversarial
from rbjax.losses.adversarial import OfLabels
from rbjax.options import Count, Epsilon, Norm, Share, checked
from rbjax.typing import Array, Key, LossFn

_MOMENTUM = 0.75
"""Weight of the new step against the last one (alpha in the paper)."""
_RHO = 0.75


@checked
def apgd(
    *,
    epsilon: Epsilon,
    norm: Norm = "linf",
    num_steps: Count = 100,
    num_restarts: Count = 1,
    loss: OfLabels | LossFn = "cross_entropy",
    rho: Share = _RHO,
) -> CompiledAttack:
    """Returns Auto-PGD, which needs no step size.

    z = P(x_k + eta d), x_{k+1} = P(x_k + 0.75 (z - x_k) + 0.25 (x_k - x_{k-1})), from a random
    point of the ball's surface and eta = 2 epsilon. At checkpoints that become more frequent eta is
    halved, and the best point so far taken up, where the loss rose in at most `rho` of the steps
    since the last one, or neither eta nor the best loss has changed since. The last misclassified
    point is returned, or else the one of highest loss.

    In l1 each step moves few values alike, and there are three balls, of 3, 2 and 1 epsilon, for
    30, 30 and 40 % of the steps, each begun at the best point of the one before. A step of length
    epsilon moves two thirds as many of the largest values of the gradient as the best point has
    changed; at checkpoints, after each step of 100, it does so anew, from that point and with the
    length epsilon where this has become 5 % fewer, or else is 1.5 times shorter, a tenth at least.
    As nowhere in the code, values that would leave [0, 1] are not among those that move.

    Differs from the official code, which follows the same paper: the first checkpoint compares the
    first point with the start (the code with a row of zeros), and may halve for want of a better
    point (the code may not); after a halving the loss compared with is that of the point taken up
    (in the code, of the point left). As in the code, the first step after a halving still has the
    momentum of the point left.

    Args:
        epsilon: radius of the ball, in pixel units; at most 1 in l-inf.
        norm: `"linf"`, `"l2"` or `"l1"`.
        num_steps: steps; there is one gradient more, in l1 three.
        num_restarts: random starts; the best is kept.
        loss: `"cross_entropy"`, `"dlr"`, `"margin"`, `"probability_margin"`, or (logits, labels)
            -> (B,). With targets "dlr" is the targeted ratio.
        rho: share of rising steps at or below which eta is halved; not in l1.

    Returns:
        The attack; its set is the ball and the box.

    Raises:
        ValueError: for an option out of range.

    Source:
        Croce and Hein 2020, arXiv:2003.01690, algorithm 1; in l1 Croce and Hein 2021,
        arXiv:2103.01208, algorithm 1 and section 3.3, and their code, fra31/auto-attack at a392200.
    """
    norms.check_size("epsilon", epsilon, norm)
    return CompiledAttack(make_plan(norm, num_steps, num_restarts, loss, rho), epsilon)


@checked
def apgd_targeted(
    *,
    epsilon: Epsilon,
    norm: Norm = "linf",
    num_targets: Count = 9,
    num_steps: Count = 100,
    num_restarts: Count = 1,
    rho: Share = _RHO,
) -> CompiledAttack:
    """Returns Auto-PGD on the targeted difference of logits ratio, one run a target.

    The targets are the classes with the largest logits at the image as it is, but for the label;
    an image is fooled in whatever wrong class it ends. With two or three classes the ratio has not
    the logits it divides by: see `losses.adversarial.targeted_dlr`.

    Args:
        epsilon: radius of the ball, in pixel units; at most 1 in l-inf.
        norm: `"linf"`, `"l2"` or `"l1"`.
        num_targets: targets; every wrong class where there are fewer.
        num_steps: steps of each run.
        num_restarts: random starts of each run.
        rho: share of rising steps at or below which eta is halved; not in l1.

    Returns:
        The attack; its set is the ball and the box.

    Raises:
        ValueError: for an option out of range.

    Source:
        Croce and Hein 2020, arXiv:2003.01690, algorithm 1 and equation 7; in l1 see `apgd`.
    """
    norms.check_size("epsilon", epsilon, norm)
    finder = make_plan(norm, num_steps, num_restarts, "dlr", rho)
    return CompiledAttack(TargetsPlan(finder, num_targets), epsilon)


def make_plan(
    norm: str, num_steps: int, num_restarts: int, loss: str | LossFn, rho: float = _RHO
) -> APGDPlan | APGDL1Plan:
    """Returns the plan of Auto-PGD, its options checked.

    Raises:
        ValueError: for an option out of range.
    """
    loss_fn = adversarial.LOSSES[loss] if isinstance(loss, str) else loss
    if loss_fn is adversarial.kl_divergence:
        raise ValueError("loss is 'kl'; apgd climbs a loss of the labels")
    if norm == "l1":
        if rho != _RHO:
            raise ValueError(f"rho is {rho:g} with norm 'l1', which halves no steps; leave it out")
        return APGDL1Plan(num_steps, num_restarts, loss_fn)
    return APGDPlan(norm, num_steps, num_restarts, loss_fn, rho)


@dataclasses.dataclass(frozen=True)
class APGDPlan:
    """What the compiled program depends on."""

    norm: str
    num_steps: int
    num_restarts: int
    loss: LossFn
    rho: float

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


def schedule(num_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns which steps end at a checkpoint, and how many steps each has had since the last.

    The first interval is 22 % of the steps, each further one 3 % shorter, and 6 % the shortest.

    Args:
        num_steps: N.

    Returns:
        (N,) bool and (N,) int32; for N = 100 the checkpoints come after the steps 22, 41, 57, 70,
        80, 87, 93 and 99.
    """
    is_checkpoint, since = np.zeros(num_steps, bool), np.zeros(num_steps, np.int32)
    # In whole hundredths: 0.22 * 50 is 11.000000000000002 or 10.999999999999998.
    interval = max(22 * num_steps // 100, 1)
    shorter, shortest = max(3 * num_steps // 100, 1), max(6 * num_steps // 100, 1)
    count = 0
    for step in range(num_steps):
        count += 1
        since[step] = count
        if count == interval:
            is_checkpoint[step], count = True, 0
            interval = max(interval - shorter, shortest)
    return is_checkpoint, since


class _Point(NamedTuple):
    """An iterate."""

    images: Array
    gradient: Array
    loss: Array


class _State(NamedTuple):
    point: _Point
    previous: Array
    """Images of the iterate before."""
    best: _Point
    adversarial: Found
    """The last misclassified iterate."""
    step_size: Array
    num_rises: Array
    """Since the last checkpoint."""
    loss_then: Array
    """The best loss at the last checkpoint."""
    halved_then: Array
    """Whether the step was halved at the last checkpoint."""


def _ascend(plan: APGDPlan, problem: Problem) -> Found:
    """Returns what one run finds."""
    # Not the problem's own where targets are tried in turn.
    climbed = plan.objective(
        problem.classifier, problem.keys, problem.images, problem.labels, problem.targets
    )

    def visit(number: Array | int, images: Array) -> tuple[_Point, Array]:
        keys = prng.per_draw(problem.keys, number)
        ascent = problem.classifier.value_and_grad(climbed, keys, images)
        return _Point(images, ascent.gradient, merit(ascent.loss)), problem.fooled(ascent.logits)

    def project(moved: Array) -> Array:
        return norms.confine(moved, problem.images, problem.epsilon, plan.norm)

    def step(state: _State, now: tuple[Array, Array, Array]) -> tuple[_State, None]:
        number, is_checkpoint, since = now
        here = state.point
        direction = norms.steepest(here.gradient, plan.norm)
        moved = project(here.images + column(state.step_size) * direction)
        weight = jnp.where(number == 0, 1.0, _MOMENTUM)
        momentum = (1 - weight) * (here.images - state.previous)
        new, fooled = visit(
            number + 1, project(here.images + weight * (moved - here.images) + momentum)
        )
        state = state._replace(
            point=new,
            previous=here.images,
            best=select(new.loss > state.best.loss, new, state.best),
            adversarial=select(
                fooled, Found(new.images, fooled, state.adversarial.merit), state.adversarial
            ),
            num_rises=state.num_rises + (new.loss > here.loss),
        )
        return _check(plan, state, is_checkpoint, since), None

    start = norms.start(
        norms.STARTS["sphere"], problem.keys, problem.images.shape[1:], problem.epsilon, plan.norm
    )
    point, fooled = visit(0, project(problem.images + start))
    zeros = jnp.zeros(fooled.shape, jnp.float32)
    state = _State(
        point=point,
        previous=point.images,
        best=point,
        adversarial=Found(point.images, fooled, zeros),
        step_size=2.0 * problem.epsilon,
        num_rises=zeros.astype(jnp.int32),
        loss_then=point.loss,
        halved_then=jnp.zeros(fooled.shape, bool),
    )
    is_checkpoint, since = (jnp.asarray(row) for row in schedule(plan.num_steps))
    state, _ = jax.lax.scan(step, state, (jnp.arange(plan.num_steps), is_checkpoint, since))
    adversarial = state.adversarial
    return Found(
        select(adversarial.fooled, adversarial.images, state.best.images),
        adversarial.fooled,
        state.best.loss,
    )


def _check(plan: APGDPlan, state: _State, is_checkpoint: Array, since: Array) -> _State:
    """Returns the state after a checkpoint, if it is one."""
    few_rises = state.num_rises <= plan.rho * since
    no_better = ~state.halved_then & (state.best.loss <= state.loss_then)
    halves = is_checkpoint & (few_rises | no_better)
    return state._replace(
        point=select(halves, state.best, state.point),
        step_size=jnp.where(halves, state.step_size / 2, state.step_size),
        num_rises=jnp.where(is_checkpoint, 0, state.num_rises),
        loss_then=jnp.where(is_checkpoint, state.best.loss, state.loss_then),
        halved_then=jnp.where(is_checkpoint, halves, state.halved_then),
    )
