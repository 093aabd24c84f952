"""RPR of every image of a dataset: how many random perturbations a model withstands."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.tree_util import Partial

from rbjax import checks, prng
from rbjax.inputs import check_images, check_labels, logits_shape
from rbjax.rpr.lanes import Dataset, Lanes, advance, classify, compact, start
from rbjax.typing import Array, Key, LogitsFn, Perturbation

_AXIS = "data"
_SHRINK = 4
"""Lanes are compacted when one in so many would do."""
_FEWEST_LANES = 16
"""Fewer are hardly faster, and every number of lanes is a program to compile."""
_IMAGES_PER_LANE = 8
"""The queue of a lane, at least: the more, the fewer passes are wasted at its end."""
_SECONDS_PER_DISPATCH = 1.0
"""How long the device runs between two looks of the host."""


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
    forward_passes_run: int
    """Perturbed images classified, idle lanes included; the clean images are N more."""
    forward_passes_needed: int
    """Sum of `steps`: what a scorer without any waste would run."""


class Progress(NamedTuple):
    """What `score` tells while it runs."""

    num_images: int
    num_scored: int
    """Images that are finished."""
    num_robust: int
    """Those of them that withstood every draw."""
    forward_passes_run: int


def score(
    logits_fn: LogitsFn,
    key: Key,
    images: np.ndarray | Array,
    labels: np.ndarray | Array,
    *,
    max_steps: int,
    perturbation: Perturbation,
    example_ids: np.ndarray | Array | None = None,
    batch_size: int | None = None,
    devices: Sequence[Any] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Scores:
    """Scores every image: the first of at most `max_steps` random perturbations that fools.

    N_i = min{t : argmax f(R(x_i; key_it)) != y_i}, key_it = fold_in(fold_in(key, id_i), t), and
    RPR_i = min(N_i, max_steps). The perturbations are always of the original image. The result
    depends on neither the batch size, the number of devices nor the order of the images, up to
    what float32 logits move with the shape of a batch (about 1e-6, so only for ties).

    The images stay on the device in their own dtype (give uint8 where you have it); memory does not
    grow with `max_steps`. The same logits function and perturbation compile once per lane count.

    Args:
        logits_fn: images -> logits (B, K). With `Partial(model.apply, variables)` new weights do
            not compile again.
        key: one key.
        images: (N, H, W, C) uint8, or floating in [0, 1].
        labels: (N,) integers, the true classes.
        max_steps: draws of an image at most (MAX_STEPS of the paper).
        perturbation: (key, image (H, W, C)) -> image, as `rbjax.perturbations` makes them.
        example_ids: (N,) integers; None: the row numbers.
        batch_size: images that a device classifies at once, at most: few images get fewer lanes,
            or many would idle at the end; None: 256 on CPU and 4,096 elsewhere.
        devices: the `jax.Device`s to use; None: all local ones.
        progress: called now and then with how far it is.

    Returns:
        The scores.

    Raises:
        ValueError: for wrong shapes or values.

    Source:
        Ilie, Popescu and Stefanescu 2020, "Robustness as Inherent Property of Datapoints", section
        2.1 (P4).
    """
    images, labels = np.asarray(images), np.asarray(labels)
    ids = np.arange(len(labels)) if example_ids is None else np.asarray(example_ids)
    _check(logits_fn, key, images, labels, ids, max_steps, batch_size)
    devices = tuple(jax.local_devices() if devices is None else devices)[: len(images)]
    dataset = _deal(images, labels, ids, len(devices))
    num_lanes = _num_lanes(dataset.labels.shape[1], batch_size, devices[0].platform)
    split, whole = _shardings(devices)
    dataset = jax.device_put(dataset, split)
    key = jax.device_put(key, whole)
    if isinstance(logits_fn, Partial):
        logits_fn = jax.device_put(logits_fn, whole)
    programs = _programs(devices, isinstance(logits_fn, Partial))
    clean_correct = programs.classify(num_lanes, logits_fn, dataset)
    run = functools.partial(programs.advance, perturbation, logits_fn, key, dataset)
    first_failure, num_passes = _drain(
        run, start(dataset, num_lanes), max_steps, len(images), split, progress
    )
    first_failure = _collect(first_failure, len(images))
    steps = np.minimum(first_failure, max_steps)
    return Scores(
        first_failure=first_failure,
        steps=steps,
        robust=first_failure > max_steps,
        clean_correct=_collect(clean_correct, len(images)),
        max_steps=max_steps,
        forward_passes_run=num_passes,
        forward_passes_needed=int(np.sum(steps, dtype=np.int64)),
    )


def _drain(
    run: Callable[..., Lanes],
    lanes: Lanes,
    max_steps: int,
    num_images: int,
    split: NamedSharding,
    progress: Callable[[Progress], None] | None,
) -> tuple[np.ndarray, int]:
    """Runs the lanes until every image is scored; returns the first failures and the passes run."""
    num_passes, num_iterations = 0, 1
    on_device = jax.device_put(lanes, split)
    while True:
        num_lanes = lanes.row.shape[1]
        fewer = _fewer_lanes(num_lanes)
        began = time.monotonic()
        on_device = run(on_device, max_steps, num_iterations, fewer)
        lanes = jax.device_get(on_device)
        # Long enough that looking costs nothing, short enough to be seen; the first one compiles.
        per_iteration = (time.monotonic() - began) / num_iterations
        num_iterations = max(1, min(2 * num_iterations, int(_SECONDS_PER_DISPATCH / per_iteration)))
        num_passes += int(np.sum(lanes.iterations, dtype=np.int64)) * num_lanes
        finished = lanes.first_failure > 0
        num_scored = int(np.sum(finished))
        if progress is not None:
            num_robust = int(np.sum(lanes.first_failure > max_steps))
            progress(Progress(num_images, num_scored, num_robust, num_passes))
        if num_scored == num_images:
            return lanes.first_failure, num_passes
        most_busy = int(np.max(np.sum(lanes.busy, axis=1)))
        # Lanes are refilled while there is a queue, so this few are busy only when it is empty.
        if most_busy <= fewer:
            while most_busy <= _fewer_lanes(fewer):
                fewer = _fewer_lanes(fewer)
            lanes = compact(lanes, fewer)
            on_device = jax.device_put(lanes, split)


def _fewer_lanes(num_lanes: int) -> int:
    """Returns the next smaller number of lanes, 0 if there is none."""
    return num_lanes // _SHRINK if num_lanes >= _SHRINK * _FEWEST_LANES else 0


class _Programs(NamedTuple):
    advance: Callable[..., Lanes]
    classify: Callable[..., Array]


@functools.cache
def _programs(devices: tuple[Any, ...], is_partial: bool) -> _Programs:
    """Returns the compiled parts; a plain logits function is part of the program."""
    static = (0,) if is_partial else (0, 1)
    return _Programs(
        advance=jax.pmap(
            advance,
            axis_name=_AXIS,
            in_axes=(None, None, None, 0, 0, None, None, None),
            static_broadcasted_argnums=static,
            devices=devices,
        ),
        classify=jax.pmap(
            classify,
            axis_name=_AXIS,
            in_axes=(None, None, 0),
            static_broadcasted_argnums=static,
            devices=devices,
        ),
    )


def _shardings(devices: tuple[Any, ...]) -> tuple[NamedSharding, NamedSharding]:
    """Returns where arrays with an axis of devices go, and where those without one do."""
    mesh = Mesh(np.asarray(devices), (_AXIS,))
    return NamedSharding(mesh, PartitionSpec(_AXIS)), NamedSharding(mesh, PartitionSpec())


def _deal(
    images: np.ndarray, labels: np.ndarray, example_ids: np.ndarray, num_devices: int
) -> Dataset:
    """Returns the rows dealt over devices: row i goes to device i modulo their number."""
    num_slots = -(-len(images) // num_devices)
    rows = np.arange(num_slots * num_devices).reshape(num_slots, num_devices).T
    source = np.minimum(rows, len(images) - 1)
    return Dataset(
        images=images[None] if num_devices == 1 else images[source],
        labels=labels[source].astype(np.int32),
        example_ids=example_ids[source].astype(np.int32),
        num_rows=np.sum(rows < len(images), axis=1, dtype=np.int32),
    )


def _collect(dealt: Array | np.ndarray, num_images: int) -> np.ndarray:
    """Returns what was dealt over devices in the order of the images."""
    return np.asarray(dealt).T.reshape(-1)[:num_images]


def _num_lanes(num_rows: int, batch_size: int | None, platform: str) -> int:
    """Returns the lanes of a device: a power of two, or all that it may have."""
    most = batch_size or (256 if platform == "cpu" else 4096)
    power = 2 ** int(np.log2(max(num_rows // _IMAGES_PER_LANE, 1)))
    return min(max(power, _FEWEST_LANES), most, num_rows)


def _check(
    logits_fn: LogitsFn,
    key: Key,
    images: np.ndarray,
    labels: np.ndarray,
    example_ids: np.ndarray,
    max_steps: int,
    batch_size: int | None,
) -> None:
    """Raises a ValueError for what is wrong with the input."""
    check_images(images)
    if len(images) == 0:
        raise ValueError("images holds no image; there must be at least one")
    num_classes = logits_shape(
        logits_fn, jax.ShapeDtypeStruct((1, *images.shape[1:]), jnp.float32)
    )[1]
    check_labels(labels, num_examples=len(images), num_classes=num_classes)
    check_labels(example_ids, num_examples=len(images), num_classes=2**31, field="example_ids")
    if prng.broadcast(key, 1) is key:
        raise ValueError(f"key has shape {key.shape}; it must be one key")
    checks.integer("max_steps", max_steps, low=1)
    if batch_size is not None:
        checks.integer("batch_size", batch_size, low=1)
