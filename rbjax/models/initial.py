"""Initial weights of convolutions, by programs that serve layers of many shapes.

To compile a draw for each shape of a deep network takes minutes. In JAX's partitionable threefry a
number depends on its place alone, so the first numbers of a longer draw are those of a shorter one.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp

from rbjax import prng
from rbjax.typing import Array, Key

_DEVIATION = 0.87962566103423978
"""Of a normal number that is drawn again where it exceeds 2."""
_LEAST = 4**6
"""Numbers of the shortest draw."""


def he_normal(fan: Literal["in", "out"], key: Key, shape: tuple[int, ...], dtype: Any) -> Array:
    """Returns normal numbers of variance `2 / fan`, cut at two deviations: Flax's own, to the bit.

    Args:
        fan: what is counted, the values that a kernel takes or those that take from it.
        key: of the layer.
        shape: (height, width, channels in, channels out).
        dtype: of the numbers.

    Source: He et al., "Delving Deep into Rectifiers", 2015, arXiv:1502.01852, section 2.2.
    """
    *window, taken, given = shape
    count = math.prod(window) * (taken if fan == "in" else given)
    deviation = jnp.sqrt(jnp.array(2.0 / count, dtype)) / jnp.array(_DEVIATION, dtype)
    numbers, size = math.prod(shape), _LEAST
    while size < numbers:
        size *= 4
    return _draw(key, size, jnp.dtype(dtype))[:numbers].reshape(shape) * deviation


HE_NORMAL = functools.partial(he_normal, "out")
"""The signal keeps its size on the way back, as deep networks with batch norm are begun."""
HE_NORMAL_FORWARD = functools.partial(he_normal, "in")
"""It keeps it on the way forward."""


@functools.partial(jax.jit, static_argnums=(1, 2))
def _draw(key: Key, size: int, dtype: jnp.dtype) -> Array:
    return prng.truncated_normal(key, (size,), dtype=dtype)
