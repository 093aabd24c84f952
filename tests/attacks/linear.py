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


def distance_in_box(normal: np.ndarray, gap: float, image: np.ndarray, norm: str) -> float:
    """Returns the least size of a d with <normal, d> = gap and image + d in [0, 1].

    Values move towards the plane: in l-inf by t and in l2 by t times their weight, up to the box;
    in l1 in the order of their weights, in l0 of what they can gain.
    """
    weights, room = np.abs(normal), np.where(normal > 0, 1 - image, image)
    if np.sum(weights * room) < gap:
        return np.inf
    if norm in ("l1", "l0"):
        order = np.argsort(-weights * (room if norm == "l0" else 1))
        reached = np.cumsum((weights * room)[order])
        last = int(np.searchsorted(reached, gap))
        if norm == "l0":
            return last + 1
        left = gap - (reached[last - 1] if last else 0.0)
        return float(np.sum(room[order][:last]) + left / weights[order][last])
    pace = weights if norm == "l2" else np.ones_like(weights)
    low, high = 0.0, 1.0 / np.min(pace[pace > 0])
    for _ in range(200):
        middle = 0.5 * (low + high)
        is_short = np.sum(weights * np.minimum(middle * pace, room)) < gap
        low, high = (middle, high) if is_short else (low, middle)
    return float(np.linalg.norm(np.minimum(high * pace, room), ORDER[norm]))


def distances_in_box(weights, images, labels, norm: str) -> np.ndarray:
    """Returns each image's distance in [0, 1] to the nearest other class of `linear`."""
    weights = np.asarray(weights, np.float64)
    flat = np.asarray(images, np.float64).reshape(len(images), -1)
    logits, least = (flat - 0.5) @ weights, []
    for image, label, values in zip(flat, np.asarray(labels), logits, strict=True):
        others = [k for k in range(weights.shape[1]) if k != label]
        least.append(
            min(
                distance_in_box(
                    weights[:, k] - weights[:, label], values[label] - values[k], image, norm
                )
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
