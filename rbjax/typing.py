"""The types that flow between rbjax's parts.

Images are float32, NHWC and in [0, 1] everywhere outside a model; labels are int32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

Array = jax.Array
Device = Any
"""A `jax.Device`, whose class type checkers do not see."""

Key = jax.Array
"""A typed key (`jax.random.key`), or a batch of them."""

LogitsFn = Callable[[Array], Array]
"""images (B, H, W, C) in [0, 1] -> logits (B, K)."""

Perturbation = Callable[[Key, Array], Array]
"""(key, image (H, W, C) in [0, 1]) -> image of the same shape and range."""

RandomizedFn = Callable[[Key, Array], Array]
"""(keys (B,), images (B, H, W, C) in [0, 1]) -> logits (B, K), other ones for other keys."""

LossFn = Callable[[Array, Array], Array]
"""(logits (B, K), labels (B,)) -> loss of each example (B,)."""


class Batch(NamedTuple):
    """Rows of a dataset, as a compiled step sees them."""

    images: Array
    """(B, H, W, C) float32 in [0, 1]."""
    labels: Array
    """(B,) int32."""
    example_ids: Array
    """(B,) int32, what keys are derived from."""
    mask: Array
    """(B,) bool, False for rows that only fill up the shape."""


class AttackResult(NamedTuple):
    """What an attack returns."""

    images: Array
    """(B, H, W, C) the adversarial images."""
    fooled: Array
    """(B,) bool: misclassified, or with `targets` classified as the target."""
    loss: Array
    """(B,) the loss the attack climbed, at `images`."""
    predictions: Array
    """(B,) int32, the class of each of `images`, from a forward pass of their own."""
    logits: Any = None
    """(B, K) float32, of that pass; None where an attack of one's own does not say."""
