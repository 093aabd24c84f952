"""The square attack: random search with squares, for which no gradient is needed."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rbjax import prng
from rbjax.attacks.attack import CompiledAttack, Problem, column, select
from rbjax.attacks.norms import check_size, confine
from rbjax.attacks.search import Found, MarginPlan, best_restart, merit
from rbjax.options import Count, Epsilon, Norm, Range, checked
from rbjax.typing import Array, Key

_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""The share of the image that a square covers is halved after so many queries, of 10,000."""


@checked
def square(
    *,
    epsilon: Epsilon,
    norm: Norm = "linf",
    num_queries: Count = 5000,
    num_restarts: Count = 1,
    initial_share: Annotated[float, Range(above=0.0, high=1.0)] = 0.8,
    rescale_schedule: bool = False,
) -> CompiledAttack:
    """Returns the square attack, a random search that only asks for logits.

    From stripes (l-inf) on the sphere of radius epsilon, or tiles of bumps (on it in l2, in its
    ball in l1): each query changes one square, of random place and sign in each channel, and is
    kept if the margin max_{j != y} z_j - z_y rises or the image is fooled. Squares become smaller
    on a schedule; a fooled image stays as it is. On images of 10 x 10 values nine tenths are fooled
    at 1.001 times the least distance in l-inf on linear models and 1.07 on nets of 8 ReLUs, but in
    l2 at 1.3 to 1.5 and in l1 at 1.4 to 2 times.

    Differs from the official code, which draws one square for the whole batch: each image has its
    own draws, so that a result depends on neither its batch nor its order; a square may lie at the
    last row and column, which the code never draws; and the tiles of the start all stand upright,
    some of which the code turns.

    Args:
        epsilon: radius of the ball, in pixel units; at most 1 in l-inf.
        norm: `"linf"`, `"l2"` or `"l1"`.
        num_queries: queries after the start.
        num_restarts: random starts; the best is kept.
        initial_share: share of the image that the first squares cover, in (0, 1].
        rescale_schedule: whether the schedule of 10,000 queries is shrunk to `num_queries`; if
            not, fewer queries see its beginning, as in AutoAttack.

    Returns:
        The attack; its set is the ball and the box.

    Raises:
        ValueError: for an option out of range.

    Source:
        Andriushchenko et al. 2020, arXiv:1912.00049, algorithms 1 to 3; in l1 Croce and Hein 2021,
        arXiv:2103.01208, section 4, and their code, fra31/auto-attack at a392200.
    """
    plan = SquarePlan(norm, num_queries, num_restarts, initial_share, rescale_schedule)
    check_size("epsilon", epsilon, norm)
    return CompiledAttack(plan, epsilon)


@dataclasses.dataclass(frozen=True)
class SquarePlan(MarginPlan):
    """What the compiled program depends on."""

    norm: str
    num_queries: int
    num_restarts: int
    initial_share: float
    rescale_schedule: bool

    ball = True

    def search(self, problem: Problem) -> Array:
        """Returns the best restart's images."""

        def restart(again: Problem, _: Array | int) -> Found:
            return advance(self, again, init(self, again), 0, self.num_queries)

        return best_restart(restart, problem, self.num_restarts).images


def side_lengths(plan: SquarePlan, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns after how many queries the squares become smaller, and their sides.

    Args:
        plan: the plan.
        height: of the image.
        width: of the image.

    Returns:
        (S,) queries after which a stage ends, and (S + 1,) sides, odd and at least 3 but in l-inf.
    """
    scale = plan.num_queries / 10_000 if plan.rescale_schedule else 1.0
    sides = []
    for stage in range(len(_HALVINGS) + 1):
        side = round(math.sqrt(plan.initial_share / 2**stage * height * width))
        if plan.norm != "linf":  # odd, as the bumps are
            side = max(side, 3) + (max(side, 3) + 1) % 2
        largest = min(height, width)
        if plan.norm != "linf" and largest % 2 == 0:
            largest -= 1
        sides.append(min(max(side, 1), largest))
    return np.asarray(_HALVINGS) * scale, np.asarray(sides, np.int32)


def init(plan: SquarePlan, problem: Problem) -> Found:
    """Returns the starting images: stripes of one column (l-inf), tiles of bumps (l2, l1)."""
    shape = problem.images.shape[1:]
    keys = prng.per_draw(problem.keys, 0)
    if plan.norm == "linf":
        delta = jax.vmap(lambda key: prng.rademacher(key, (1, *shape[1:])))(keys)
    else:
        delta = jax.vmap(lambda key: _tiles(key, shape, plan.norm))(keys)
    if plan.norm == "l1":  # each tile is of norm 1
        moved = confine(problem.images + delta, problem.images, problem.epsilon, "l1")
    else:
        moved = jnp.clip(problem.images + column(problem.epsilon) * delta, 0.0, 1.0)
    return _judged(problem, keys, moved)


def advance(
    plan: SquarePlan, problem: Problem, found: Found, first: Array | int, last: Array | int
) -> Found:
    """Returns the images after the queries `first` to `last - 1`.

    Args:
        plan: the plan.
        problem: the batch.
        found: where it stands.
        first: number of the next query.
        last: one more than the number of the last.
    """
    height, width = problem.images.shape[1:3]
    ends, sides = side_lengths(plan, height, width)
    bumps = None
    if plan.norm != "linf":  # of each side, upright and lying, in an image's corner
        table = np.zeros((len(sides), 2, height, width), np.float32)
        for stage, side in enumerate(sides):
            upright = bump(int(side), plan.norm)
            table[stage, :, :side, :side] = [upright, upright.T]
        bumps = jnp.asarray(table)

    def query(number: Array, found: Found) -> Found:
        stage = jnp.sum(number > jnp.asarray(ends, jnp.float32))
        keys = prng.per_draw(problem.keys, number + 1)
        if bumps is None:
            moved = jax.vmap(_linf_proposal, in_axes=(0, 0, 0, 0, None))(
                keys, found.images, problem.images, problem.epsilon, jnp.asarray(sides)[stage]
            )
        else:
            proposal = _l2_proposal if plan.norm == "l2" else _l1_proposal
            moved = jax.vmap(proposal, in_axes=(0, 0, 0, 0, None, None))(
                keys,
                found.images,
                problem.images,
                problem.epsilon,
                jnp.asarray(sides)[stage],
                bumps[stage],
            )
            if plan.norm == "l1":
                moved = confine(moved, problem.images, problem.epsilon, "l1")
        new = _judged(problem, keys, moved)
        taken = ~found.fooled & (new.fooled | (new.merit > found.merit))
        return select(taken, new, found)

    return jax.lax.fori_loop(first, last, query, found)


def _judged(problem: Problem, keys: Key, images: Array) -> Found:
    logits = problem.classifier.logits(keys, images)
    return Found(images, problem.fooled(logits), merit(problem.objective(logits)))


def _linf_proposal(key: Key, image: Array, origin: Array, epsilon: Array, side: Array) -> Array:
    """Returns an image with one square moved by 2 epsilon, up or down in each channel."""
    place_key, sign_key = prng.split(key)
    inside = _window(_corner(place_key, image.shape, side), image.shape, side)
    signs = prng.rademacher(sign_key, (image.shape[2],))
    moved = image + 2.0 * epsilon * signs * inside[..., None]
    return jnp.clip(jnp.clip(moved, origin - epsilon, origin + epsilon), 0.0, 1.0)


class _Corner(NamedTuple):
    row: Array
    column: Array


def _corner(key: Key, shape: tuple[int, ...], side: Array) -> _Corner:
    """Returns the upper left corner of a square that lies in the image, uniformly."""
    free = jnp.array(shape[:2]) - side + 1
    drawn = jnp.floor(prng.uniform(key, (2,)) * free).astype(jnp.int32)
    return _Corner(*jnp.minimum(drawn, free - 1))


def _window(corner: _Corner, shape: tuple[int, ...], side: Array) -> Array:
    """Returns 1 in a square of the image and 0 elsewhere, (H, W)."""
    rows, columns = jnp.arange(shape[0]) - corner.row, jnp.arange(shape[1]) - corner.column
    inside = ((rows >= 0) & (rows < side))[:, None] & ((columns >= 0) & (columns < side))
    return inside.astype(jnp.float32)


def _l2_proposal(
    key: Key, image: Array, origin: Array, epsilon: Array, side: Array, bump: Array
) -> Array:
    """Returns an image with one square's perturbation moved into another one, as a bump.

    What the first square frees of the budget goes to the second: the new perturbation there points
    along the old one plus a bump of random sign in each channel.
    """
    delta, source, target, fresh = _moved_bump(key, image, origin, side, bump)
    either = jnp.maximum(target, source)
    budget = jnp.maximum(epsilon**2 - jnp.sum(delta**2), 0.0) / image.shape[2]
    budget = jnp.sqrt(budget + jnp.sum((delta * either) ** 2))
    fresh = _unit(fresh + _unit(delta * target, "l2"), "l2")
    moved = jnp.where(either > 0, 0.0, delta) + budget * fresh
    scaled = moved * epsilon / jnp.maximum(jnp.sqrt(jnp.sum(moved**2)), 1e-12)
    return jnp.clip(origin + scaled, 0.0, 1.0)


def _l1_proposal(
    key: Key, image: Array, origin: Array, epsilon: Array, side: Array, bump: Array
) -> Array:
    """Returns the same in l1, before it is brought back to the ball and the box."""
    delta, source, target, fresh = _moved_bump(key, image, origin, side, bump)
    either = jnp.maximum(target, source)
    budget = jnp.maximum(epsilon - jnp.sum(jnp.abs(delta)), 0.0)
    budget += image.shape[2] * jnp.sum(jnp.abs(delta * either), axis=(0, 1))
    fresh = _unit(fresh + _unit(delta * target, "l1"), "l1")
    return origin + jnp.where(either > 0, 0.0, delta) + budget * fresh


def _moved_bump(
    key: Key, image: Array, origin: Array, side: Array, bump: Array
) -> tuple[Array, Array, Array, Array]:
    """Returns the perturbation, a square to empty and one to fill, and a bump in the latter."""
    from_key, to_key, turn_key, sign_key = prng.split(key, 4)
    target_corner = _corner(to_key, image.shape, side)
    target = _window(target_corner, image.shape, side)[..., None]
    source = _window(_corner(from_key, image.shape, side), image.shape, side)[..., None]
    turned = bump[prng.bernoulli(turn_key).astype(jnp.int32)]
    placed = jnp.roll(turned, jnp.stack(target_corner), axis=(0, 1))
    signs = prng.rademacher(sign_key, (image.shape[2],))
    return image - origin, source, target, placed[..., None] * signs


def _unit(delta: Array, norm: str) -> Array:
    """Returns a perturbation with every channel of norm 1 (or 0)."""
    if norm == "l1":
        sizes = jnp.sum(jnp.abs(delta), axis=(0, 1), keepdims=True)
    else:
        sizes = jnp.sqrt(jnp.sum(delta**2, axis=(0, 1), keepdims=True))
    return delta / jnp.maximum(sizes, 1e-12)


_ORDER = {"l2": 2, "l1": 1}
_POWER = {"l2": 2, "l1": 4}
"""Of the ring, with which a bump falls off."""


def bump(side: int, norm: str = "l2") -> np.ndarray:
    """Returns two opposite bumps, one above the other, of norm 1 together, (side, side).

    Each falls off from its middle like 1 + 1/4 + 1/9 + ... in growing squares, in l1 like
    1 + 1/16 + 1/81 + ...

    Source: Andriushchenko et al. 2020, arXiv:1912.00049, section 3.4, equation 3.
    """
    upper = _half_bump(side // 2, side, norm)
    both = np.concatenate([upper, -_half_bump(side - side // 2, side, norm)])
    return (both / np.linalg.norm(both.ravel(), _ORDER[norm])).astype(np.float32)


def _half_bump(height: int, width: int, norm: str) -> np.ndarray:
    bump = np.zeros((height, width))
    row, column = height // 2, width // 2
    for ring in range(max(height // 2, width // 2) + 1):
        top, left = max(row - ring, 0), max(column - ring, 0)
        part = 1.0 / (ring + 1) ** _POWER[norm]
        bump[top : row + ring + 1, left : column + ring + 1] += part
    return bump / np.linalg.norm(bump.ravel(), _ORDER[norm])


def _tiles(key: Key, shape: tuple[int, ...], norm: str) -> Array:
    """Returns the start: a grid of bumps of random sign in each channel.

    Of norm 1 in all in l2, and each of them in l1.
    """
    height, width, channels = shape
    side = max(min(height, width) // 5, 1)
    tile = bump(side, norm) if side > 1 else np.ones((1, 1), np.float32)
    rows, columns = height // side, width // side
    signs = prng.rademacher(key, (rows, columns, channels))
    tiles = jnp.einsum("ijc,ab->iajbc", signs, tile).reshape(rows * side, columns * side, channels)
    edges = [(size - side * count) // 2 for size, count in ((height, rows), (width, columns))]
    padding = [
        (edge, size - extent - edge)
        for edge, size, extent in zip(edges, shape[:2], tiles.shape[:2], strict=True)
    ]
    delta = jnp.pad(tiles, [*padding, (0, 0)])
    return delta if norm == "l1" else delta / jnp.linalg.norm(delta)
