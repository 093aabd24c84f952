"""Perturbations in a row, clipped to [0, 1] once."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from rbjax import prng
from rbjax.inputs import check_array
from rbjax.typing import Array, Key, Perturbation


@dataclasses.dataclass(frozen=True)
class Clipped:
    """A perturbation whose result is clipped to [0, 1].

    Perturbations are frozen dataclasses so that two made from the same options are equal, and a
    program compiled for one serves the other.
    """

    change: Perturbation
    """(key, image) -> image, which may leave [0, 1]."""

    def __call__(self, key: Key, image: Array) -> Array:
        """Returns the perturbed image of one image, in [0, 1]."""
        prng.check(key)
        check_array(image, field="image")
        return jnp.clip(self.change(key, image), 0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class _Chain:
    changes: tuple[Perturbation, ...]

    def __call__(self, key: Key, image: Array) -> Array:
        for number, change in enumerate(self.changes):
            image = change(prng.fold_in(key, number), image)
        return image


def compose(*perturbations: Perturbation) -> Clipped:
    """Returns perturbations applied one after the other.

    image -> clip(p_n(... p_2(p_1(image))), 0, 1): what one of them pushes out of [0, 1] another may
    bring back, because rbjax's own are clipped at the end of the chain, not between.

    Args:
        *perturbations: (key, image (H, W, C)) -> image; the i-th gets `fold_in(key, i)`.

    Returns:
        The chain, itself a perturbation; with no argument the identity.
    """
    changes = tuple(p.change if isinstance(p, Clipped) else p for p in perturbations)
    return Clipped(_Chain(changes))
