"""The nearest point of a hyperplane inside the box, what FAB steps to.

Exact and without sorting: the distance that the point must go solves a concave, piecewise linear
equation of one unknown, on which Newton's steps from zero arrive in a few turns.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from rbjax.typing import Array


def nearest_step(points: Array, normals: Array, offsets: Array, norm: str) -> Array:
    """Returns the smallest step to a hyperplane that stays in [0, 1].

    min ||d|| so that <w, d> = c and 0 <= x + d <= 1. Every value moves towards the plane, by t in
    l-inf and by t |w_i| in l2 unless the box stops it, with t so that the plane is reached.

    Args:
        points: (B, H, W, C) in [0, 1], x.
        normals: (B, H, W, C), w.
        offsets: (B,), c.
        norm: `"linf"` or `"l2"`.

    Returns:
        (B, H, W, C) d; where the box ends before the plane, as far as it goes; 0 where w is 0.

    Source:
        Croce and Hein 2020, arXiv:1907.02044, equations 4 and 5.
    """
    # Scaled, so that neither the gradients of a sure model (1e-30) nor their squares underflow.
    largest = jnp.max(jnp.abs(normals), axis=(1, 2, 3), keepdims=True)
    scale = jnp.where(largest > 0, largest, 1.0)
    w, c = normals / scale, offsets[:, None, None, None] / scale
    directions = jnp.sign(c) * jnp.sign(w)
    room = jnp.maximum(jnp.where(directions > 0, 1.0 - points, points), 0.0)
    weights, distance = jnp.abs(w), jnp.abs(c)
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
