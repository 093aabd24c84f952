"""Images with a perturbation on them."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from rbjax.inputs import to_float
from rbjax.typing import Array


def apply_universal(images: np.ndarray | Array, delta: np.ndarray | Array) -> Array:
    """Returns `clip(images + delta, 0, 1)`.

    Args:
        images: (..., H, W, C) uint8, or floating in [0, 1].
        delta: (H, W, C), in pixel units.

    Returns:
        float32 images in [0, 1].
    """
    return jnp.clip(to_float(images) + delta, 0.0, 1.0)


def apply_classwise(
    images: np.ndarray | Array, labels: np.ndarray | Array, deltas: np.ndarray | Array
) -> Array:
    """Returns `clip(images + deltas[labels], 0, 1)`, each image with its own class's perturbation.

    Args:
        images: (B, H, W, C) uint8, or floating in [0, 1].
        labels: (B,) integers in [0, K).
        deltas: (K, H, W, C), in pixel units.

    Returns:
        float32 images in [0, 1].
    """
    return apply_universal(images, jnp.asarray(deltas)[jnp.asarray(labels)])
