"""Perturbations of at most so many values: their number, and the nearest such one.

Every function takes one perturbation (H, W, C), whose values are counted one by one: a pixel of
three channels counts up to three times. A radius is a number of values, of which only whole ones
count.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from rbjax import prng
from rbjax.typing import Array, Key


def size_l0(delta: Array) -> Array:
    """Returns how many values of a perturbation are not 0, float32."""
    return jnp.sum((delta != 0).astype(jnp.float32))


def project_l0(delta: Array, epsilon: Array) -> Array:
    """Returns a perturbation with all but its `epsilon` largest values at 0."""
    return jnp.where(_largest(jnp.abs(delta), epsilon), delta, 0.0)


def project_l0_in_box(delta: Array, epsilon: Array, low: Array, high: Array) -> Array:
    """Returns the nearest perturbation of at most `epsilon` values that lies in a box around 0.

    A value d that is kept becomes c, d clipped to the box, and costs (d - c)^2 where it would have
    cost d^2: those that save most are kept. One that the box leaves no room is not among them.

    Args:
        delta: (H, W, C).
        epsilon: number of values.
        low: (H, W, C), at most 0: `-image` for images in [0, 1].
        high: (H, W, C), at least 0: `1 - image`.
    """
    inside = jnp.clip(delta, low, high)
    return jnp.where(_largest(inside * (2 * delta - inside), epsilon), inside, 0.0)


def steepest_l0(gradient: Array) -> Array:
    """Returns the sign of the gradient at its largest value, and 0 elsewhere."""
    return jnp.sign(project_l0(gradient, jnp.float32(1)))


def sample_l0(key: Key, shape: tuple[int, ...], epsilon: Array) -> Array:
    """Returns `epsilon` values at random places, uniform in [-1, 1)."""
    places_key, values_key = prng.split(key)
    chosen = _largest(prng.uniform(places_key, shape, minval=0.5), epsilon)
    return jnp.where(chosen, prng.uniform(values_key, shape, minval=-1.0, maxval=1.0), 0.0)


_HALVINGS = 32
"""Of the bracket around the smallest value that is kept."""


def _largest(values: Array, count: Array) -> Array:
    """Returns which values above 0 are the largest, so many; the first ones of those that tie.

    Without sorting, which is slow: the threshold is bracketed by halves, and of what is left in the
    bracket, alike but for rounding, the first values are taken.
    """

    def halve(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        middle = 0.5 * (low + high)
        fits = jnp.sum(values > middle) <= count
        return jnp.where(fits, low, middle), jnp.where(fits, middle, high)

    zero = jnp.zeros((), values.dtype)
    low, high = jax.lax.fori_loop(0, _HALVINGS, halve, (zero, jnp.max(values)))
    above = values > high
    ties = (values > low) & ~above
    order = jnp.cumsum(ties.ravel()).reshape(values.shape)
    return above | (ties & (order <= jnp.floor(count) - jnp.sum(above)))
