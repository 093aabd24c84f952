"""How the images of a class differ in shape: a Gaussian over deformations, learnt from pairs.

For random pairs (a, b) of one class theta minimises

    sum (warp(a) - b)^2 + w theta^T K^-1 theta,

K smooth (`cpab.smooth_covariance`), pixels in [0, 1]; the class's covariance is the mean of
theta theta^T. The mean is 0, since aligning b to a gives -theta.

Source: Hauberg, Freifeld, Larsen, Fisher and Hansen, "Dreaming more data: class-dependent
distributions over diffeomorphisms for learned data augmentation", AISTATS 2016. How pairs were
chosen and how strong the prior was is not published: both are rbjax's own here, and pairs are
aligned by gradient instead of by sampling.
"""

from __future__ import annotations

import functools
import hashlib
import json
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rbjax import atomic, cpab
from rbjax.data import order
from rbjax.inputs import check_labels
from rbjax.typing import Array

_BATCH = 100


class Settings(NamedTuple):
    """What the learnt Gaussians depend on, besides the images."""

    num_pairs: int = 200
    """Pairs of each class, of images that are all different; fewer in a smaller class."""
    prior_weight: float = 100.0
    """w: the larger, the smaller the deformations."""
    length_scale: float = 0.35
    """Of K, in widths of the image."""
    field: cpab.Field = cpab.Field()
    """The space of theta."""
    num_updates: int = 80
    """Updates of Adam from theta = 0."""
    learning_rate: float = 0.02
    num_steps: int = 5
    """Of the flow's integration."""
    seed: int = 0
    """Which pairs."""


def align(sources: np.ndarray, targets: np.ndarray, settings: Settings) -> np.ndarray:
    """Aligns pairs of images by gradient.

    Args:
        sources: a, (P, H, W, C) uint8.
        targets: b, (P, H, W, C) uint8.
        settings: how.

    Returns:
        theta, (P, d) float32: `cpab.warp` of a with it is near b.
    """
    thetas = []
    for start in range(0, len(sources), _BATCH):
        pair = [images[start : start + _BATCH] for images in (sources, targets)]
        # The last batch is padded: one shape, one compilation.
        missing = [(0, _BATCH - len(pair[0]))] + [(0, 0)] * 3
        filled = [np.pad(images, missing, mode="edge") for images in pair]
        thetas.append(np.asarray(_align(*filled, settings=settings))[: len(pair[0])])
    return np.concatenate(thetas)


def pairs(
    labels: np.ndarray, example_ids: np.ndarray, label: int, settings: Settings
) -> np.ndarray:
    """Returns random pairs of one class, independent of the order in which examples are stored.

    Args:
        labels: (N,) integers.
        example_ids: (N,) integers, each once.
        label: the class.
        settings: how many, and the seed.

    Returns:
        (P, 2) rows, all different.

    Raises:
        ValueError: if the class has fewer than two examples.
    """
    rows = np.flatnonzero(labels == label)
    if len(rows) < 2:
        raise ValueError(f"class {label} has {len(rows)} examples; a pair needs 2")
    numbers = order.priorities(example_ids[rows], seed=settings.seed, name=f"pairs of {label}")
    rows = rows[np.argsort(numbers)]
    num_pairs = min(settings.num_pairs, len(rows) // 2)
    return rows[: 2 * num_pairs].reshape(num_pairs, 2)


def learn(
    images: np.ndarray,
    labels: np.ndarray,
    example_ids: np.ndarray,
    settings: Settings,
    *,
    num_classes: int = 10,
) -> np.ndarray:
    """Learns each class's Gaussian.

    Args:
        images: (N, H, W, C) uint8.
        labels: (N,) integers in [0, K).
        example_ids: (N,) integers, each once.
        settings: how.
        num_classes: K.

    Returns:
        (K, d, d) float64, the mean of theta theta^T over the pairs of each class.

    Raises:
        ValueError: if a class has fewer than two examples.
    """
    labels = check_labels(labels, num_examples=len(images), num_classes=num_classes)
    rows = [pairs(labels, example_ids, label, settings) for label in range(num_classes)]
    sources, targets = (images[np.concatenate(rows)[:, side]] for side in (0, 1))
    thetas = align(sources, targets, settings).astype(np.float64)
    ends = np.cumsum([len(of_class) for of_class in rows])
    return np.stack([each.T @ each / len(each) for each in np.split(thetas, ends[:-1])])


def learnt(
    images: np.ndarray,
    labels: np.ndarray,
    example_ids: np.ndarray,
    settings: Settings,
    *,
    folder: Path,
    num_classes: int = 10,
) -> np.ndarray:
    """Returns what `learn` does, read from `<folder>/gaussians-<settings>.npz` if it exists.

    Args:
        images: (N, H, W, C) uint8.
        labels: (N,) integers in [0, K).
        example_ids: (N,) integers, each once.
        settings: how.
        folder: belongs to these images; created if it does not exist.
        num_classes: K.

    Returns:
        (K, d, d) float64.

    Raises:
        ValueError: if a class has fewer than two examples.
    """
    text = json.dumps(atomic.plain(settings._asdict()), sort_keys=True)
    path = folder / f"gaussians-{hashlib.sha256(text.encode()).hexdigest()[:12]}.npz"
    kept = atomic.read_npz(path)
    size = (num_classes, settings.field.dimension, settings.field.dimension)
    if kept is not None and "covariances" in kept and kept["covariances"].shape == size:
        return kept["covariances"]
    print(f"{num_classes} classes: their deformations are learnt once, for {path}", file=sys.stderr)
    covariances = learn(images, labels, example_ids, settings, num_classes=num_classes)
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write_npz(path, covariances=covariances, settings=np.array(text))
    return covariances


@functools.partial(jax.jit, static_argnames="settings")
def _align(sources: Array, targets: Array, *, settings: Settings) -> Array:
    field = settings.field
    prior = cpab.smooth_covariance(field, length_scale=settings.length_scale)
    precision = jnp.asarray(np.linalg.inv(prior + 1e-6 * np.eye(len(prior))), jnp.float32)
    sources, targets = (x.astype(jnp.float32) / 255 for x in (sources, targets))
    warp = functools.partial(cpab.warp, field, num_steps=settings.num_steps)

    def loss(thetas: Array) -> Array:
        misfit = jnp.sum((jax.vmap(warp)(thetas, sources) - targets) ** 2)
        weighted = jnp.matmul(thetas, precision, precision="highest")
        return misfit + settings.prior_weight * jnp.sum(thetas * weighted)

    # The sum over pairs: Adam works number by number, so pairs do not affect each other.
    optimizer = optax.adam(settings.learning_rate)

    def update(_: Array | int, carried: tuple[Array, optax.OptState]) -> tuple:
        thetas, state = carried
        changes, state = optimizer.update(jax.grad(loss)(thetas), state)
        return optax.apply_updates(thetas, changes), state

    thetas = jnp.zeros((len(sources), field.dimension))
    return jax.lax.fori_loop(0, settings.num_updates, update, (thetas, optimizer.init(thetas)))[0]
