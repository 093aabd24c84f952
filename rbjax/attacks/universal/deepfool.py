"""One perturbation for all images, added up of the DeepFool steps of one image after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from rbjax import prng
from rbjax.attacks.attack import Problem
from rbjax.attacks.deepfool import DeepFoolPlan, to_candidates, walk
from rbjax.attacks.norms import check_size, project
from rbjax.attacks.outcome import Setting, counted
from rbjax.attacks.universal.crafted import UniversalDeepFoolResult
from rbjax.attacks.universal.evaluation import apply_universal, judge, room_of
from rbjax.attacks.universal.gradient import epoch_order
from rbjax.black_box import raised_here
from rbjax.blocks import Blocks, Placement, block_size, check_examples, cut
from rbjax.captures import Compiled
from rbjax.classifier import Classifier, Model, as_classifier, changed
from rbjax.inputs import NO_CLASS
from rbjax.options import MOST, Count, Epsilon, Norm, NotNegative, Range, Share, checked
from rbjax.progress import Progress, ShowProgress, teller
from rbjax.typing import Array, Key

_BLOCK = 256
"""Images that one compiled call visits, one after another."""

_FOOLED = -2
"""In place of a class for rows that count as fooled already: those that only pad a block, and
images of no class."""


@checked
def craft_universal_deepfool(
    logits_fn: Model,
    key: Key,
    images: np.ndarray | Array,
    *,
    epsilon: Epsilon,
    norm: Norm = "linf",
    fooling_rate: Share = 0.8,
    max_passes: Count = 10,
    num_candidates: Annotated[int, Range(low=2, high=MOST)] = 10,
    overshoot: NotNegative = 0.02,
    deepfool_steps: Count = 10,
    batch_size: Count = 256,
    example_ids: np.ndarray | Array | None = None,
    devices: Sequence[Any] | None = None,
    progress: ShowProgress = None,
) -> UniversalDeepFoolResult:
    """Crafts one perturbation that changes the class of most images of a dataset.

    In each pass over the shuffled images, an image that v does not fool yet,
    k(clip(x + v)) = k(x), moves it by its own shortest way out: v <- P(v + d) with d DeepFool's
    perturbation of clip(x + v), in l2, and P the projection to the ball; then the share of images
    that v fools is measured, and the passes end when it is `fooling_rate`, or when no image moved
    v. No label is needed: an image is fooled when its class changes. The result does not depend on
    the order in which the examples are stored.

    Args:
        logits_fn: images -> logits (B, K). With `Partial(model.apply, variables)` new weights do
            not compile again.
        key: one key, for the order of the examples.
        images: (N, H, W, C) uint8, or floating in [0, 1]; read block by block.
        epsilon: radius of the ball, in pixel units.
        norm: `"linf"`, `"l2"` or `"l1"`, of the ball alone.
        fooling_rate: the share to be fooled, in [0, 1].
        max_passes: the most passes over the dataset.
        num_candidates: classes whose boundaries are looked at, as for `deepfool`.
        overshoot: by how much the way to the boundary is lengthened, as a share.
        deepfool_steps: the most steps of DeepFool for one image; one that is not fooled by then
            leaves v as it is.
        batch_size: images classified at once when the share is measured.
        example_ids: (N,) integers; None: the row numbers.
        devices: the `jax.Device`s to classify on; None: all local ones. Images move the
            perturbation one after another, on the first of them.
        progress: shown if True; a function is called after each pass, with the share that
            is "fooled".

    Returns:
        The perturbation and the share that each pass reached.

    Raises:
        ValueError: for wrong shapes or values.

    Source:
        Moosavi-Dezfooli et al. 2017, arXiv:1610.08401, algorithm 1. Theirs adds v without clipping
        to [0, 1]; here, as in `evaluate_universal`, what is classified is an image that can exist.
        Theirs returns the v of the last pass, but the share may fall from one pass to the next.
        Their code leaves out an image that DeepFool fools with the last of its steps, here it is
        left out if it is not fooled at all; and it has no largest number of passes.

    Example:
        >>> images = np.array([0.2, 0.4, 0.9], np.float32).reshape(3, 1, 1, 1)  # of one pixel
        >>> labels = np.array([0, 0, 1])  # bright or not
        >>> def bright(x):
        ...     return jnp.stack([0.5 - x[:, 0, 0, 0], x[:, 0, 0, 0] - 0.5], axis=1)
        ...
        >>> found = rbjax.attacks.craft_universal_deepfool(
        ...     bright, jax.random.key(0), images[:2],
        ...     epsilon=0.4, fooling_rate=0.9, num_candidates=2,
        ... )
        >>> bool(found.delta.ravel()[0] > 0.3), float(found.fooling_rate[-1])
        (True, 1.0)
    """
    key = prng.check(key)
    model = as_classifier(logits_fn)
    examples = check_examples(
        images,
        np.zeros(len(images), np.int32),
        count_classes=model.count_classes,
        example_ids=example_ids,
    )
    check_size("epsilon", epsilon, norm)
    tell = teller(progress)
    plan = DeepFoolPlan("l2", deepfool_steps, num_candidates, overshoot)
    placement, num_examples = Placement(devices), len(examples.labels)
    blocks = Blocks(examples, placement, block_size(num_examples, batch_size, placement))
    model_of_first, model = model.placed(placement.devices[0]), model.placed(placement.whole)
    delta = best = np.zeros(examples.images.shape[1:], np.float32)
    room = room_of(examples, np.arange(num_examples)) if norm == "l1" else None
    clean, _ = judge(blocks, model, delta, key)
    rates, moves, num_steps = [], [], 0
    for number in range(max_passes):
        counts = []
        order = epoch_order(key, examples.example_ids, number)
        with raised_here():
            for block in cut(order, min(_BLOCK, num_examples)):
                is_padding = np.arange(block.size) >= len(block.rows)
                references = clean[block.padded]
                references = np.where(is_padding | (references == NO_CLASS), _FOOLED, references)
                batch = block.fill(examples.read(block.rows)), references
                delta, *count = _visit(plan, norm, model_of_first, delta, *batch, epsilon, room)
                counts.append(count)
            moved, stepped = np.sum(jax.device_get(counts), axis=0)
            moves.append(int(moved))
            num_steps += int(stepped)
            delta = jax.device_get(delta)
        perturbed, _ = judge(blocks, model, delta, key)
        rates.append(float(np.mean(changed(perturbed, clean))))
        best = delta if rates[-1] >= max(rates) else best
        if tell is not None:
            tell(Progress("", number + 1, max_passes, {"fooled": rates[-1]}))
        if rates[-1] >= fooling_rate or moves[-1] == 0:
            break
    # A visit looks once, and a step at where it is and at where it leads; with v = 0 and after each
    # pass all images are classified.
    return UniversalDeepFoolResult(
        delta=jnp.asarray(best),
        fooling_rate=np.asarray(rates),
        num_moves=np.asarray(moves),
        forwards=(2 * len(rates) + 1) * num_examples + 2 * num_steps,
        backwards=num_steps * (min(num_candidates, examples.num_classes) - 1),
        setting=Setting(norm, epsilon, counted("max_passes", len(rates))),
    )


def _visit_block(
    plan: DeepFoolPlan,
    norm: str,
    model: Classifier,
    delta: Array,
    images: Array,
    references: Array,
    epsilon: Array,
    room: tuple[Array, Array] | None,
) -> tuple[Array, Array, Array]:
    """Returns the perturbation after a block of images, how many of them moved it, and the steps.

    Args:
        plan: of the walk.
        norm: of the ball.
        model: the classifier.
        delta: (H, W, C).
        images: (S, H, W, C) uint8, or floating in [0, 1].
        references: (S,) the classes of the images as they are.
        epsilon: radius of the ball.
        room: what the box leaves, in l1; see `project`.
    """
    classifier = model.asked_about(jnp.zeros((1, *delta.shape), jnp.float32))
    # Each image is met with the same draws, and a walk reads neither sizes nor an objective.
    keys, unused = prng.split(prng.key(0), 1), jnp.zeros(1, jnp.float32)

    def visit(delta: Array, row: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        image, reference = row
        start, label = apply_universal(image, delta)[None], reference[None]
        logits = classifier.logits(keys, start)
        planes = to_candidates(logits, label, plan.num_candidates)
        problem = Problem(classifier, keys, start, label, None, unused, unused, lambda z: z[:, 0])
        # Where v fools already the walk has no step, and costs the pass forwards alone.
        walked = walk(plan, problem, logits, planes)
        moved = project(delta[None] + walked.images - start, epsilon, norm, room=room)[0]
        moved = jnp.where(walked.fooled[0] & (walked.number > 0), moved, delta)
        return moved, (jnp.any(moved != delta), walked.number)

    delta, (moves, steps) = jax.lax.scan(visit, delta, (images, references))
    return delta, jnp.sum(moves), jnp.sum(steps)


_visit = Compiled(jax.jit(_visit_block, static_argnums=(0, 1)))
