"""A linear model of several classes, whose distances to every boundary are known."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

NUM_CLASSES, NUM_IMAGES, SHAPE = 5, 24, (6, 6, 1)
DUAL = {"linf": 1, "l2": 2}


def linear(weights, images):
    return (images - 0.5).reshape(images.shape[0], -1) @ weights


WEIGHTS = 0.3 * jax.random.normal(jax.random.key(0), (36, NUM_CLASSES))
LOGITS_FN = Partial(linear, WEIGHTS)
IMAGES = jax.random.uniform(jax.random.key(1), (NUM_IMAGES, *SHAPE), minval=0.3, maxval=0.7)
LABELS = jnp.argmax(LOGITS_FN(IMAGES), axis=-1)


def distances(norm: str) -> np.ndarray:
    """Returns each image's distance to the nearest boundary, the box aside."""
    logits, labels = np.asarray(LOGITS_FN(IMAGES), np.float64), np.asarray(LABELS)
    weights, rows = np.asarray(WEIGHTS, np.float64), np.arange(NUM_IMAGES)
    gaps = logits[rows, labels][:, None] - logits
    between = weights[:, labels].T[:, :, None] - weights[None]
    size = np.linalg.norm(between, DUAL[norm], axis=1)
    return np.where(size > 0, gaps / np.where(size > 0, size, 1), np.inf).min(axis=1)


def between(norm: str) -> float:
    """Returns an epsilon that half of the images can withstand, far from any one's distance."""
    ordered = np.sort(distances(norm))
    return float(ordered[NUM_IMAGES // 2 - 1 : NUM_IMAGES // 2 + 1].mean())


def sizes(delta, norm: str) -> np.ndarray:
    flat = np.asarray(delta, np.float64).reshape(len(delta), -1)
    return np.abs(flat).max(axis=1) if norm == "linf" else np.linalg.norm(flat, axis=1)
