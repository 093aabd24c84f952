"""A linear model of several classes, whose distances to every boundary are known."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from experiments.parity.exact.solve import to_plane

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


def exact(norm: str) -> np.ndarray:
    """Returns the same in the box, which in l1 a single pixel soon meets."""
    return distances(norm) if norm in DUAL else distances_in_box(WEIGHTS, IMAGES, LABELS, norm)


def between(norm: str) -> float:
    """Returns an epsilon that half of the images can withstand, far from any one's distance."""
    ordered = np.sort(exact(norm))
    return float(ordered[NUM_IMAGES // 2 - 1 : NUM_IMAGES // 2 + 1].mean())


ORDER = {"linf": np.inf, "l2": 2, "l1": 1, "l0": 0}


def sizes(delta, norm: str) -> np.ndarray:
    flat = np.asarray(delta, np.float64).reshape(len(delta), -1)
    return np.linalg.norm(flat, ORDER[norm], axis=1)


def distances_in_box(weights, images, labels, norm: str) -> np.ndarray:
    """Returns each image's distance in [0, 1] to the nearest other class of `linear`."""
    weights = np.asarray(weights, np.float64)
    flat = np.asarray(images, np.float64).reshape(len(images), -1)
    logits, least = (flat - 0.5) @ weights, []
    for image, label, values in zip(flat, np.asarray(labels), logits, strict=True):
        others = [k for k in range(weights.shape[1]) if k != label]
        least.append(
            min(
                to_plane(weights[:, k] - weights[:, label], values[label] - values[k], image, norm)
                for k in others
            )
        )
    return np.array(least)


def everywhere(images) -> dict[str, jax.Array]:
    """Returns images of four kinds, made of some in the middle: many lie at the edge of the box."""
    spread = jnp.clip(0.5 + 2.5 * (images - 0.5), 0.0, 1.0)
    return {
        "grey": images,
        "uniform": spread,
        "black and white": jnp.round(spread),
        "dark": 0.1 * spread,
    }


def iterates(attack, logits_fn, image) -> list[np.ndarray]:
    """Returns what an attack asks a model about for one image of label 0, each flat in float64."""
    seen = []

    def watched(images):
        jax.debug.callback(lambda x: seen.append(np.asarray(x, np.float64).ravel()), images)
        return logits_fn(images)

    attack(watched, jax.random.key(0), image, jnp.zeros(1, int))
    jax.effects_barrier()
    return seen


SLOPES = np.linspace(0.3, 1.0, 8) * (-1.0) ** np.arange(8)


def cubic(images):
    """Two classes, z_1 - z_0 = (<w, x - 0.5> + 0.3)^3 - 0.2: its boundary seems far."""
    height = (images.reshape(len(images), -1) - 0.5) @ jnp.asarray(SLOPES, jnp.float32)
    return jnp.stack([jnp.zeros(len(images)), (height + 0.3) ** 3 - 0.2], axis=-1)


def lead_and_gradient(delta: np.ndarray) -> tuple[float, np.ndarray]:
    """Returns z_1 - z_0 of `cubic` at 0.5 + delta, and its gradient."""
    height = float(delta @ SLOPES) + 0.3
    return height**3 - 0.2, 3 * height**2 * SLOPES
