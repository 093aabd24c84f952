"""Balls around one image: their size, projection, random start and steps along a gradient.

`project`, `steepest` and `sample` take a batch and the name of a norm, and treat every image by
itself; the functions of one norm take one perturbation (H, W, C). Those of l1 and l0 are in `l1.py`
and `l0.py`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rbjax import prng
from rbjax.attacks.l0 import project_l0, project_l0_in_box, sample_l0, size_l0, steepest_l0
from rbjax.attacks.l1 import (
    Inside,
    project_l1,
    project_l1_in_box,
    sample_l1,
    size_l1,
    steepest_inside,
    steepest_l1,
)
from rbjax.closures import Closure
from rbjax.inputs import is_known
from rbjax.tables import lookup
from rbjax.typing import Array, Key


class Norm(NamedTuple):
    """What an attack needs to know about one norm."""

    size: Callable[[Array], Array]
    """delta -> its norm, a scalar."""
    project: Callable[[Array, Array], Array]
    """(delta, epsilon) -> the nearest delta of norm at most epsilon."""
    steepest: Callable[[Array], Array]
    """gradient -> the step of norm 1 that climbs fastest; 0 where the gradient is 0."""
    sample: Callable[[Key, tuple[int, ...], Array], Array]
    """(key, shape, epsilon) -> a point drawn uniformly from the ball."""
    max_epsilon: float
    """The largest radius that makes sense for images in [0, 1]."""


def project_linf(delta: Array, epsilon: Array) -> Array:
    """Returns `clip(delta, -epsilon, epsilon)`."""
    return jnp.clip(delta, -epsilon, epsilon)


def sample_linf(key: Key, shape: tuple[int, ...], epsilon: Array) -> Array:
    """Returns a perturbation with every value uniform in [-epsilon, epsilon)."""
    return epsilon * prng.uniform(key, shape, minval=-1.0, maxval=1.0)


def size_linf(delta: Array) -> Array:
    """Returns the largest absolute value of a perturbation."""
    return jnp.max(jnp.abs(delta))


def size_l2(delta: Array) -> Array:
    """Returns the Euclidean norm of a perturbation."""
    return jnp.sqrt(jnp.sum(jnp.square(delta)))


def project_l2(delta: Array, epsilon: Array) -> Array:
    """Returns `delta * min(1, epsilon / ||delta||)`: scaled only where it lies outside."""
    size = size_l2(delta)
    # The inner `where` keeps 0 / 0 out of the unused branch.
    scale = epsilon / jnp.where(size > epsilon, size, 1.0)
    return jnp.where(size > epsilon, delta * scale, delta)


def steepest_l2(gradient: Array) -> Array:
    """Returns `gradient / ||gradient||`.

    It is divided by its largest value first, so that the gradients of a confident model (1e-30)
    do not vanish when squared.
    """
    largest = size_linf(gradient)
    scaled = gradient / jnp.where(largest > 0, largest, 1.0)
    return scaled / jnp.maximum(size_l2(scaled), 1.0)


def sample_l2(key: Key, shape: tuple[int, ...], epsilon: Array) -> Array:
    """Returns a point uniform in the ball: a normal direction, and the radius `epsilon u^(1/d)`."""
    direction_key, radius_key = prng.split(key)
    direction = steepest_l2(prng.normal(direction_key, shape))
    radius = prng.uniform(radius_key) ** (1.0 / math.prod(shape))
    return epsilon * radius * direction


NORMS: dict[str, Norm] = {
    "linf": Norm(size_linf, project_linf, jnp.sign, sample_linf, max_epsilon=1.0),
    "l2": Norm(size_l2, project_l2, steepest_l2, sample_l2, max_epsilon=math.inf),
    "l1": Norm(size_l1, project_l1, steepest_l1, sample_l1, max_epsilon=math.inf),
    "l0": Norm(size_l0, project_l0, steepest_l0, sample_l0, max_epsilon=math.inf),
}

_IN_BOX = {"l1": project_l1_in_box, "l0": project_l0_in_box}
"""Projections on the ball and a box at once, where one after the other wastes some of epsilon."""

Law = Callable[..., Array]
"""(key, epsilon, *, shape, norm) -> where a search starts, as seen from the image."""


def _uniform(key: Key, epsilon: Array, *, shape: tuple[int, ...], norm: Norm) -> Array:
    return norm.sample(key, shape, epsilon)


def _on_sphere(key: Key, epsilon: Array, *, shape: tuple[int, ...], norm: Norm) -> Array:
    drawn = norm.sample(key, shape, jnp.ones_like(epsilon))
    return epsilon * drawn / jnp.maximum(norm.size(drawn), 1e-12)


def _normal(key: Key, epsilon: Array, *, shape: tuple[int, ...], norm: Norm) -> Array:
    del epsilon, norm
    return 1e-3 * prng.normal(key, shape)


def _half_signs(key: Key, epsilon: Array, *, shape: tuple[int, ...], norm: Norm) -> Array:
    if norm.size is size_l1:  # of all values alike, epsilon would be spent on next to nothing
        return 0.5 * epsilon * steepest_l1(prng.normal(key, shape))
    signs = prng.rademacher(key, shape)
    return 0.5 * epsilon * signs / norm.size(signs)


STARTS: dict[str, Law] = {
    "uniform": _uniform,
    "sphere": _on_sphere,
    "normal": _normal,
    "half_signs": _half_signs,
}
"""Uniform in the ball (Madry et al.); on its surface; N(0, 0.001^2), whatever epsilon (TRADES);
random signs half of epsilon away (R+FGSM)."""


def project(
    delta: Array, epsilon: Array | float, norm: str, *, room: tuple[Array, Array] | None = None
) -> Array:
    """Returns the perturbations of a batch, each moved to the nearest point of its ball.

    Args:
        delta: (B, H, W, C).
        epsilon: radius, a number or (B,).
        norm: a name in `NORMS`.
        room: the least and the largest perturbation that the box leaves, each (B, H, W, C) or
            (H, W, C): in l1 and l0 the nearest point of the ball and of it is taken, as what is
            outside would be spent for nothing. The other norms do not heed it.

    Returns:
        (B, H, W, C) of norm at most epsilon, to float32 rounding.
    """
    radii = jnp.broadcast_to(epsilon, delta.shape[:1])
    if norm in _IN_BOX and room is not None:
        low, high = (jnp.broadcast_to(edge, delta.shape) for edge in room)
        return jax.vmap(_IN_BOX[norm])(delta, radii, low, high)
    return jax.vmap(NORMS[norm].project)(delta, radii)


def confine(moved: Array, images: Array, epsilon: Array | float, norm: str) -> Array:
    """Returns moved images, each brought back to the ball around its image, and to [0, 1].

    In l-inf, l1 and l0 that is the nearest point of both, in l2 a point of both.

    Args:
        moved: (B, H, W, C).
        images: (B, H, W, C) in [0, 1].
        epsilon: radius, a number or (B,).
        norm: a name in `NORMS`.
    """
    delta = project(moved - images, epsilon, norm, room=(-images, 1.0 - images))
    return jnp.clip(images + delta, 0.0, 1.0)


def steepest(gradient: Array, norm: str) -> Array:
    """Returns the steps of norm 1 that climb fastest: sign(g) in l-inf, g / ||g|| in l2.

    In l1 the largest 1 % of the gradient, see `steepest_l1`.

    Args:
        gradient: (B, H, W, C).
        norm: a name in `NORMS`.

    Returns:
        (B, H, W, C), 0 where the gradient is 0.
    """
    return jax.vmap(NORMS[norm].steepest)(gradient)


def climb(
    gradient: Array,
    length: Array | float,
    norm: str,
    inside: Inside | None,
    *,
    is_early: Array | bool = False,
    back: Array | None = None,
) -> Array:
    """Returns the steps of a length that climb fastest: in l1, in the ball and the box.

    Args:
        gradient: (B, H, W, C).
        length: a number or (B,), in the norm.
        norm: a name in `NORMS`.
        inside: of arrays (B, H, W, C) or (H, W, C), and epsilon a number or (B,); None: there is no
            box. Only l1 heeds it.
        is_early: whether the search goes on for long. In l1 it then looks at more values than a
            linear function needs: 1 % of them move alike (`steepest_l1`), of those that can.
        back: (B, H, W, C), see `steepest_inside`.

    Returns:
        (B, H, W, C), 0 where the gradient is 0.
    """
    lengths = jnp.broadcast_to(length, gradient.shape[:1])
    column = lengths[:, None, None, None]
    if norm != "l1" or inside is None:
        return column * steepest(gradient, norm)
    delta, low, high = (
        jnp.broadcast_to(x, gradient.shape) for x in (inside.delta, inside.low, inside.high)
    )
    radii = jnp.broadcast_to(inside.epsilon, gradient.shape[:1])

    def wide() -> Array:
        is_stuck = jnp.where(gradient > 0, delta >= high, delta <= low)
        return column * steepest(jnp.where(is_stuck, 0.0, gradient), norm)

    def sharp() -> Array:
        reached = Inside(delta, radii, low, high)
        return jax.vmap(steepest_inside)(gradient, lengths, reached, back)

    return sharp() if is_early is False else jax.lax.cond(is_early, wide, sharp)


def num_sharp(num_steps: Array | int) -> Array | int:
    """Returns how many steps at the end of a search are not early, as `climb` calls it.

    Four of a quarter of epsilon are enough to put all of it where it gains most.
    """
    if isinstance(num_steps, int):
        return max(4, num_steps // 4)
    return jnp.maximum(4, num_steps // 4)


def dual_sizes(gradients: Array, norm: str) -> Array:
    """Returns what a step of norm 1 along each of several gradients climbs: its dual norm.

    Args:
        gradients: (B, H, W, C).
        norm: `"linf"`, `"l2"` or `"l1"`, of the step.

    Returns:
        (B,); also of gradients so small or large (1e-30, 1e30) that their squares are none.
    """
    if norm != "l2":
        return jax.vmap(size_l1 if norm == "linf" else size_linf)(gradients)
    largest = jax.vmap(size_linf)(gradients)
    scaled = gradients / jnp.where(largest > 0, largest, 1.0)[:, None, None, None]
    return largest * jax.vmap(size_l2)(scaled)


def start(law: Law, keys: Key, shape: tuple[int, ...], epsilon: Array | float, norm: str) -> Array:
    """Returns where the search for each example starts, as seen from its image.

    Args:
        law: of `STARTS`.
        keys: (B,) keys.
        shape: of one image, (H, W, C).
        epsilon: radius, a number or (B,).
        norm: a name in `NORMS`.

    Returns:
        (B, H, W, C) float32; "normal" may lie outside the ball.
    """
    radii = jnp.broadcast_to(epsilon, keys.shape)
    return jax.vmap(functools.partial(law, shape=shape, norm=NORMS[norm]))(keys, radii)


def sample(keys: Key, shape: tuple[int, ...], epsilon: Array | float, norm: str) -> Array:
    """Returns a point uniform in the ball of each example.

    Args:
        keys: (B,) keys.
        shape: of one image, (H, W, C).
        epsilon: radius, a number or (B,).
        norm: a name in `NORMS`.

    Returns:
        (B, H, W, C) float32.
    """
    return start(_uniform, keys, shape, epsilon, norm)


class Rule(NamedTuple):
    """What is climbed of the gradients: `init` and `step`, as of an optimiser."""

    init: Callable[[Array], Any]
    """images -> what is remembered from step to step."""
    step: Callable[[Any, Array], tuple[Any, Array]]
    """(memory, gradient) -> (memory, what is climbed)."""
    is_direction: bool = False
    """Whether that is a direction already, each value of its own size, not to be made steepest."""


def momentum(decay: float) -> Rule:
    """Returns MI-FGSM's rule: gradients of l1 norm 1, added up with a decay.

    `m <- decay m + g / ||g||_1`, which is climbed.

    Source: Dong et al. 2018, arXiv:1710.06081, algorithm 1.
    """
    return Rule(jnp.zeros_like, Closure(_momentum_step, decay=decay))


def _momentum_step(memory: Array, gradient: Array, *, decay: float) -> tuple[Array, Array]:
    size = jnp.sum(jnp.abs(gradient), axis=(1, 2, 3), keepdims=True)
    memory = decay * memory + gradient / jnp.where(size > 0, size, 1.0)
    return memory, memory


class _AdamMemory(NamedTuple):
    count: Array
    first: Array
    second: Array


_DECAYS, _TINY, _STEEPEST = (0.9, 0.999), 1e-8, 1e18


def _adam_init(images: Array) -> _AdamMemory:
    zeros = jnp.zeros_like(images)
    return _AdamMemory(jnp.zeros((), jnp.int32), zeros, zeros)


def _adam_step(memory: _AdamMemory, gradient: Array) -> tuple[_AdamMemory, Array]:
    # Its square is a number, and of 0 times infinity nothing is left.
    gradient = jnp.clip(jnp.where(jnp.isnan(gradient), 0.0, gradient), -_STEEPEST, _STEEPEST)
    count = memory.count + 1
    moments, unbiased = [], []
    for decay, old, new in zip(_DECAYS, memory[1:], (gradient, gradient**2), strict=True):
        moments.append(decay * old + (1 - decay) * new)
        unbiased.append(moments[-1] / (1 - jnp.float32(decay) ** count))
    direction = unbiased[0] / (jnp.sqrt(unbiased[1]) + _TINY)
    return _AdamMemory(count, *moments), direction


RULES: dict[str, Rule] = {
    "steepest": Rule(lambda _: (), lambda _, gradient: ((), gradient)),
    "adam": Rule(_adam_init, _adam_step, is_direction=True),
}
"""By name; "adam" is Kingma and Ba 2015, arXiv:1412.6980, each value with a step of its own."""


def check_size(field: str, value: object, norm: str) -> None:
    """Checks an epsilon or a step size: not negative, finite and within its norm's range.

    Args:
        field: what the message calls it.
        value: a number, or one per example; None: there is none.
        norm: a name in `NORMS`.

    Raises:
        ValueError: for a value that is negative, not finite, or above 1 in l-inf; for an unknown
            norm.
    """
    rules = lookup(NORMS, norm, what="norm")
    if value is None or not is_known(value):
        return
    numbers = np.asarray(value, dtype=np.float64)
    high = rules.max_epsilon
    allowed = (numbers >= 0) & (numbers <= high) & np.isfinite(numbers)
    if not np.all(allowed):
        wrong = float(numbers[~allowed].ravel()[0])
        bounds = "at least 0" if high == math.inf else f"between 0 and {high:g}, in pixel units"
        raise ValueError(f"{field} is {wrong!r}; with norm {norm!r} it must be {bounds}")
