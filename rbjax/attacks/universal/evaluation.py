"""A universal perturbation on images, and what it does to each of a dataset, each class and all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rbjax import prng
from rbjax.blocks import Block, Blocks, Examples, Placement, block_size, check_examples
from rbjax.classifier import Classifier, Model, answer, as_classifier, changed, keys_of
from rbjax.inputs import (
    NO_CLASS,
    check_array,
    check_images,
    check_labels,
    is_known,
    parts,
    to_float,
)
from rbjax.options import named
from rbjax.progress import ShowProgress, teller
from rbjax.sheet import Sheet, per_cent, spoken
from rbjax.typing import Array, Key
from rbjax.verdicts import Verdicts, verdicts


def apply_universal(images: np.ndarray | Array, delta: np.ndarray | Array) -> Array:
    """Returns `clip(images + delta, 0, 1)`.

    Args:
        images: (..., H, W, C) uint8, or floating in [0, 1].
        delta: (H, W, C), in pixel units.

    Returns:
        float32 images in [0, 1].

    Raises:
        ValueError: for known images outside [0, 1], or of another dtype or shape; and for a delta
            of another shape, or one that is known and not finite.

    Example:
        >>> images = np.array([0.2, 0.9]).reshape(2, 1, 1, 1)
        >>> rbjax.attacks.apply_universal(images, np.full((1, 1, 1), 0.2)).ravel()
        Array([0.4, 1. ], dtype=float32)
    """
    images = images if hasattr(images, "dtype") else np.asarray(images)
    is_batch = images.ndim >= 4
    check_images(images.reshape(-1, *images.shape[-3:]) if is_batch else images[None])
    return _add(images, _checked(delta, "delta", "(height, width, channels)", images.shape[-3:]))


def _add(images: np.ndarray | Array, delta: Array) -> Array:
    return jnp.clip(to_float(images) + delta, 0.0, 1.0)


def _checked(delta: Any, field: str, axes: str, *shapes: tuple[int, ...]) -> Array:
    """Returns perturbations of one of some shapes, finite where they are known, as float32."""
    if np.shape(check_array(delta, field=field)) not in shapes:
        allowed = " or ".join(map(str, shapes))
        raise ValueError(f"{field} has shape {np.shape(delta)}; it must be {allowed}, {axes}")
    delta = jnp.asarray(delta, jnp.float32)
    if is_known(delta) and not np.isfinite(delta).all():
        raise ValueError(f"{field} holds a value that is not finite; it must be in pixel units")
    return delta


def apply_classwise(
    images: np.ndarray | Array, labels: np.ndarray | Array, deltas: np.ndarray | Array
) -> Array:
    """Returns `clip(images + deltas[labels], 0, 1)`, each image with its own class's perturbation.

    Args:
        images: (B, H, W, C) uint8, or floating in [0, 1].
        labels: (B,) integers in [0, K).
        deltas: (K, H, W, C), in pixel units.

    Returns:
        float32 images in [0, 1]; NaN where a traced label is no class.

    Raises:
        ValueError: for labels that are not (B,) integers, or known ones outside [0, K), and as
            `apply_universal`.

    Example:
        >>> images, deltas = np.full((2, 1, 1, 1), 0.5), np.array([0.1, -0.1]).reshape(2, 1, 1, 1)
        >>> rbjax.attacks.apply_classwise(images, np.array([1, 0]), deltas).ravel()
        Array([0.4, 0.6], dtype=float32)
    """
    images = images if hasattr(images, "dtype") else np.asarray(images)
    check_images(images)
    num_classes = (*np.shape(check_array(deltas, field="deltas")), 1)[0]
    deltas = _checked(deltas, "deltas", "one a class", (num_classes, *images.shape[1:]))
    labels = check_labels(labels, num_examples=len(images), num_classes=len(deltas))
    return _add(images, deltas.at[labels].get(mode="fill"))


def room_of(examples: Examples, rows: np.ndarray) -> tuple[Array, Array]:
    """Returns the least and the largest perturbation that some images have room for in [0, 1].

    What is outside moves none of them, and in l1 is spent for nothing.

    Args:
        examples: the images, read block by block.
        rows: (M,) which of them.

    Returns:
        Two arrays (H, W, C) float32: minus the largest value of each pixel, and 1 minus the least.
    """
    shape = examples.images.shape[1:]
    least, most = np.ones(shape, np.float32), np.zeros(shape, np.float32)
    for some in parts(rows, shape):
        images = np.asarray(to_float(examples.read(some)))
        least, most = np.minimum(least, images.min(0)), np.maximum(most, images.max(0))
    return jnp.asarray(-most), jnp.asarray(1 - least)


class UniversalEvaluation(NamedTuple):
    """A perturbation's effect on a dataset, example by example and counted.

    An image is fooled if its class changes, whatever its label; an answer of no class, -1, is
    another one than any.
    """

    predictions: np.ndarray
    """(N,) int32, the class of each perturbed image."""
    probability: np.ndarray
    """(N,) float32, what the model gives that class; NaN where it is none."""
    clean_predictions: np.ndarray
    """(N,) int32, the class of each image as it is."""
    fooling_rate: float
    """Share of the images whose class changed, labels aside."""
    accuracy: float
    """Share of the perturbed images that are correctly classified."""
    clean_accuracy: float
    """Share of the images that are correctly classified as they are."""
    class_counts: np.ndarray
    """(K,) int64, images of each class."""
    class_correct: np.ndarray
    """(K,) int64, perturbed images of each class that are correctly classified."""
    class_fooled: np.ndarray
    """(K,) int64, images of each class whose prediction changed."""
    prediction_counts: np.ndarray
    """(K,) int64, perturbed images that are taken for each class; those of no class are left
    out."""
    dominant_label: int
    """The class that most perturbed images are taken for; the first of several."""
    dominant_share: float
    """Share of the perturbed images that are taken for it."""
    entropy: float
    """Of the predictions under the perturbation, in nats: 0 if they are all one class, log K if
    they are spread evenly."""
    delta_norms: tuple[float, float] | None = None
    """Of the perturbation in l-inf and in l2; of one a class, the largest."""

    @property
    def sheet(self) -> Sheet:
        """A class a row: perturbed images that are correctly classified, and fooled."""
        counts, of = np.maximum(self.class_counts, 1), ""
        if self.delta_norms is not None:
            of = ", delta of linf {} and l2 {}".format(*map(spoken, self.delta_norms))
        return Sheet(
            f"evaluate_universal{of}: {len(self.predictions):,} images of {len(counts)} classes, "
            f"per cent; clean {per_cent(self.clean_accuracy)}, most are taken for "
            f"{self.dominant_label} ({per_cent(self.dominant_share)})",
            {
                "class": list(map(str, range(len(counts)))),
                "count": self.class_counts.tolist(),
                "correct": (self.class_correct / counts).tolist(),
                "fooled": (self.class_fooled / counts).tolist(),
            },
            {
                "class": ["all"],
                "count": [int(self.class_counts.sum())],
                "correct": [self.accuracy],
                "fooled": [self.fooling_rate],
            },
        )

    def __repr__(self) -> str:
        return repr(self.sheet)


@named
def evaluate_universal(
    logits_fn: Model,
    images: np.ndarray | Array,
    labels: np.ndarray | Array,
    delta: np.ndarray | Array,
    *,
    batch_size: int = 256,
    devices: Sequence[Any] | None = None,
    key: Key | None = None,
    progress: ShowProgress = None,
) -> UniversalEvaluation:
    """Measures a perturbation, or one a class, on a dataset, every example once.

    With several processes (`jax.distributed`) each is given all images, classifies its share of the
    blocks, and returns the whole evaluation.

    Args:
        logits_fn: images -> logits (B, K).
        images: (N, H, W, C) uint8, or floating in [0, 1]; an array, a memory map, or whatever is
            indexed by slices and row numbers. They are read block by block.
        labels: (N,) integers.
        delta: in pixel units: (H, W, C) for all images, or (K, H, W, C), and every image gets that
            of its own label.
        batch_size: images classified at once, over all devices.
        devices: the `jax.Device`s to use; None: all local ones.
        key: what a randomised classifier draws from; None: `jax.random.key(0)`.
        progress: shown if True; a function is called after each block.

    Returns:
        Predictions with and without the perturbation, and what follows from them.

    Raises:
        ValueError: for wrong shapes or values.

    Example:
        >>> images = np.array([0.2, 0.4, 0.9], np.float32).reshape(3, 1, 1, 1)  # of one pixel
        >>> labels = np.array([0, 0, 1])  # bright or not
        >>> def bright(x):
        ...     return jnp.stack([0.5 - x[:, 0, 0, 0], x[:, 0, 0, 0] - 0.5], axis=1)
        ...
        >>> delta = np.full((1, 1, 1), 0.2)
        >>> found = rbjax.attacks.evaluate_universal(bright, images, labels, delta)
        >>> found.clean_predictions.tolist(), found.predictions.tolist()
        ([0, 0, 1], [0, 1, 1])
    """
    model = as_classifier(logits_fn)
    examples = check_examples(images, labels, count_classes=model.count_classes)
    placement = Placement(devices)
    size = block_size(len(examples.labels), batch_size, placement)
    blocks = Blocks(examples, placement, size, tell=teller(progress))
    labels, num_classes, shape = examples.labels, examples.num_classes, examples.images.shape[1:]
    shapes = shape, (num_classes, *shape)
    delta = np.asarray(_checked(delta, "delta", "one image's or one a class", *shapes))
    model, key = model.placed(placement.whole), prng.key(0) if key is None else prng.check(key)
    clean, _ = judge(blocks, model, np.zeros(shape, np.float32), key)
    perturbed, probability = judge(blocks, model, delta, key)
    correct, fooled = perturbed == labels, changed(perturbed, clean)
    counts = np.bincount(perturbed[perturbed != NO_CLASS], minlength=num_classes)
    squares = np.sum(np.square(delta, dtype=np.float64), axis=(-3, -2, -1))
    dominant, shares = int(np.argmax(counts)), counts[counts > 0] / max(counts.sum(), 1)
    return UniversalEvaluation(
        predictions=perturbed,
        probability=probability,
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
        entropy=float(-np.sum(shares * np.log(shares))),
        delta_norms=(float(np.abs(delta).max()), float(np.sqrt(squares.max()))),
    )


def judge(blocks: Blocks, model: Classifier, delta: np.ndarray, key: Key) -> Verdicts:
    """Returns the classes of perturbed images, and their probabilities.

    Args:
        blocks: N images.
        model: the classifier, its weights on the devices.
        delta: (H, W, C), or (K, H, W, C) and each image gets that of its label.
        key: what a randomised one draws from.

    Returns:
        (N,) int32 and float32.
    """
    deltas = blocks.placement.replicate(delta.reshape(-1, *delta.shape[-3:]))

    def ask(block: Block, images: Array) -> dict[str, Any]:
        ids, labels = (
            x[block.padded] for x in (blocks.examples.example_ids, blocks.examples.labels)
        )
        ids, which = blocks.placement.split((ids, labels if len(deltas) > 1 else 0 * labels))
        perturbed = _perturb(images, which, deltas)
        return verdicts(answer(model, keys_of(key, ids), perturbed))._asdict()

    return Verdicts(**blocks.map(ask))


_perturb = jax.jit(apply_classwise)
