"""What makes a step of a gradient: the steepest direction, momentum, Adam.

A rule is `init` and `step`, as an optimiser is; the step size is multiplied by the attack.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from rbjax.attacks import norms
from rbjax.typing import Array


class Rule(NamedTuple):
    """How gradients become directions."""

    init: Callable[[Array], Any]
    """images -> what is remembered from step to step."""
    step: Callable[[Any, Array, str], tuple[Any, Array]]
    """(memory, gradient, norm) -> (memory, direction)."""


def _nothing(images: Array) -> tuple[()]:
    del images
    return ()


def _steepest(memory: tuple[()], gradient: Array, norm: str) -> tuple[tuple[()], Array]:
    return memory, norms.steepest(gradient, norm)


@dataclasses.dataclass(frozen=True)
class _Momentum:
    """`m <- decay m + g / ||g||_1`; the direction is the steepest for m."""

    decay: float

    def __call__(self, memory: Array, gradient: Array, norm: str) -> tuple[Array, Array]:
        size = jnp.sum(jnp.abs(gradient), axis=(1, 2, 3), keepdims=True)
        memory = self.decay * memory + gradient / jnp.where(size > 0, size, 1.0)
        return memory, norms.steepest(memory, norm)


def momentum(decay: float) -> Rule:
    """Returns MI-FGSM's rule: gradients of l1 norm 1, added up with a decay.

    Source: Dong et al. 2018, arXiv:1710.06081, algorithm 1.
    """
    return Rule(jnp.zeros_like, _Momentum(decay))


class _AdamMemory(NamedTuple):
    count: Array
    first: Array
    second: Array


_DECAYS, _TINY = (0.9, 0.999), 1e-8


def _adam_init(images: Array) -> _AdamMemory:
    zeros = jnp.zeros_like(images)
    return _AdamMemory(jnp.zeros((), jnp.int32), zeros, zeros)


def _adam_step(memory: _AdamMemory, gradient: Array, norm: str) -> tuple[_AdamMemory, Array]:
    del norm
    count = memory.count + 1
    moments, unbiased = [], []
    for decay, old, new in zip(_DECAYS, memory[1:], (gradient, gradient**2), strict=True):
        moments.append(decay * old + (1 - decay) * new)
        unbiased.append(moments[-1] / (1 - decay**count))
    direction = unbiased[0] / (jnp.sqrt(unbiased[1]) + _TINY)
    return _AdamMemory(count, *moments), direction


RULES: dict[str, Rule] = {
    "steepest": Rule(_nothing, _steepest),
    "adam": Rule(_adam_init, _adam_step),
}
"""By name; "adam" is Kingma and Ba 2015, arXiv:1412.6980, each value with a step of its own."""
