"""Steps of an exact l2 length that stay in [0, 1]."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from rbjax.typing import Array


def step_in_box(images: Array, directions: Array, distance: Array | float) -> Array:
    """Returns images moved along directions until they are a given distance away, inside [0, 1].

    `clip(x + eta g, 0, 1)` with eta such that `||clip(x + eta g, 0, 1) - x||_2 = distance`, after
    the clipping.  The squared distance is concave and piecewise linear in eta^2, so that Newton's
    method from 0 ends at the exact eta.  It is differentiable, eta's own dependence on g included.

    Args:
        images: (B, H, W, C) in [0, 1].
        directions: (B, H, W, C), of any size.
        distance: at least 0, one or (B,); where the box ends before, the image goes to its border.

    Returns:
        (B, H, W, C) in [0, 1]; the image itself where the direction or the distance is 0.

    Source:
        Rusak et al. 2020, arXiv:2001.06057, whose projection follows the clipping, too.
    """
    distance = jnp.broadcast_to(jnp.asarray(distance, jnp.float32), images.shape[:1])
    return jax.vmap(_step)(images, directions, distance)


def _step(image: Array, direction: Array, distance: Array) -> Array:
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(direction)))
    direction = direction / jnp.where(largest > 0, largest, 1.0)
    slope = jnp.square(direction)
    # Pixels that the direction leaves alone never come to a border: they have no room to use up.
    room = jnp.square(jnp.where(direction > 0, 1.0 - image, image)) * (slope > 0)

    def squared_step(is_free: Array, slope: Array) -> Array:
        """Newton's eta^2, from one at which some pixels have not come to their border yet."""
        missing = distance**2 - jnp.sum(jnp.where(is_free, 0.0, room))
        speed = jnp.sum(jnp.where(is_free, slope, 0.0))
        squared = jnp.maximum(missing, 0.0) / jnp.where(speed > 0, speed, 1.0)
        return jnp.where(speed > 0, squared, jnp.finfo(jnp.float32).max)

    def still_free(squared: Array) -> Array:
        return slope * squared < room

    def proceed(state: tuple[Array, Array]) -> tuple[Array, Array]:
        _, squared = state
        return squared, squared_step(still_free(squared), fixed_slope)

    fixed_slope = jax.lax.stop_gradient(slope)
    _, squared = jax.lax.while_loop(
        lambda state: state[1] > state[0], proceed, (jnp.float32(-1.0), jnp.float32(0.0))
    )
    squared = squared_step(still_free(jax.lax.stop_gradient(squared)), slope)
    # The inner `where` keeps the root's infinite slope at 0 out of the gradient.
    eta = jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1.0)), 0.0)
    return jnp.clip(image + eta * direction, 0.0, 1.0)
