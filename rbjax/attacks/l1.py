"""The l1 ball around one image: sparse steps, and exact projections, alone and inside [0, 1].

Every function takes one perturbation (H, W, C). In l-inf clipping to the box after the ball is the
projection on both; in l1 it is not: what the box cuts off is spent, and the two taking turns never
give it back.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rbjax import prng
from rbjax.typing import Array, Key


def size_l1(delta: Array) -> Array:
    """Returns the sum of the absolute values of a perturbation."""
    return jnp.sum(jnp.abs(delta))


def project_l1(delta: Array, epsilon: Array) -> Array:
    """Returns the nearest point of the l1 ball: `sign(delta) max(|delta| - theta, 0)`.

    theta is 0 inside the ball, and outside solves `sum max(|delta| - theta, 0) = epsilon`: convex
    and piecewise linear, so that Newton's steps from theta = 0 solve it exactly.

    Source: Duchi et al. 2008, "Efficient Projections onto the l1-Ball", equation 3.
    """
    sizes = jnp.abs(delta)

    def too_large(carry: tuple[Array, Array]) -> Array:
        return carry[1]

    def newton(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        theta, _ = carry
        above = sizes > theta
        excess = jnp.sum(jnp.where(above, sizes - theta, 0.0)) - epsilon
        higher = theta + excess / jnp.maximum(jnp.sum(above), 1)
        return higher, higher > theta

    inside = jnp.sum(sizes) <= epsilon
    theta, _ = jax.lax.while_loop(too_large, newton, (jnp.zeros_like(epsilon), ~inside))
    return jnp.where(inside, delta, jnp.sign(delta) * jnp.maximum(sizes - theta, 0.0))


_HALVINGS = 32
"""Of the bracket around theta: from the largest value of a perturbation to its rounding."""


def project_l1_in_box(delta: Array, epsilon: Array, low: Array, high: Array) -> Array:
    """Returns the nearest point of the l1 ball that also lies in a box around 0.

    `sign(delta) clip(|delta| - theta, 0, room)`, where a value's room is `high` if it is positive
    and `-low` if not. theta is 0 where that lies in the ball, and elsewhere solves
    `sum clip(|delta| - theta, 0, room) = epsilon`: piecewise linear and falling, but not convex, so
    that theta is bracketed by halves and what is left of the bracket interpolated.

    Args:
        delta: (H, W, C).
        epsilon: radius of the ball.
        low: (H, W, C), at most 0: `-image` for images in [0, 1].
        high: (H, W, C), at least 0: `1 - image`.

    Source: Croce and Hein 2021, "Mind the box: l1-APGD for sparse adversarial attacks on image
        classifiers", arXiv:2103.01208, proposition 2.1.
    """
    sizes, room = jnp.abs(delta), jnp.maximum(jnp.where(delta > 0, high, -low), 0.0)

    def kept(theta: Array) -> Array:
        return jnp.clip(sizes - theta, 0.0, room)

    def halve(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        lower, upper = bracket
        theta = 0.5 * (lower + upper)
        fits = jnp.sum(kept(theta)) <= epsilon
        return jnp.where(fits, lower, theta), jnp.where(fits, theta, upper)

    zero = jnp.zeros((), sizes.dtype)
    bracket = jax.lax.fori_loop(0, _HALVINGS, halve, (zero, jnp.max(sizes)))
    outside, inside = map(kept, bracket)
    gap = jnp.sum(outside) - jnp.sum(inside)
    share = jnp.clip((epsilon - jnp.sum(inside)) / jnp.where(gap > 0, gap, 1.0), 0.0, 1.0)
    nearest = inside + share * (outside - inside)
    whole = kept(zero)
    return jnp.sign(delta) * jnp.where(jnp.sum(whole) <= epsilon, whole, nearest)


SPARSITY = 0.01
"""Share of the values that an l1 step moves: the steepest step moves one alone, and is slow."""


def steepest_l1(gradient: Array) -> Array:
    """Returns a step of l1 norm 1 along the largest values of the gradient, alike.

    The 1 % of the values with the largest absolute gradient (at least one, and all that tie with
    the last of them) move by the sign of their gradient.

    Source: Tramèr and Boneh 2019, arXiv:1904.13000, section 3.2 (sparse l1 descent).
    """
    count = max(1, round(SPARSITY * gradient.size))
    sizes = jnp.abs(gradient)
    least = jax.lax.top_k(sizes.ravel(), count)[0][-1]
    chosen = jnp.where((sizes >= least) & (sizes > 0), jnp.sign(gradient), 0.0)
    return chosen / jnp.maximum(size_l1(chosen), 1.0)


class Inside(NamedTuple):
    """Where a step begins, and the ball and the box that it ends in."""

    delta: Array
    """The perturbation."""
    epsilon: Array
    """Radius of the ball; infinite: there is none."""
    low: Array
    """The least perturbation that the box leaves, at most 0: `-image` for images in [0, 1]."""
    high: Array
    """The largest one, at least 0: `1 - image`."""


def steepest_inside(
    gradient: Array, length: Array, inside: Inside, back: Array | None = None
) -> Array:
    """Returns the step that climbs a linear function most, in the ball and the box.

    The values move in the order of their absolute gradient, each up to the edge of the box, until
    the length is spent; what then exceeds the ball is taken back where that costs least. From 0,
    with a length of epsilon, that is the best perturbation of a linear function there is; shorter
    steps lead there too, as what they have gained is not shrunk along with the rest.

    Args:
        gradient: (H, W, C).
        length: l1 norm of what is added.
        inside: with arrays (H, W, C) and a scalar epsilon.
        back: (H, W, C), the gradient of what is taken back, where it is not that of what is added:
            of pixels at the edge of many images.

    Source: Croce and Hein 2021, arXiv:2103.01208, proposition 2.2.
    """
    rises, delta = gradient > 0, inside.delta
    room = jnp.where(rises, inside.high - delta, delta - inside.low)
    room = jnp.where(gradient == 0, 0.0, jnp.maximum(room, 0.0))
    moved = delta + jnp.sign(gradient) * spend(length, room, -jnp.abs(gradient))
    excess = jnp.maximum(size_l1(moved) - inside.epsilon, 0.0)
    lost = (gradient if back is None else back) * jnp.sign(moved)
    taken = spend(excess, jnp.abs(moved), lost)
    return moved - jnp.sign(moved) * taken - delta


def spend(amount: Array, room: Array, cost: Array) -> Array:
    """Returns an amount spread over values that have room for it, from the least cost on."""
    order = jnp.argsort(cost.ravel())
    ordered = room.ravel()[order]
    before = jnp.cumsum(ordered) - ordered
    spent = jnp.zeros_like(ordered).at[order].set(jnp.clip(amount - before, 0.0, ordered))
    return spent.reshape(room.shape)


def movable(gradient: Array, images: Array) -> Array:
    """Returns the gradient without the values that would leave [0, 1] at once.

    A sparse step that spent its length on pixels at the edge of the box would not move.
    """
    stuck = ((images <= 0) & (gradient < 0)) | ((images >= 1) & (gradient > 0))
    return jnp.where(stuck, 0.0, gradient)


def sample_l1(key: Key, shape: tuple[int, ...], epsilon: Array) -> Array:
    """Returns a point uniform in the ball: exponentials with random signs over a sum of d + 1."""
    sizes_key, signs_key = prng.split(key)
    sizes = prng.exponential(sizes_key, (math.prod(shape) + 1,))
    signs = prng.rademacher(signs_key, (math.prod(shape),))
    return epsilon * (signs * sizes[:-1] / jnp.sum(sizes)).reshape(shape)
