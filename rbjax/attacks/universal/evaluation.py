"""What a universal perturbation does to a dataset: to each image, each class and all."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from rbjax import checks
from rbjax.attacks.classifier import as_partial
from rbjax.attacks.universal.apply import apply_classwise
from rbjax.attacks.universal.dataset import batches, count_classes
from rbjax.convolution import loop_safe
from rbjax.inputs import check_labels
from rbjax.typing import Array, LogitsFn


class UniversalEvaluation(NamedTuple):
    """A perturbation's effect on a dataset, example by example and counted.

    An image is fooled if its class changes, whatever its label.
    """

    predictions: np.ndarray
    """(N,) int32, the class of each perturbed image."""
    clean_predictions: np.ndarray
    """(N,) int32, the class of each image as it is."""
    fooling_rate: float
    """Share of the images whose class changed, labels aside."""
    accuracy: float
    """Share of the perturbed images that are classified right."""
    clean_accuracy: float
    """Share of the images that are classified right as they are."""
    class_counts: np.ndarray
    """(K,) int64, images of each class."""
    class_correct: np.ndarray
    """(K,) int64, perturbed images of each class that are classified right."""
    class_fooled: np.ndarray
    """(K,) int64, images of each class whose prediction changed."""
    prediction_counts: np.ndarray
    """(K,) int64, perturbed images that are taken for each class."""
    dominant_label: int
    """The class that most perturbed images are taken for; the first of several."""
    dominant_share: float
    """Share of the perturbed images that are taken for it."""
    entropy: float
    """Of the predictions under the perturbation, in nats: 0 if they are all one class, log K if
    they are spread evenly."""


def evaluate_universal(
    logits_fn: LogitsFn,
    images: np.ndarray | Array,
    labels: np.ndarray | Array,
    delta: np.ndarray | Array,
    *,
    batch_size: int = 256,
) -> UniversalEvaluation:
    """Measures a perturbation, or one a class, on a dataset, every example once.

    Args:
        logits_fn: images -> logits (B, K).
        images: (N, H, W, C) uint8, or floating in [0, 1]; may stay on the host.
        labels: (N,) integers.
        delta: in pixel units: (H, W, C) for all images, or (K, H, W, C), and every image gets that
            of its own label.
        batch_size: images classified at once.

    Returns:
        Predictions with and without the perturbation, and what follows from them.

    Raises:
        ValueError: for wrong shapes or values.
    """
    images = np.asarray(images) if isinstance(images, jax.Array | list) else images
    labels = np.asarray(labels)
    num_classes = count_classes(logits_fn, images)
    check_labels(labels, num_examples=len(images), num_classes=num_classes)
    checks.integer("batch_size", batch_size, low=1)
    shape = images.shape[1:]
    if np.shape(delta) not in (shape, (num_classes, *shape)):
        raise ValueError(
            f"delta has shape {np.shape(delta)}; it must be {shape}, one image's, or "
            f"{(num_classes, *shape)}, one a class"
        )
    clean = classify(logits_fn, images, np.zeros(shape, np.float32), batch_size=batch_size)
    perturbed = classify(logits_fn, images, delta, labels, batch_size=batch_size)
    correct, fooled = perturbed == labels, perturbed != clean
    counts = np.bincount(perturbed, minlength=num_classes)
    dominant = int(np.argmax(counts))
    return UniversalEvaluation(
        predictions=perturbed,
        clean_predictions=clean,
        fooling_rate=float(np.mean(fooled)),
        accuracy=float(np.mean(correct)),
        clean_accuracy=float(np.mean(clean == labels)),
        class_counts=np.bincount(labels, minlength=num_classes),
        class_correct=np.bincount(labels[correct], minlength=num_classes),
        class_fooled=np.bincount(labels[fooled], minlength=num_classes),
        prediction_counts=counts,
        dominant_label=dominant,
        dominant_share=float(counts[dominant] / len(labels)),
        entropy=_entropy(counts),
    )


def classify(
    logits_fn: LogitsFn,
    images: np.ndarray,
    delta: np.ndarray | Array,
    labels: np.ndarray | None = None,
    *,
    batch_size: int,
) -> np.ndarray:
    """Returns the classes of perturbed images, in batches of one size.

    Args:
        logits_fn: images -> logits (B, K).
        images: (N, H, W, C) uint8, or floating in [0, 1].
        delta: (H, W, C), or (K, H, W, C) with labels.
        labels: (N,) integers.
        batch_size: images at once.

    Returns:
        (N,) int32.
    """
    model = as_partial(logits_fn)
    deltas = jnp.asarray(delta)
    deltas = deltas if deltas.ndim == 4 else deltas[None]
    which = np.zeros(len(images), np.int32)
    if labels is not None and len(deltas) > 1:
        which = labels.astype(np.int32)
    found = []
    for rows, mask in batches(np.arange(len(images)), min(batch_size, len(images))):
        found.append(np.asarray(_classify(model, images[rows], which[rows], deltas))[mask])
    return np.concatenate(found)


def _entropy(counts: np.ndarray) -> float:
    """Returns `-sum p log p` of counts."""
    shares = counts[counts > 0] / counts.sum()
    return float(-np.sum(shares * np.log(shares)))


@jax.jit
def _classify(logits_fn: Partial, images: Array, which: Array, deltas: Array) -> Array:
    """Returns the classes of the images, each with the perturbation of its number."""
    logits = loop_safe(logits_fn)(apply_classwise(images, which, deltas))
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)
