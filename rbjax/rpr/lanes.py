"""The compiled part of scoring: lanes that draw until their image fails, then take the next one.

Every lane works on one image. An iteration draws one perturbation for each lane and classifies all
of them in one forward pass; a lane whose image has failed, or has passed its last draw, writes the
result down and takes the next image from the queue. So hardly a pass is wasted while there is a
queue. When it is empty the busy lanes thin out, and `compact` moves them into fewer.

A `Runner` runs them: `OnDevices` for a JAX function, `on_host.OnHost` for any other model.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from rbjax import prng, stops
from rbjax.blocks import AXIS, Block, Examples, Placement
from rbjax.captures import Compiled, static_first
from rbjax.classifier import Classifier
from rbjax.inputs import NO_CLASS, check_perturbed, to_float
from rbjax.journal import Journal
from rbjax.typing import Array, Key, Perturbation

_SHRINK = 4
"""Lanes are compacted when one in so many would do."""
FEWEST_LANES = 16
"""Fewer are hardly faster, and every number of lanes is a program to compile."""
_SECONDS_PER_DISPATCH = 1.0
"""How long the device runs between two looks of the host."""

Anywhere = Any
"""An array on the devices, or its numpy copy on the host."""


class Dataset(NamedTuple):
    """One device's share of the images, filled up to a common length."""

    images: Anywhere
    """(R, H, W, C) uint8, or floating in [0, 1]."""
    labels: Anywhere
    """(R,) int32."""
    example_ids: Anywhere
    """(R,) int32."""
    num_rows: Anywhere
    """() int32, the rows that are not filling."""


class Lanes(NamedTuple):
    """Where one device's scoring stands; all that a resumed run needs."""

    row: Anywhere
    """(B,) int32, the image a lane works on."""
    draw: Anywhere
    """(B,) int32, the number of its next draw, from 1."""
    busy: Anywhere
    """(B,) bool."""
    next_row: Anywhere
    """() int32, the head of the queue."""
    first_failure: Anywhere
    """(R,) int32, 0 while unknown, then first to last, or last + 1 if no draw failed; minus the
    draw where that had no class."""
    iterations: Anywhere
    """() int32, iterations of the last dispatch."""


class Draws(NamedTuple):
    """The numbers of the draws that each image gets, at most."""

    first: Anywhere
    """() int32."""
    last: Anywhere
    """() int32."""


def start(dataset: Dataset, num_lanes: int, first_draw: int) -> Lanes:
    """Returns lanes at the first images of each device's share, on the host.

    Args:
        dataset: with a leading axis of devices.
        num_lanes: lanes of each device.
        first_draw: the number of each image's first draw.

    Returns:
        The lanes, numpy arrays with a leading axis of devices.
    """
    num_devices, num_slots = dataset.labels.shape
    row = np.tile(np.arange(num_lanes, dtype=np.int32), (num_devices, 1))
    num_rows = np.asarray(dataset.num_rows)
    return Lanes(
        row=np.minimum(row, num_slots - 1),
        draw=np.full_like(row, first_draw),
        busy=row < num_rows[:, None],
        next_row=np.minimum(num_rows, num_lanes).astype(np.int32),
        first_failure=np.zeros((num_devices, num_slots), np.int32),
        iterations=np.zeros(num_devices, np.int32),
    )


def compact(lanes: Lanes, num_lanes: int) -> Lanes:
    """Returns the same work on fewer lanes, the busy ones first, on the host."""
    kept = np.argsort(~lanes.busy, axis=1, kind="stable")[:, :num_lanes]
    row, draw, busy = (np.take_along_axis(x, kept, axis=1) for x in lanes[:3])
    return lanes._replace(row=row, draw=draw, busy=busy)


def advance(
    perturbation: Perturbation,
    model: Classifier,
    key: Key,
    dataset: Dataset,
    lanes: Lanes,
    draws: Draws,
    num_iterations: Array,
    enough_lanes: Array,
) -> Lanes:
    """Runs iterations until all images are scored, or fewer lanes would do.

    Args:
        perturbation: (key, image) -> image.
        model: the classifier.
        key: the base of every draw's key, `fold_in(fold_in(key, example_id), draw)`.
        dataset: the images.
        lanes: where they stand.
        draws: of an image.
        num_iterations: iterations at most.
        enough_lanes: with the queue empty and no more lanes busy than this, stop.

    Returns:
        The lanes afterwards.
    """
    model = model.in_loops()

    def iterate(lanes: Lanes) -> Lanes:
        images = perturb(perturbation, key, dataset, lanes)
        keys = prng.per_example(key, dataset.example_ids[lanes.row])
        keys = prng.per_draw(prng.per_draw(keys, lanes.draw), OF_THE_MODEL)
        failed = failures(model.predictions(keys, images), images, dataset.labels[lanes.row])
        return hand_over(lanes, failed, dataset.num_rows, draws)

    return jax.lax.while_loop(
        functools.partial(unfinished, dataset.num_rows, num_iterations, enough_lanes),
        iterate,
        lanes._replace(iterations=jnp.int32(0)),
    )


def unfinished(
    num_rows: Anywhere, num_iterations: Anywhere, enough_lanes: Anywhere, lanes: Lanes
) -> Anywhere:
    """Returns whether another iteration is due, of lanes on the device or on the host."""
    more = (lanes.next_row < num_rows) | (lanes.busy.sum() > enough_lanes)
    return more & (lanes.iterations < num_iterations)


def perturb(perturbation: Perturbation, key: Key, dataset: Dataset, lanes: Lanes) -> Array:
    """Returns the next draw of every lane's image, (B, H, W, C) float32 in [0, 1], or NaN."""
    keys = prng.per_example(key, dataset.example_ids[lanes.row])
    images = to_float(dataset.images[lanes.row])
    drawn = jax.vmap(perturbation)(prng.per_draw(keys, lanes.draw), images)
    return jnp.clip(check_perturbed(drawn, images), 0.0, 1.0)


def failures(predictions: Anywhere, images: Anywhere, labels: Anywhere) -> Array:
    """Returns what became of draws, (B,): 0 withstood, 1 misclassified, -1 of no class or NaN."""
    no_class = (predictions == NO_CLASS) | jnp.isnan(jnp.sum(images, axis=(1, 2, 3)))
    return jnp.where(no_class, -1, predictions != labels).astype(jnp.int32)


def hand_over(lanes: Lanes, failed: Array, num_rows: Array, draws: Draws) -> Lanes:
    """Writes down what is finished and gives the free lanes the next images of the queue.

    Args:
        lanes: as they drew.
        failed: (B,) int32, as `failures` says of the lanes' draws.
        num_rows: () int32, images of the queue.
        draws: of an image.

    Returns:
        The lanes before their next draw.
    """
    done = lanes.busy & ((failed != 0) | (lanes.draw >= draws.last))
    result = jnp.where(failed != 0, failed * lanes.draw, draws.last + 1)
    num_slots = lanes.first_failure.shape[0]
    slot = jnp.where(done, lanes.row, num_slots)  # num_slots is nowhere: dropped
    queue = lanes.next_row + jnp.cumsum(done, dtype=jnp.int32) - 1
    refilled = done & (queue < num_rows)
    return Lanes(
        row=jnp.where(refilled, queue, lanes.row),
        draw=jnp.where(refilled, draws.first, lanes.draw + 1),
        busy=jnp.where(done, refilled, lanes.busy),
        next_row=jnp.minimum(lanes.next_row + jnp.sum(done, dtype=jnp.int32), num_rows),
        first_failure=lanes.first_failure.at[slot].set(result, mode="drop"),
        iterations=lanes.iterations + 1,
    )


OF_THE_MODEL = 2**31 - 3
"""A draw that no perturbation makes of its own key: what a randomised model draws from."""


def classify(block_size: int, model: Classifier, key: Key, dataset: Dataset) -> Array:
    """Returns whether each image is correctly classified as it is, block by block.

    Args:
        block_size: images of one forward pass.
        model: the classifier.
        key: what a randomised one draws from.
        dataset: R images.

    Returns:
        (R,) bool.
    """
    model = model.in_loops()
    num_slots = dataset.labels.shape[0]
    num_blocks = -(-num_slots // block_size)
    rows = jnp.minimum(jnp.arange(num_blocks * block_size), num_slots - 1)

    def block(rows: Array) -> Array:
        keys = prng.per_draw(prng.per_example(key, dataset.example_ids[rows]), OF_THE_MODEL)
        predictions = model.predictions(keys, to_float(dataset.images[rows]))
        return predictions == dataset.labels[rows]

    correct = jax.lax.map(block, rows.reshape(num_blocks, block_size))
    return correct.reshape(-1)[:num_slots]


class Runner(Protocol):
    """What scoring asks of a model; arrays have a leading axis of devices."""

    @property
    def num_devices(self) -> int:
        """Devices a block is dealt to."""
        ...

    def place(self, tree: Any) -> Any:
        """Returns numpy arrays with a leading axis of devices, where the model wants them."""
        ...

    def classify(self, key: Key, dataset: Dataset, batch_size: int) -> np.ndarray:
        """Returns (D, R) bool, whether each image is correctly classified as it is."""
        ...

    def advance(
        self,
        key: Key,
        dataset: Dataset,
        lanes: Lanes,
        draws: Draws,
        num_iterations: int,
        enough_lanes: int,
    ) -> Lanes:
        """Returns the lanes after `advance`, on the host."""
        ...


class OnDevices:
    """The runner of a JAX function, compiled once for each number of lanes."""

    def __init__(self, placement: Placement, model: Classifier, perturbation: Perturbation) -> None:
        """Puts the weights on the devices."""
        self.num_devices, self.place = len(placement.devices), placement.split
        self._model = model.placed(placement.whole)
        self._perturbation, self._replicate = perturbation, placement.replicate
        self._advance, self._classify = _programs(placement.devices)

    def classify(self, key: Key, dataset: Dataset, batch_size: int) -> np.ndarray:
        """Returns (D, R) bool, whether each image is correctly classified as it is."""
        key = self._replicate(key)
        return np.asarray(self._classify(batch_size, self._model, key, dataset))

    def advance(
        self,
        key: Key,
        dataset: Dataset,
        lanes: Lanes,
        draws: Draws,
        num_iterations: int,
        enough_lanes: int,
    ) -> Lanes:
        """Returns the lanes after `advance`, on the host."""
        lanes = self._advance(
            self._perturbation,
            self._model,
            self._replicate(key),
            dataset,
            self.place(lanes),
            draws,
            num_iterations,
            enough_lanes,
        )
        return jax.device_get(lanes)


@functools.cache
def _programs(devices: tuple[Any, ...]) -> tuple[Any, Any]:
    """Returns `advance` and `classify`, compiled."""
    compiled = functools.partial(
        jax.pmap, axis_name=AXIS, static_broadcasted_argnums=0, devices=devices
    )
    axes = (None, None, None, 0, 0, None, None, None)
    advances = static_first(advance, functools.partial(compiled, in_axes=axes))
    return Compiled(advances), Compiled(compiled(classify, in_axes=(None, None, None, 0)))


class Work(NamedTuple):
    """What all passes over the images of a run have in common."""

    runner: Runner
    examples: Examples
    block_size: int
    """Images of a block, over all devices of this process."""
    num_lanes: int
    """Lanes of a device."""
    journal: Journal | None


class FirstFailures(NamedTuple):
    """The first failures of some images, in the order of the rows asked for."""

    first_failure: np.ndarray
    """(M,) int32, first to last draw, or last + 1 where none failed."""
    clean_correct: np.ndarray
    """(M,) bool; all False where it was not asked for."""
    no_class: np.ndarray
    """(M,) bool, whether the draw that failed was of no class."""
    num_passes: int
    """Perturbed images classified, idle lanes included."""


def score_block(
    work: Work,
    key: Key,
    draws: Draws,
    clean: bool,
    so_far: Callable[[np.ndarray, int], None] | None,
    block: Block,
    dataset: Dataset,
) -> dict[str, Any]:
    """Scores one block, from where the journal says that it stood."""
    num_images, runner, journal = len(block.rows), work.runner, work.journal
    lanes, num_passes = start(dataset, work.num_lanes, int(draws.first)), 0
    stored = None if journal is None else journal.read_unfinished(block.name, block.rows)
    if stored is not None and stored["first_failure"].shape == dataset.labels.shape:
        num_passes = int(stored.pop("passes"))
        lanes = Lanes(**stored)
    dataset = runner.place(dataset)
    clean_correct = np.zeros(num_images, bool)
    if clean:
        clean_correct = _collect(runner.classify(key, dataset, work.num_lanes), num_images)
    num_iterations = 1
    while not np.all(_collect(lanes.first_failure, num_images)):
        # Lanes are refilled while there is a queue, so few are busy only when it is empty.
        most_busy, num_lanes = int(np.max(np.sum(lanes.busy, axis=1))), lanes.row.shape[1]
        while True:
            fewer = num_lanes // _SHRINK if num_lanes >= _SHRINK * FEWEST_LANES else 0
            if most_busy > fewer:
                break
            num_lanes = fewer
        if num_lanes < lanes.row.shape[1]:
            lanes = compact(lanes, num_lanes)
        began = time.monotonic()
        with stops.deferred():  # until the journal says where the lanes stand
            lanes = runner.advance(key, dataset, lanes, draws, num_iterations, fewer)
            num_passes += int(np.sum(lanes.iterations, dtype=np.int64)) * num_lanes
            if journal is not None:
                standing = {"passes": num_passes, **lanes._asdict()}
                journal.write_unfinished(block.name, block.rows, **standing)
        # Long enough that looking costs nothing, short enough to be seen; the first one compiles.
        enough = int(_SECONDS_PER_DISPATCH * num_iterations / (time.monotonic() - began))
        num_iterations = max(1, min(2 * num_iterations, enough))
        if so_far is not None:
            so_far(_collect(lanes.first_failure, num_images), num_passes)
    last = _collect(lanes.first_failure, num_images)
    return FirstFailures(np.abs(last), clean_correct, last < 0, num_passes)._asdict()


def deal(work: Work, block: Block) -> Dataset:
    """Returns a block's images, image i on device i modulo their number, padded to one length."""
    images, num_devices = work.examples.read(block.rows), work.runner.num_devices
    num_slots = -(-len(block.padded) // num_devices)
    places = np.arange(num_slots * num_devices).reshape(num_slots, num_devices).T
    source = np.minimum(places, len(images) - 1)
    is_whole = num_devices == 1 and num_slots == len(images)
    return Dataset(
        images=images[None] if is_whole else images[source],
        labels=work.examples.labels[block.rows][source],
        example_ids=work.examples.example_ids[block.rows][source],
        num_rows=np.sum(places < len(images), axis=1, dtype=np.int32),
    )


def _collect(dealt: np.ndarray, num_images: int) -> np.ndarray:
    """Returns what was dealt over devices in the order of the images."""
    return dealt.T.reshape(-1)[:num_images]
