"""The first draw that fools, of each of many images, block by block over devices and processes."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from rbjax.blocks import Block, Examples, cut, map_blocks
from rbjax.journal import Journal
from rbjax.rpr.lanes import Dataset, Draws, Lanes, Runner, compact, start
from rbjax.typing import Key

_SHRINK = 4
"""Lanes are compacted when one in so many would do."""
FEWEST_LANES = 16
"""Fewer are hardly faster, and every number of lanes is a program to compile."""
_SECONDS_PER_DISPATCH = 1.0
"""How long the device runs between two looks of the host."""

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
    num_passes: int
    """Perturbed images classified, idle lanes included."""


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
        report(scored + int(np.sum(failures > 0)), num_robust + robust, num_passes + passes)

    def finished(block: Block, results: Mapping[str, np.ndarray]) -> None:
        nonlocal scored, num_robust, num_passes
        failures, passes = results["first_failure"], int(results["num_passes"])
        so_far(failures, passes)
        scored, num_passes = scored + len(block.rows), num_passes + passes
        num_robust += int(np.sum(failures > draws.last))

    results = map_blocks(
        functools.partial(_score, work, key, draws, clean, None if report is None else so_far),
        cut(rows, work.block_size, name=name),
        read=functools.partial(_deal, work),
        journal=work.journal,
        finished=None if report is None else finished,
    )
    return FirstFailures(
        results["first_failure"], results["clean_correct"], int(np.sum(results["num_passes"]))
    )


def _score(
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
    stored = None if journal is None else journal.read_unfinished(block.name)
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
        while most_busy <= _fewer_lanes(num_lanes):
            num_lanes = _fewer_lanes(num_lanes)
        if num_lanes < lanes.row.shape[1]:
            lanes = compact(lanes, num_lanes)
        began = time.monotonic()
        lanes = runner.advance(key, dataset, lanes, draws, num_iterations, _fewer_lanes(num_lanes))
        # Long enough that looking costs nothing, short enough to be seen; the first one compiles.
        per_iteration = (time.monotonic() - began) / num_iterations
        num_iterations = max(1, min(2 * num_iterations, int(_SECONDS_PER_DISPATCH / per_iteration)))
        num_passes += int(np.sum(lanes.iterations, dtype=np.int64)) * num_lanes
        if journal is not None:
            journal.write_unfinished(block.name, passes=num_passes, **lanes._asdict())
        if so_far is not None:
            so_far(_collect(lanes.first_failure, num_images), num_passes)
    first_failure = _collect(lanes.first_failure, num_images)
    return FirstFailures(first_failure, clean_correct, num_passes)._asdict()


def _fewer_lanes(num_lanes: int) -> int:
    """Returns the next smaller number of lanes, 0 if there is none."""
    return num_lanes // _SHRINK if num_lanes >= _SHRINK * FEWEST_LANES else 0


def _deal(work: Work, block: Block) -> Dataset:
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
