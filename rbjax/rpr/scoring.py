"""RPR of every image of a dataset: how many random perturbations a model withstands."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from rbjax import checks
from rbjax import journal as journals
from rbjax.inputs import to_float
from rbjax.rpr.black_box import BlackBox, OnHost
from rbjax.rpr.blocks import check_input
from rbjax.rpr.journal import open_journal
from rbjax.rpr.lanes import Draws
from rbjax.rpr.progress import Progress
from rbjax.rpr.runner import compile_for
from rbjax.rpr.stopping import Flattening
from rbjax.rpr.sweep import FEWEST_LANES, ImageSource, Work, sweep
from rbjax.typing import Array, Key, LogitsFn, Perturbation

_IMAGES_PER_LANE = 4
"""The queue of a lane, at least: fewer waste passes at its end, more make batches too small."""
_LANES = {"cpu": 256}
_BLOCK_SIZES = {"cpu": 4096}
_MORE_LANES, _LARGER_BLOCK = 4096, 65536
"""Of every platform but the CPU."""
_BYTES_PER_BLOCK = 2**28
"""Of each device, at most."""


MOST_STEPS = 10**9
"""Draws are counted in int32."""


class Scores(NamedTuple):
    """What scoring returns, one entry an image unless said otherwise."""

    first_failure: np.ndarray
    """(N,) int32, the first draw misclassified, 1 to max_steps; max_steps + 1 where none was."""
    steps: np.ndarray
    """(N,) int32, RPR: `min(first_failure, max_steps)`."""
    robust: np.ndarray
    """(N,) bool, whether no draw was misclassified."""
    clean_correct: np.ndarray
    """(N,) bool, whether the image as it is is classified right."""
    max_steps: int
    """Draws of an image at most; fewer than asked for where `stop` ended them."""
    forward_passes_run: int
    """Perturbed images classified, idle lanes included; the clean images are N more."""
    forward_passes_needed: int
    """Sum of `steps`: what a scorer without any waste would run."""


def score(
    logits_fn: LogitsFn | BlackBox,
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
    progress: Callable[[Progress], None] | None = None,
) -> Scores:
    """Scores every image: the first of at most `max_steps` random perturbations that fools.

    N_i = min{t : argmax f(R(x_i; key_it)) != y_i}, key_it = fold_in(fold_in(key, id_i), t), and
    RPR_i = min(N_i, max_steps). The perturbations are always of the original image. The result
    depends on neither the batch size, the number of devices nor the order of the images, up to
    what float32 logits move with the shape of a batch (about 1e-6, so only for ties).

    Images are read and scored block by block: a memory map of any length takes the memory of one
    block, and memory does not grow with `max_steps`. They stay in their own dtype (give uint8 where
    you have it). The same logits function and perturbation compile once per lane count. With
    several processes (`jax.distributed`) blocks are dealt to them, each is given all images, and
    each returns all scores.

    Args:
        logits_fn: images -> logits (B, K), or a model on the host from `rpr.black_box`. With
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
            one stands. The same call with the same folder goes on from there and returns what an
            unbroken one would; another call is refused. A black box or a plain function is known
            by its answers on a few of the images, a function by what it computes of them.
        progress: called now and then with how far it is; see `progress_bar`.

    Returns:
        The scores.

    Raises:
        ValueError: for wrong shapes or values, or another run's journal.

    Source:
        Ilie, Popescu and Stefanescu 2020, "Robustness as Inherent Property of Datapoints", section
        2.1 (P4).
    """
    checks.integer("max_steps", max_steps, low=1, high=MOST_STEPS)
    if stop is not None and not isinstance(stop, Flattening):
        raise ValueError(f"stop is {stop!r}; it must be an rpr.Flattening, or None")
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
        about={"max_steps": max_steps, "stop": repr(stop)},
    )
    return _run_stages(work, key, max_steps, stop, progress)


def _run_stages(
    work: Work,
    key: Key,
    max_steps: int,
    stop: Flattening | None,
    progress: Callable[[Progress], None] | None,
) -> Scores:
    """Sweeps over the images that no draw has fooled yet, until the stop rule or the last draw."""
    num_images = len(work.labels)
    first_failure = np.zeros(num_images, np.int32)
    clean_correct, num_passes, last = np.zeros(num_images, bool), 0, 0
    for first, last in _stages(max_steps, stop):
        rows = np.flatnonzero(first_failure == 0)
        report = functools.partial(
            _tell, progress, num_images, num_images - len(rows), num_passes, last == max_steps
        )
        swept = sweep(
            work,
            key,
            rows,
            Draws(first, last),
            name=f"draws-{first:06d}",
            clean=first == 1,
            report=report,
        )
        survived = swept.first_failure > last
        first_failure[rows] = np.where(survived, 0, swept.first_failure)
        if first == 1:
            clean_correct = swept.clean_correct
        num_passes += swept.num_passes
        if stop is not None and stop.is_flat(_survival(first_failure, last)):
            break
        if not np.any(survived):
            last = max_steps
            break
    return _scores(first_failure, clean_correct, last, num_passes)


def prepare(
    logits_fn: LogitsFn | BlackBox,
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
    """Checks what `score` was given and returns it as its sweeps want it.

    Args:
        logits_fn: as all that follow, what `score` was given.
        key: of the journal only.
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
    images = np.asarray(images) if isinstance(images, jax.Array | list) else images
    labels = np.asarray(labels)
    ids = np.arange(len(labels)) if example_ids is None else np.asarray(example_ids)
    _check(logits_fn, key, images, labels, ids, perturbation)
    if devices is not None and not len(devices):
        raise ValueError("devices is empty; give at least one, or None for all local ones")
    for field, size in (("batch_size", batch_size), ("block_size", block_size)):
        if size is not None:
            checks.integer(field, size, low=1)
    devices = tuple(jax.local_devices() if devices is None else devices)[: len(images)]
    if isinstance(logits_fn, BlackBox):
        runner = OnHost(logits_fn, perturbation, devices[0])
    else:
        runner = compile_for(devices, logits_fn, perturbation)
    platform = devices[0].platform
    block_size = _block_size(images, block_size, runner.num_devices, platform)
    return Work(
        runner=runner,
        images=images,
        labels=labels.astype(np.int32),
        example_ids=ids.astype(np.int32),
        block_size=block_size,
        num_lanes=_num_lanes(
            -(-block_size // runner.num_devices),
            batch_size,
            platform,
            # A call of a black box costs more than the passes that idle lanes waste.
            images_per_lane=1 if isinstance(logits_fn, BlackBox) else _IMAGES_PER_LANE,
        ),
        journal=open_journal(
            journal,
            lambda: {
                "perturbation": journals.identity(perturbation),
                "key": np.asarray(jax.random.key_data(key)),
                **journals.about_data(images, labels, ids),
                "block_size": block_size,
                **about,
                # Last, since what it answers follows from the images: those are named first.
                "model": _identity(logits_fn, images),
            },
        ),
    )


def _check(
    logits_fn: LogitsFn | BlackBox,
    key: Key,
    images: Any,
    labels: np.ndarray,
    example_ids: np.ndarray,
    perturbation: Perturbation,
) -> None:
    if not callable(perturbation):
        raise ValueError(
            f"perturbation is {perturbation!r}; it must be a function (key, image) -> image, such "
            "as rbjax.perturbations.create(name) makes"
        )
    model = None if isinstance(logits_fn, BlackBox) else logits_fn
    check_input(model, images, labels, key=key, example_ids=example_ids)


def _stages(max_steps: int, stop: Flattening | None) -> Iterator[tuple[int, int]]:
    """Yields first and last draw of each sweep: a stop rule looks at the curve between two."""
    window = max_steps if stop is None else stop.window
    for first in itertools.count(1, window):
        if first > max_steps:
            return
        yield first, min(first + window - 1, max_steps)


def _survival(first_failure: np.ndarray, max_steps: int) -> np.ndarray:
    """Returns the share of images that withstood 0 to max_steps draws; 0 is no failure."""
    failures = np.bincount(first_failure, minlength=max_steps + 1)
    return 1.0 - np.cumsum(np.concatenate([[0], failures[1:]])) / len(first_failure)


def _scores(
    first_failure: np.ndarray, clean_correct: np.ndarray, max_steps: int, num_passes: int
) -> Scores:
    first_failure = np.where(first_failure == 0, max_steps + 1, first_failure).astype(np.int32)
    steps = np.minimum(first_failure, max_steps)
    return Scores(
        first_failure=first_failure,
        steps=steps,
        robust=first_failure > max_steps,
        clean_correct=clean_correct,
        max_steps=max_steps,
        forward_passes_run=num_passes,
        forward_passes_needed=int(np.sum(steps, dtype=np.int64)),
    )


def _tell(
    progress: Callable[[Progress], None] | None,
    num_images: int,
    num_before: int,
    passes_before: int,
    is_last: bool,
    num_done: int,
    num_robust: int,
    num_passes: int,
) -> None:
    """Tells how far a sweep is; before the last one, those that withstood it are not finished."""
    if progress is None:
        return
    finished = num_before + (num_done if is_last else num_done - num_robust)
    robust = num_robust if is_last else 0
    progress(Progress(num_images, finished, robust, passes_before + num_passes))


def _num_lanes(num_rows: int, batch_size: int | None, platform: str, images_per_lane: int) -> int:
    """Returns the lanes of a device: a power of two, or all that it may have."""
    most = batch_size or _LANES.get(platform, _MORE_LANES)
    power = 2 ** int(np.log2(max(num_rows // images_per_lane, 1)))
    return min(max(power, FEWEST_LANES), most, num_rows)


def _block_size(images: Any, block_size: int | None, num_devices: int, platform: str) -> int:
    """Returns the images of a block, the same for all blocks up to the last one's filling."""
    if block_size is None:
        bytes_per_image = int(np.prod(images.shape[1:])) * images.dtype.itemsize
        most = min(_BLOCK_SIZES.get(platform, _LARGER_BLOCK), _BYTES_PER_BLOCK // bytes_per_image)
        block_size = max(most, 1) * num_devices
        num_blocks = -(-len(images) // block_size)
        block_size = -(-len(images) // num_blocks)
    return min(block_size, len(images))


def _identity(model: LogitsFn | BlackBox, images: Any) -> str:
    """Returns what is known of a model, the same in another process."""
    asked = to_float(journals.sample(images))
    if isinstance(model, BlackBox):
        answers = model.labels(np.array(asked))
        return f"black box {journals.identity(model.predict)} {journals.digest(answers)}"
    return journals.identity(model, asked)
