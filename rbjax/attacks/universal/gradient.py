"""One perturbation for all images, or one a class, by steps along the gradient of the mean loss.

The drivers loop on the host over batches of one size and call a compiled step, so that a dataset of
any size fits; each batch is split over the devices, and padded with rows that count for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rbjax import prng
from rbjax.attacks.l1 import movable
from rbjax.attacks.norms import Inside, check_size, climb, project, sample
from rbjax.attacks.outcome import Setting, counted
from rbjax.attacks.universal.crafted import ClasswiseResult, UniversalResult
from rbjax.attacks.universal.evaluation import room_of
from rbjax.black_box import raised_here
from rbjax.blocks import Blocks, Examples, Placement, check_examples, cut
from rbjax.captures import Compiled
from rbjax.classifier import Classifier, Model, as_classifier, finite
from rbjax.inputs import RANGE_TOLERANCE, check_labels, to_float
from rbjax.losses.adversarial import cross_entropy
from rbjax.options import Count, Epsilon, Norm, Positive, StepSize, checked
from rbjax.progress import Progress, ShowProgress, Tell, teller
from rbjax.typing import Array, Key


@checked
def craft_universal(
    logits_fn: Model,
    key: Key,
    images: np.ndarray | Array,
    labels: np.ndarray | Array,
    *,
    epsilon: Epsilon,
    norm: Norm = "linf",
    num_epochs: Count | None = None,
    batch_size: Count = 128,
    step_size: StepSize | None = None,
    loss_clip: Positive | None = None,
    random_start: bool = False,
    targets: np.ndarray | Array | None = None,
    example_ids: np.ndarray | Array | None = None,
    devices: Sequence[Any] | None = None,
    progress: ShowProgress = None,
) -> UniversalResult:
    """Crafts one perturbation that raises the loss of a whole dataset.

    max_{||delta|| <= epsilon} mean_i min(L(f(clip(x_i + delta)), y_i), loss_clip), by steps
    delta <- P(delta + step_size d(g)) over shuffled batches, where g is the gradient of the batch's
    mean and d its sign (l-inf) or g / ||g|| (l2). With targets the mean loss of the targets is
    lowered instead, unclipped (it is bounded already). The result does not depend on the order
    in which the examples are stored, and on the number of devices only up to rounding.

    In l-inf g is taken at the clipped image, which made stronger perturbations than through the
    clip (of two networks on MNIST, 86.5 and 97.0 % of the images withstand 0.1, not 89.4 and 97.3);
    in l2 through the clip (83.5 and 93.2 % withstand 2, not 87.8 and 94.5). In l1 pixels that would
    leave [0, 1] do not count, and P is the projection on the ball and what the images have room
    for; a step is as of `pgd`. The table is in experiments/universal/results.md.

    Args:
        logits_fn: images -> logits (B, K). With `Partial(model.apply, variables)` new weights do
            not compile again.
        key: one key, for the order of the examples and the start.
        images: (N, H, W, C) uint8, or floating in [0, 1]; read batch by batch.
        labels: (N,) integers.
        epsilon: radius of the ball, in pixel units.
        norm: `"linf"`, `"l2"` or `"l1"`.
        num_epochs: passes over the dataset; None: 10, or as many as make 200 steps where 10 make
            fewer (a linear model of ten classes is attacked no better after 60).
        batch_size: examples of a step; the last batch of an epoch may have fewer.
        step_size: in pixel units; None: epsilon / 4.
        loss_clip: an example whose loss is above stops counting; None: none does.
        random_start: whether delta begins at a random point of the ball, not at 0.
        targets: (N,) integers, the class that each image is to be taken for.
        example_ids: (N,) integers; None: the row numbers.
        devices: the `jax.Device`s to use; None: all; several processes share the work.
        progress: shown if True; a function is called after each epoch, with its "loss".

    Returns:
        The perturbation and the loss of each epoch.

    Raises:
        ValueError: for wrong shapes or values.

    Source:
        Shafahi et al. 2020, arXiv:1811.11304, algorithm 2.

    Example:
        >>> images = np.array([0.2, 0.4, 0.9], np.float32).reshape(3, 1, 1, 1)  # of one pixel
        >>> labels = np.array([0, 0, 1])  # bright or not
        >>> def bright(x):
        ...     return jnp.stack([0.5 - x[:, 0, 0, 0], x[:, 0, 0, 0] - 0.5], axis=1)
        ...
        >>> found = rbjax.attacks.craft_universal(
        ...     bright, jax.random.key(0), images, labels, epsilon=0.2, num_epochs=5
        ... )
        >>> found.delta.ravel()  # brighter: there are more dark images
        Array([0.2], dtype=float32)
    """
    ascent = _Ascent(norm, epsilon, num_epochs or 0, step_size, loss_clip, random_start, batch_size)
    key, model = prng.check(key), as_classifier(logits_fn)
    data = _check(ascent, model, images, labels, targets, example_ids)
    ascent = _sized(ascent, len(data.classes))
    rows, placement = np.arange(len(data.classes)), _placement(devices)
    model = model.placed(placement.whole)
    return _climb(ascent, placement, model, key, data, rows, teller(progress) or (lambda _: None))


@checked
def craft_universal_classwise(
    logits_fn: Model,
    key: Key,
    images: np.ndarray | Array,
    labels: np.ndarray | Array,
    *,
    epsilon: Epsilon,
    norm: Norm = "linf",
    num_epochs: Count | None = None,
    batch_size: Count = 128,
    step_size: StepSize | None = None,
    loss_clip: Positive | None = None,
    random_start: bool = False,
    targets: np.ndarray | Array | None = None,
    example_ids: np.ndarray | Array | None = None,
    devices: Sequence[Any] | None = None,
    progress: ShowProgress = None,
) -> ClasswiseResult:
    """Crafts one perturbation a class, each on the images of its class alone.

    delta_c = `craft_universal(logits_fn, fold_in(key, c), images[labels == c], ...).delta`: what a
    class loses to a perturbation that need not serve the others.

    Args:
        logits_fn: as for `craft_universal`, as are all others.
        key: one key.
        images: (N, H, W, C) uint8, or floating in [0, 1]; read batch by batch.
        labels: (N,) integers.
        epsilon: radius of each ball, in pixel units.
        norm: `"linf"`, `"l2"` or `"l1"`.
        num_epochs: passes over each class; None: 10, or as many as make 200 steps of the largest.
        batch_size: examples of a step.
        step_size: in pixel units; None: epsilon / 4.
        loss_clip: an example whose loss is above stops counting; None: none does.
        random_start: whether each begins at a random point of the ball, not at 0.
        targets: (N,) integers, the class that each image is to be taken for.
        example_ids: (N,) integers; None: the row numbers.
        devices: the `jax.Device`s to use; None: all; several processes share the work.
        progress: shown if True; a function is called after each epoch of each class, with
            its "loss".

    Returns:
        The perturbations and the losses.

    Raises:
        ValueError: for wrong shapes or values.

    Source:
        Benz et al. 2021, "Universal Adversarial Training with Class-Wise Perturbations", ICME: a
        perturbation a class, each with the steps of Shafahi et al.

    Example:
        >>> images = np.array([0.2, 0.4, 0.9], np.float32).reshape(3, 1, 1, 1)  # of one pixel
        >>> labels = np.array([0, 0, 1])  # bright or not
        >>> def bright(x):
        ...     return jnp.stack([0.5 - x[:, 0, 0, 0], x[:, 0, 0, 0] - 0.5], axis=1)
        ...
        >>> found = rbjax.attacks.craft_universal_classwise(
        ...     bright, jax.random.key(0), images, labels, epsilon=0.2, num_epochs=5
        ... )
        >>> found.delta.ravel()  # dark images brighter, bright ones darker
        Array([ 0.2, -0.2], dtype=float32)
    """
    ascent = _Ascent(norm, epsilon, num_epochs or 0, step_size, loss_clip, random_start, batch_size)
    key, model = prng.check(key), as_classifier(logits_fn)
    data = _check(ascent, model, images, labels, targets, example_ids)
    labels, num_classes = data.examples.labels, data.examples.num_classes
    counts = np.bincount(labels, minlength=num_classes)
    # One size for all classes, so that the step compiles once.
    ascent = _sized(ascent, int(counts.max()))
    placement, present = _placement(devices), np.flatnonzero(counts)
    model = model.placed(placement.whole)
    told = teller(progress)
    deltas = np.zeros((num_classes, *data.examples.images.shape[1:]), np.float32)
    losses = np.full((num_classes, ascent.num_epochs), np.nan)
    for i, label in enumerate(present.tolist()):
        rows = np.flatnonzero(labels == label)

        def tell(state: Progress, before: int = i) -> None:
            if told is not None:
                done, of = before * state.of + state.done, len(present) * state.of
                told(state._replace(done=done, of=of))

        own_key = prng.fold_in(key, label)
        climbed = _climb(ascent, placement, model, own_key, data, rows, tell)
        deltas[label], losses[label] = climbed.delta, climbed.loss
    passes = ascent.num_epochs * len(data.examples.labels)
    made: Any = {"forwards": passes, "backwards": passes, "setting": ascent.setting}
    return ClasswiseResult(jnp.asarray(deltas), losses, **made)


def _placement(devices: Sequence[Any] | None) -> Placement:
    """Returns where batches go: with several processes, over the devices of all of them."""
    return Placement(jax.devices() if devices is None else devices)


class _Ascent(NamedTuple):
    """The options of `craft_universal`."""

    norm: str
    epsilon: float
    num_epochs: int
    """0 until the number of images is known, where the caller names none."""
    step_size: float | None
    loss_clip: float | None
    random_start: bool
    batch_size: int

    @property
    def setting(self) -> Setting:
        """What stands in the heading of a table."""
        return Setting(self.norm, self.epsilon, counted("num_epochs", self.num_epochs))


def _sized(ascent: _Ascent, num_images: int) -> _Ascent:
    """Returns the options with a batch of at most all images, and with enough epochs of them."""
    epochs = count_epochs(ascent.num_epochs, num_images, ascent.batch_size)
    return ascent._replace(batch_size=min(ascent.batch_size, num_images), num_epochs=epochs)


def count_epochs(num_epochs: int | None, num_images: int, batch_size: int) -> int:
    """Returns how often images are gone through: as asked, or 10 times and 200 steps at least.

    Args:
        num_epochs: as asked; None or 0: nothing is.
        num_images: of the only class, or of the largest.
        batch_size: of a step.
    """
    steps_per_epoch = -(-num_images // min(batch_size, num_images))
    return num_epochs or max(10, -(-200 // steps_per_epoch))


class _Data(NamedTuple):
    """What delta is crafted on."""

    examples: Examples
    classes: np.ndarray
    """(N,) the labels, or the targets."""
    targeted: bool


def _climb(
    ascent: _Ascent,
    placement: Placement,
    model: Classifier,
    key: Key,
    data: _Data,
    rows: np.ndarray,
    progress: Tell,
) -> UniversalResult:
    """Crafts one perturbation on some rows of the data."""
    norm, epsilon, examples = ascent.norm, ascent.epsilon, data.examples
    shape, num_devices = examples.images.shape[1:], len(placement.devices)
    delta = jnp.zeros(shape, jnp.float32)
    room = room_of(examples, rows) if norm == "l1" else None
    if ascent.random_start:
        delta = sample(prng.named(key, "start")[None], shape, epsilon, norm)[0]
        if room is not None:
            delta = project(delta[None], epsilon, norm, room=room)[0]
    step_size = epsilon / 4 if ascent.step_size is None else ascent.step_size
    limit = np.inf if ascent.loss_clip is None or data.targeted else ascent.loss_clip
    sizes = (epsilon, step_size, limit, -1.0 if data.targeted else 1.0)
    how, room = (norm, SLOPE_OF[norm]), placement.replicate(room)
    blocks = Blocks(examples, placement, ascent.batch_size)
    losses, stream = [], prng.named(key, "model")
    for epoch in range(ascent.num_epochs):
        totals = []
        order = rows[epoch_order(key, examples.example_ids[rows], epoch)]
        with raised_here():
            for block in cut(order, ascent.batch_size, multiple_of=num_devices):
                ids = examples.example_ids[block.padded]
                mask = np.arange(block.size) < len(block.rows)
                batch = (ids, blocks.read(block), data.classes[block.padded], mask)
                delta, step_key = placement.replicate((delta, prng.fold_in(stream, epoch)))
                batch = placement.split(batch)
                delta, total = _ascend(how, model, step_key, delta, *batch, sizes, room)
                totals.append(total)
            losses.append(float(np.sum(jax.device_get(totals))) / len(rows))
        progress(Progress("", epoch + 1, ascent.num_epochs, {"loss": losses[-1]}))
    passes = ascent.num_epochs * len(rows)
    return UniversalResult(
        jnp.asarray(jax.device_get(delta)),
        np.asarray(losses),
        forwards=passes,
        backwards=passes,
        setting=ascent.setting,
    )


@jax.jit
def _order_numbers(key: Key, example_ids: Array, epoch: Array) -> Array:
    keys = prng.per_draw(prng.per_example(prng.named(key, "order"), example_ids), epoch)
    return jax.vmap(prng.bits)(keys)


def epoch_order(key: Key, example_ids: np.ndarray, epoch: int) -> np.ndarray:
    """Returns the rows in an order that follows from the examples' ids, not from their rows."""
    numbers = np.asarray(_order_numbers(key, example_ids, epoch))
    return np.lexsort((example_ids, numbers))


def _through(gradients: Array, moved: Array) -> Array:
    """Returns the gradients through the clip: 0 where it cuts, and half of them at the edge."""
    return jax.vjp(lambda x: jnp.clip(x, 0.0, 1.0), moved)[1](gradients)[0]


SLOPES: dict[str, Callable[[Array, Array], Array]] = {
    "through": _through,
    "at": lambda gradients, moved: gradients,
    "movable": movable,
}
"""(gradients at the clipped images, images + delta), both (B, H, W, C) -> what counts of them for
delta: as the clip is differentiated; all, as if there were no clip; or but where a pixel that is at
the edge would go on outwards."""

SLOPE_OF = {"linf": "at", "l2": "through", "l1": "movable"}
"""What is strongest in each norm: experiments/universal/results.md."""


def _step(
    how: tuple[str, str],
    model: Classifier,
    key: Key,
    delta: Array,
    ids: Array,
    images: Array,
    classes: Array,
    mask: Array,
    sizes: tuple[Array, Array, Array, Array],
    room: tuple[Array, Array] | None,
) -> tuple[Array, Array]:
    """Returns delta after one step, and the sum of the losses that it climbed."""
    (norm, slope), (epsilon, step_size, limit, sign) = how, sizes
    model, keys = model.in_loops(), prng.per_example(key, ids)

    def total(perturbed: Array) -> Array:
        losses = sign * cross_entropy(model.logits(keys, perturbed), classes)
        return jnp.sum(jnp.where(mask, jnp.minimum(losses, limit), 0.0))

    moved = to_float(images) + delta
    loss, gradients = jax.value_and_grad(total)(jnp.clip(moved, 0.0, 1.0))
    gradients = finite(gradients)  # image by image, so that a NaN does not spoil the others'
    slopes = SLOPES[slope](gradients, moved)
    # A pixel at the edge still moves inwards, one beyond it does not.
    inwards = jnp.where(jnp.abs(moved - 0.5) > 0.5 + RANGE_TOLERANCE, 0.0, gradients)
    gradient, back = (jnp.sum(x, axis=0)[None] for x in (slopes, inwards))
    # Its scale is of no account: neither the sign nor g / ||g|| sees the batch's size.
    inside = None if room is None else Inside(delta, epsilon, *room)
    ahead = delta[None] + climb(gradient, step_size, norm, inside, back=back)
    return project(ahead, epsilon, norm, room=room)[0], loss


_ascend = Compiled(jax.jit(_step, static_argnums=0))


def _check(
    ascent: _Ascent,
    model: Classifier,
    images: Any,
    labels: Any,
    targets: np.ndarray | Array | None,
    example_ids: np.ndarray | Array | None,
) -> _Data:
    """Returns the data; raises a ValueError for what is wrong."""
    examples = check_examples(
        images,
        labels,
        count_classes=model.count_classes,
        example_ids=example_ids,
    )
    check_size("epsilon", ascent.epsilon, ascent.norm)
    if ascent.step_size is not None:
        check_size("step_size", ascent.step_size, ascent.norm)
    if targets is None:
        return _Data(examples, examples.labels, False)
    classes = check_labels(
        np.asarray(targets),
        num_examples=len(examples.labels),
        num_classes=examples.num_classes,
        field="targets",
    )
    return _Data(examples, classes, True)
