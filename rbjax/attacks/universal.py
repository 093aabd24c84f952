"""One perturbation for all images: crafted over a dataset, applied, and evaluated.

The drivers loop on the host over blocks of one fixed size and call compiled parts, so that a
dataset of any size fits; the last block is filled up with rows that count for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from rbjax import checks, prng
from rbjax.attacks.norms import NORMS, check_size, project, sample, steepest
from rbjax.convolution import loop_safe
from rbjax.inputs import check_images, check_labels, logits_shape, to_float
from rbjax.losses.adversarial import cross_entropy
from rbjax.tables import lookup
from rbjax.typing import Array, Key, LogitsFn


class UniversalResult(NamedTuple):
    """What crafting returns."""

    delta: Array
    """(H, W, C) float32, the perturbation."""
    loss: np.ndarray
    """(num_epochs,) the mean (clipped) loss that was climbed, over each epoch's steps."""


class UniversalEvaluation(NamedTuple):
    """A perturbation's effect on a dataset, example by example and counted."""

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


def apply_universal(images: np.ndarray | Array, delta: Array) -> Array:
    """Returns `clip(images + delta, 0, 1)`.

    Args:
        images: (..., H, W, C) uint8, or floating in [0, 1].
        delta: (H, W, C), in pixel units.

    Returns:
        float32 images in [0, 1].
    """
    return jnp.clip(to_float(images) + delta, 0.0, 1.0)


def craft_universal(
    logits_fn: LogitsFn,
    key: Key,
    images: np.ndarray | Array,
    labels: np.ndarray | Array,
    *,
    epsilon: float,
    norm: str = "linf",
    num_epochs: int = 10,
    batch_size: int = 128,
    step_size: float | None = None,
    loss_clip: float | None = None,
    random_start: bool = False,
    targets: np.ndarray | Array | None = None,
    example_ids: np.ndarray | Array | None = None,
    progress: Callable[[int, int, float], None] | None = None,
) -> UniversalResult:
    """Crafts one perturbation that raises the loss of a whole dataset.

    max_{||delta|| <= epsilon} mean_i min(L(f(clip(x_i + delta)), y_i), loss_clip), by steps
    delta <- P(delta + step_size d(g)) over shuffled batches, where g is the gradient of the batch's
    mean and d its sign (l-inf) or g / ||g|| (l2). With targets the mean loss of the targets is
    lowered instead, unclipped (it is bounded already). The result does not depend on the order
    in which the examples are stored.

    Args:
        logits_fn: images -> logits (B, K). With `Partial(model.apply, variables)` new weights do
            not compile again.
        key: one key, for the order of the examples and the start.
        images: (N, H, W, C) uint8, or floating in [0, 1]; may stay on the host.
        labels: (N,) integers.
        epsilon: radius of the ball, in pixel units.
        norm: `"linf"` or `"l2"`.
        num_epochs: passes over the dataset.
        batch_size: examples of a step; the last batch of an epoch may have fewer.
        step_size: in pixel units; None: epsilon / 4.
        loss_clip: an example whose loss is above stops counting; None: none does.
        random_start: whether delta begins at a random point of the ball, not at 0.
        targets: (N,) integers, the class that each image is to be taken for.
        example_ids: (N,) integers; None: the row numbers.
        progress: called after each epoch with epochs done, epochs in all and the epoch's loss.

    Returns:
        The perturbation and the loss of each epoch.

    Raises:
        ValueError: for wrong shapes or values.

    Source:
        Shafahi et al. 2020, arXiv:1811.11304, algorithm 2.
    """
    images, labels = _as_arrays(images, labels)
    num_classes = _check_dataset(logits_fn, images, labels)
    classes = labels if targets is None else np.asarray(targets)
    _check_options(norm, epsilon, step_size, loss_clip, num_epochs, batch_size)
    check_labels(classes, num_examples=len(images), num_classes=num_classes, field="targets")
    ids = np.arange(len(images)) if example_ids is None else np.asarray(example_ids)
    check_labels(ids, num_examples=len(images), num_classes=2**31, field="example_ids")
    batch_size = min(batch_size, len(images))
    ascend = _ascend_weights if isinstance(logits_fn, Partial) else _ascend_function
    delta = jnp.zeros(images.shape[1:], jnp.float32)
    if random_start:
        delta = sample(prng.named(key, "start")[None], images.shape[1:], epsilon, norm)[0]
    limit = np.inf if loss_clip is None or targets is not None else loss_clip
    sign = 1.0 if targets is None else -1.0
    sizes = (epsilon, epsilon / 4 if step_size is None else step_size, limit, sign)
    losses = []
    for epoch in range(num_epochs):
        totals = []
        for rows, mask in _batches(_epoch_order(key, ids, epoch), batch_size):
            delta, total = ascend(norm, logits_fn, delta, images[rows], classes[rows], mask, sizes)
            totals.append(total)
        losses.append(float(np.sum(jax.device_get(totals))) / len(images))
        if progress is not None:
            progress(epoch + 1, num_epochs, losses[-1])
    return UniversalResult(delta, np.asarray(losses))


def evaluate_universal(
    logits_fn: LogitsFn,
    images: np.ndarray | Array,
    labels: np.ndarray | Array,
    delta: Array,
    *,
    batch_size: int = 256,
) -> UniversalEvaluation:
    """Measures a perturbation on a dataset, every example once.

    Args:
        logits_fn: images -> logits (B, K).
        images: (N, H, W, C) uint8, or floating in [0, 1]; may stay on the host.
        labels: (N,) integers.
        delta: (H, W, C), in pixel units.
        batch_size: images classified at once.

    Returns:
        Predictions with and without the perturbation, and what follows from them.

    Raises:
        ValueError: for wrong shapes or values.
    """
    images, labels = _as_arrays(images, labels)
    num_classes = _check_dataset(logits_fn, images, labels)
    checks.integer("batch_size", batch_size, low=1)
    if delta.shape != images.shape[1:]:
        raise ValueError(
            f"delta has shape {delta.shape}; it must be {images.shape[1:]}, one image's"
        )
    classify = _classify_weights if isinstance(logits_fn, Partial) else _classify_function
    both = []
    for rows, mask in _batches(np.arange(len(images)), min(batch_size, len(images))):
        clean, perturbed = jax.device_get(classify(logits_fn, images[rows], delta))
        both.append(np.stack([clean, perturbed])[:, mask])
    clean, perturbed = np.concatenate(both, axis=1)
    correct = perturbed == labels
    return UniversalEvaluation(
        predictions=perturbed,
        clean_predictions=clean,
        fooling_rate=float(np.mean(perturbed != clean)),
        accuracy=float(np.mean(correct)),
        clean_accuracy=float(np.mean(clean == labels)),
        class_counts=np.bincount(labels, minlength=num_classes),
        class_correct=np.bincount(labels[correct], minlength=num_classes),
    )


def _ascend(
    norm: str,
    logits_fn: LogitsFn,
    delta: Array,
    images: Array,
    classes: Array,
    mask: Array,
    sizes: tuple[Array, Array, Array, Array],
) -> tuple[Array, Array]:
    """Returns delta after one step, and the sum of the losses that it climbed."""
    epsilon, step_size, limit, sign = sizes
    logits_fn = loop_safe(logits_fn)

    def total(delta: Array) -> Array:
        logits = logits_fn(apply_universal(images, delta)).astype(jnp.float32)
        losses = jnp.minimum(sign * cross_entropy(logits, classes), limit)
        return jnp.sum(jnp.where(mask, losses, 0.0))

    loss, gradient = jax.value_and_grad(total)(delta)
    # Its scale is of no account: neither the sign nor g / ||g|| sees the batch's size.
    moved = delta[None] + step_size * steepest(gradient[None], norm)
    return project(moved, epsilon, norm)[0], loss


def _classify(logits_fn: LogitsFn, images: Array, delta: Array) -> tuple[Array, Array]:
    """Returns the classes of the images as they are and perturbed."""
    logits_fn = loop_safe(logits_fn)
    clean = jnp.argmax(logits_fn(to_float(images)), axis=-1)
    perturbed = jnp.argmax(logits_fn(apply_universal(images, delta)), axis=-1)
    return clean.astype(jnp.int32), perturbed.astype(jnp.int32)


_ascend_weights = jax.jit(_ascend, static_argnums=0)
_ascend_function = jax.jit(_ascend, static_argnums=(0, 1))
_classify_weights = jax.jit(_classify)
_classify_function = jax.jit(_classify, static_argnums=0)


@jax.jit
def _order_numbers(key: Key, example_ids: Array, epoch: Array) -> Array:
    keys = prng.per_draw(prng.per_example(prng.named(key, "order"), example_ids), epoch)
    return jax.vmap(jax.random.bits)(keys)


def _epoch_order(key: Key, example_ids: np.ndarray, epoch: int) -> np.ndarray:
    """Returns the rows in an order that follows from the examples' ids, not from their rows."""
    numbers = np.asarray(_order_numbers(key, example_ids, epoch))
    return np.lexsort((example_ids, numbers))


def _batches(rows: np.ndarray, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields (batch_size,) rows and which of them count; the last batch repeats its last row."""
    for start in range(0, len(rows), batch_size):
        block = rows[start : start + batch_size]
        missing = batch_size - len(block)
        yield np.pad(block, (0, missing), mode="edge"), np.arange(batch_size) < len(block)


def _as_arrays(images: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(images), np.asarray(labels)


def _check_dataset(logits_fn: LogitsFn, images: np.ndarray, labels: np.ndarray) -> int:
    """Returns the number of classes; raises a ValueError for what is wrong with a dataset."""
    check_images(images)
    if len(images) == 0:
        raise ValueError("images holds no image; there must be at least one")
    one = jax.ShapeDtypeStruct((1, *images.shape[1:]), jnp.float32)
    num_classes = logits_shape(logits_fn, one)[-1]
    check_labels(labels, num_examples=len(images), num_classes=num_classes)
    return num_classes


def _check_options(
    norm: str,
    epsilon: float,
    step_size: float | None,
    loss_clip: float | None,
    num_epochs: int,
    batch_size: int,
) -> None:
    lookup(NORMS, norm, what="norm")
    check_size("epsilon", epsilon, norm)
    if step_size is not None:
        check_size("step_size", step_size, norm)
    if loss_clip is not None:
        checks.real("loss_clip", loss_clip, low=0.0)
    checks.integer("num_epochs", num_epochs, low=1)
    checks.integer("batch_size", batch_size, low=1)
