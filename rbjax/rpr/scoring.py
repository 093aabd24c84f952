"""RPR of every image of a dataset: how many random perturbations a model withstands."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import jax
import numpy as np

from rbjax import journal as journals
from rbjax import prng
from rbjax.black_box import BlackBox
from rbjax.blocks import Block, Placement, check_examples, cut, map_blocks, settled
from rbjax.classifier import Model, as_classifier
from rbjax.inputs import ANY_NUMBER, check_integer
from rbjax.options import named
from rbjax.progress import Progress, ShowProgress, Tell, teller
from rbjax.rpr.lanes import (
    FEWEST_LANES,
    Draws,
    FirstFailures,
    OnDevices,
    Work,
    deal,
    score_block,
)
from rbjax.rpr.on_host import OnHost
from rbjax.rpr.scores import Scores, called
from rbjax.rpr.survival import Flattening
from rbjax.typing import Array, Key, Perturbation

MOST_STEPS = 10**9
"""Draws are counted in int32."""
_IMAGES_PER_LANE = 4
"""The queue of a lane, at least: fewer waste passes at its end, more make batches too small."""
_LANES = {"cpu": 256}
_BLOCK_SIZES = {"cpu": 4096}
_MORE_LANES, _LARGER_BLOCK = 4096, 65536
"""Of every platform but the CPU."""
_BYTES_PER_BLOCK = 2**28
"""Of each device, at most."""

Report = Callable[[int, int, int], None]
"""(images finished, those that withstood every draw, forward passes run) so far."""


class ImageSource(Protocol):
    """Images that are read block by block: a memory map, or whatever is indexed as numpy is."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, C)."""
        ...

    @property
    def dtype(self) -> Any:
        """uint8, or floating."""
        ...

    def __len__(self) -> int:
        """Returns N."""
        ...

    def __getitem__(self, rows: Any, /) -> Any:
        """Returns the images of a slice, or of ascending row numbers."""
        ...


@named
def score(
    logits_fn: Model,
    key: Key,
    images: np.ndarray | Array | ImageSource,
    labels: np.ndarray | Array,
    *,
    max_steps: int,
    perturbation: Perturbation,
    stop: Flattening | None = None,
    example_ids: np.ndarray | Array | None = None,
    batch_size: int | None = None,
    block_size: int | None = None,
    devices: Sequence[Any] | None = None,
    journal: str | Path | None = None,
    progress: ShowProgress = None,
) -> Scores:
    """Scores every image: the first of at most `max_steps` random perturbations that fools.

    N_i = min{t : argmax f(R(x_i; key_it)) != y_i}, key_it = fold_in(fold_in(key, id_i), t), and
    RPR_i = min(N_i, max_steps). The perturbations are always of the original image, and clipped to
    [0, 1]; one that holds a NaN fails, as does an answer of the model that does. The result
    depends on neither the batch size, the number of devices nor the order of the images, up to
    what float32 logits move with the shape of a batch (about 1e-6, so only for ties).

    Images are read and scored block by block: a memory map of any length takes the memory of one
    block, and memory does not grow with `max_steps`. They stay in their own dtype (give uint8 where
    you have it). The same logits function and perturbation compile once per lane count. With
    several processes (`jax.distributed`) blocks are dealt to them, each is given all images, and
    each returns all scores.

    Args:
        logits_fn: images -> logits (B, K), a randomised classifier (`attacks.randomized`; its draws
            are other ones for each perturbation), or a model on the host from `rpr.black_box`. With
            `Partial(model.apply, variables)` new weights do not compile again.
        key: one key.
        images: (N, H, W, C) uint8, or floating in [0, 1]; an array, a memory map, or whatever is
            indexed by a slice or by row numbers.
        labels: (N,) integers, the true classes.
        max_steps: draws of an image at most (MAX_STEPS of the paper).
        perturbation: (key, image (H, W, C)) -> image, as `rbjax.perturbations` makes them.
        stop: ends the draws of all images where the survival curve is flat; None: at `max_steps`.
        example_ids: (N,) integers; None: the row numbers.
        batch_size: images that a device classifies at once, at most: few images get fewer lanes,
            or many would idle at the end; None: 256 on CPU and 4,096 elsewhere.
        block_size: images read at once; None: 4,096 a device on CPU, 65,536 elsewhere, and 256 MiB
            at most.
        devices: the `jax.Device`s to use; None: all local ones.
        journal: a folder in which finished blocks are kept, and every few seconds where the present
            one stands. Repeat the call with the same folder to resume; the scores are those of an
            uninterrupted call, and another call is refused. A black box is known by its answers to
            a few of the images, a function by what it computes of them.
        progress: shown if True; a function is called now and then; its figures are the
            "survivors", images that no draw has fooled yet, and the forward "passes" run; see
            `progress_bar`.

    Returns:
        The scores.

    Raises:
        ValueError: for wrong shapes or values, or another run's journal.

    Source:
        Ilie, Popescu and Stefanescu 2020, "Robustness as Inherent Property of Datapoints", section
        2.1 (P4).

    Example:
        >>> images = np.array([0.2, 0.4, 0.9], np.float32).reshape(3, 1, 1, 1)  # of one pixel
        >>> labels = np.array([0, 0, 1])  # bright or not
        >>> def bright(x):
        ...     return jnp.stack([0.5 - x[:, 0, 0, 0], x[:, 0, 0, 0] - 0.5], axis=1)
        ...
        >>> brighter = lambda key, image: image + 0.2
        >>> scores = rbjax.rpr.score(
        ...     bright, jax.random.key(0), images, labels, max_steps=10, perturbation=brighter
        ... )
        >>> scores.first_failure.tolist(), scores.robust.tolist()
        ([11, 1, 11], [True, False, True])
    """
    check_integer("max_steps", max_steps, low=1, high=MOST_STEPS)
    if stop is not None and not isinstance(stop, Flattening):
        raise ValueError(f"stop is {stop!r}; it must be an rpr.Flattening, or None")
    key = prng.check(key)
    work = prepare(
        logits_fn,
        key,
        images,
        labels,
        perturbation=perturbation,
        example_ids=example_ids,
        batch_size=batch_size,
        block_size=block_size,
        devices=devices,
        journal=journal,
        about={"call": "score", "max_steps": max_steps, "stop": repr(stop)},
    )
    draws = _draw(work, key, max_steps, stop, teller(progress, "RPR"))
    max_steps, first_failure = draws.max_steps, draws.first_failure
    steps = np.minimum(first_failure, max_steps)
    return Scores(
        first_failure=first_failure,
        steps=steps,
        robust=first_failure > max_steps,
        clean_correct=draws.clean_correct,
        max_steps=max_steps,
        forward_passes_run=draws.num_passes,
        forward_passes_needed=int(np.sum(steps, dtype=np.int64)),
        no_class=draws.no_class,
        labels=work.examples.labels,
        num_classes=known_classes(work),
        drawn=called(perturbation),
    )


class _Draws(NamedTuple):
    """The draws of all windows together; fields as in `Scores`."""

    first_failure: np.ndarray
    clean_correct: np.ndarray
    max_steps: int
    num_passes: int
    no_class: np.ndarray


def _draw(
    work: Work, key: Key, max_steps: int, stop: Flattening | None, progress: Tell | None
) -> _Draws:
    """Draws for the images that no draw has fooled yet, until the stop rule or the last draw."""
    num_images, window = len(work.examples.labels), max_steps if stop is None else stop.window
    first_failure = np.zeros(num_images, np.int32)
    clean_correct, num_passes, last = np.zeros(num_images, bool), 0, 0
    no_class = np.zeros(num_images, bool)
    while last < max_steps:
        # A stop rule looks at the survival curve between two windows of draws.
        first, last = last + 1, min(last + window, max_steps)
        rows = np.flatnonzero(first_failure == 0)

        def tell(done: int, robust: int, passes: int, *, last=last, rows=rows, before=num_passes):
            # Those that withstood a window are finished only if it was the last one.
            is_last = last == max_steps
            done = num_images - len(rows) + done - (0 if is_last else robust)
            survivors = num_images - done + (robust if is_last else 0)
            figures = {"survivors": survivors, "passes": before + passes}
            assert progress is not None
            progress(Progress("", done, num_images, figures))

        results = first_failures(
            work,
            key,
            rows,
            Draws(first, last),
            name=f"draws-{first:06d}",
            clean=first == 1,
            report=None if progress is None else tell,
        )
        survived = results.first_failure > last
        first_failure[rows] = np.where(survived, 0, results.first_failure)
        no_class[rows] = results.no_class
        clean_correct = results.clean_correct if first == 1 else clean_correct
        num_passes += results.num_passes
        failures = np.bincount(first_failure, minlength=last + 1)[1:]
        survival = 1.0 - np.cumsum(np.concatenate([[0], failures])) / num_images
        if stop is not None and stop.is_flat(survival):
            break
        if not np.any(survived):
            last = max_steps
    first_failure[first_failure == 0] = last + 1
    return _Draws(first_failure, clean_correct, last, num_passes, no_class)


def first_failures(
    work: Work,
    key: Key,
    rows: np.ndarray,
    draws: Draws,
    *,
    name: str,
    clean: bool,
    report: Report | None,
) -> FirstFailures:
    """Draws for each of some images until one draw fools or the last one has not.

    Blocks are dealt to the processes in turn, and each process gets the results of all.

    Args:
        work: the run.
        key: the base of the draws' keys.
        rows: (M,) the images, ascending.
        draws: of each image.
        name: unlike that of any other call of the run.
        clean: whether to classify the images as they are too.
        report: told how far this process is; None: nobody asks.

    Returns:
        The first failures.
    """
    scored = num_robust = num_passes = 0

    def so_far(failures: np.ndarray, passes: int) -> None:
        assert report is not None
        robust = int(np.sum(failures > draws.last))
        report(scored + int(np.sum(failures != 0)), num_robust + robust, num_passes + passes)

    def finished(block: Block, results: Mapping[str, np.ndarray]) -> None:
        nonlocal scored, num_robust, num_passes
        failures, passes = results["first_failure"], int(results["num_passes"])
        so_far(failures, passes)
        scored, num_passes = scored + len(block.rows), num_passes + passes
        num_robust += int(np.sum(failures > draws.last))

    results = map_blocks(
        functools.partial(score_block, work, key, draws, clean, None if report is None else so_far),
        cut(rows, work.block_size, name=name),
        read=functools.partial(deal, work),
        journal=work.journal,
        fields=FirstFailures._fields,
        finished=None if report is None else finished,
    )
    num_passes = int(np.sum(results.pop("num_passes")))
    return FirstFailures(num_passes=num_passes, **results)


def prepare(
    logits_fn: Model,
    key: Key,
    images: np.ndarray | Array | ImageSource,
    labels: np.ndarray | Array,
    *,
    perturbation: Perturbation,
    example_ids: np.ndarray | Array | None,
    batch_size: int | None,
    block_size: int | None,
    devices: Sequence[Any] | None,
    journal: str | Path | None,
    about: dict[str, Any],
) -> Work:
    """Checks the arguments of `score` and returns the work that they describe.

    Args:
        logits_fn: as all that follow, of `score`.
        key: for the journal only.
        images: (N, H, W, C).
        labels: (N,).
        perturbation: of one image.
        example_ids: (N,).
        batch_size: of a device.
        block_size: of this process.
        devices: to use.
        journal: a folder.
        about: what else the run depends on.

    Returns:
        The work.

    Raises:
        ValueError: for wrong shapes or values, or another run's journal.
    """
    if not callable(perturbation):
        raise ValueError(
            f"perturbation is {perturbation!r}; it must be a function (key, image) -> image, such "
            "as rbjax.perturbations.create(name) makes"
        )
    box = logits_fn if isinstance(logits_fn, BlackBox) else None
    model: Any = box or as_classifier(cast("Model", logits_fn))
    examples = check_examples(
        images,
        labels,
        count_classes=(lambda _: box.num_classes or ANY_NUMBER) if box else model.count_classes,
        example_ids=example_ids,
    )
    for field, size in (("batch_size", batch_size), ("block_size", block_size)):
        if size is not None:
            check_integer(field, size, low=1)
    placement = Placement(Placement(devices).devices[: 1 if box else len(examples.labels)])
    num_devices, platform = len(placement.devices), placement.devices[0].platform
    if block_size is None:
        usual = _block_size(examples.images, num_devices, platform)
        block_size = settled(journal, "block_size", usual)
    block_size = min(block_size, len(examples.labels))
    work = Work(
        runner=(OnHost if box else OnDevices)(placement, model, perturbation),
        examples=examples,
        block_size=block_size,
        num_lanes=_num_lanes(
            -(-block_size // num_devices),
            batch_size,
            platform,
            # A call of a black box costs more than the passes that idle lanes waste.
            images_per_lane=1 if box else _IMAGES_PER_LANE,
        ),
        journal=None,
    )
    if journal is None:
        return work
    image = jax.ShapeDtypeStruct(examples.images.shape[1:], np.float32)
    about["perturbation"] = journals.function_identity(
        perturbation, perturbation, prng.key(0), image
    )
    examples, book = journals.open_for(
        journal, examples, key, model=logits_fn, block_size=block_size, **about
    )
    return work._replace(examples=examples, journal=book)


def known_classes(work: Work) -> int | None:
    """Returns the number of classes; None of a black box that does not say it."""
    num_classes = work.examples.num_classes
    return None if num_classes == ANY_NUMBER else num_classes


def _num_lanes(num_rows: int, batch_size: int | None, platform: str, images_per_lane: int) -> int:
    """Returns the lanes of a device: a power of two, or all that it may have."""
    most = batch_size or _LANES.get(platform, _MORE_LANES)
    power = 2 ** int(np.log2(max(num_rows // images_per_lane, 1)))
    return min(max(power, FEWEST_LANES), most, num_rows)


def _block_size(images: Any, num_devices: int, platform: str) -> int:
    """Returns the images of a block, the same for all blocks up to the last one's filling."""
    bytes_per_image = int(np.prod(images.shape[1:])) * images.dtype.itemsize
    most = min(_BLOCK_SIZES.get(platform, _LARGER_BLOCK), _BYTES_PER_BLOCK // bytes_per_image)
    num_blocks = -(-len(images) // (max(most, 1) * num_devices))
    return -(-len(images) // num_blocks)
