"""One sweep over images: the same draws for each, in blocks of a fixed size that go on and off."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from rbjax.inputs import check_images
from rbjax.rpr.journal import Journal
from rbjax.rpr.lanes import Dataset, Draws, compact, start
from rbjax.rpr.runner import Runner
from rbjax.typing import Key

_SHRINK = 4
"""Lanes are compacted when one in so many would do."""
FEWEST_LANES = 16
"""Fewer are hardly faster, and every number of lanes is a program to compile."""
_SECONDS_PER_DISPATCH = 1.0
"""How long the device runs between two looks of the host."""

Report = Callable[[int, int, int], None]
"""(images finished, those that withstood every draw, forward passes run) of a sweep so far."""


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
    """What all sweeps of a run have in common."""

    runner: Runner
    images: np.ndarray | ImageSource
    """(N, H, W, C)."""
    labels: np.ndarray
    """(N,) int32."""
    example_ids: np.ndarray
    """(N,) int32."""
    block_size: int
    """Images of a block, over all devices of this process."""
    num_lanes: int
    """Lanes of a device."""
    journal: Journal


class Swept(NamedTuple):
    """What a sweep found; the order is that of the rows asked for."""

    first_failure: np.ndarray
    """(M,) int32, first to last draw, or last + 1 where none failed."""
    clean_correct: np.ndarray
    """(M,) bool; all False where it was not asked for."""
    num_passes: int
    """Perturbed images classified, idle lanes included."""


class _Block(NamedTuple):
    name: str
    places: slice
    """Among the rows of the sweep."""
    rows: np.ndarray


def sweep(
    work: Work, key: Key, rows: np.ndarray, draws: Draws, *, name: str, clean: bool, report: Report
) -> Swept:
    """Draws for each of some images until one draw fails or the last one has passed.

    Blocks are dealt to the processes in turn, and each process gets the results of all.

    Args:
        work: the run.
        key: the base of the draws' keys.
        rows: (M,) the images, ascending.
        draws: of each image.
        name: of the sweep, unlike that of any other of the run.
        clean: whether to classify the images as they are too.
        report: told how far this process is.

    Returns:
        The first failures.
    """
    first_failure = np.zeros(len(rows), np.int32)
    clean_correct = np.zeros(len(rows), bool)
    scored = num_robust = num_passes = 0

    def so_far(failures: np.ndarray, passes: int) -> None:
        robust = int(np.sum(failures > draws.last))
        report(scored + int(np.sum(failures > 0)), num_robust + robust, num_passes + passes)

    for block, loaded in _in_advance(work, _own_blocks(rows, work.block_size, name)):
        if isinstance(loaded, Dataset):
            loaded = _score(work, key, block, loaded, draws, clean, so_far)
            work.journal.write_block(block.name, **loaded._asdict())
        first_failure[block.places] = loaded.first_failure
        clean_correct[block.places] = loaded.clean_correct
        so_far(loaded.first_failure, loaded.num_passes)
        scored += len(block.rows)
        num_robust += int(np.sum(loaded.first_failure > draws.last))
        num_passes += loaded.num_passes
    return Swept(
        first_failure=_of_all_processes(first_failure),
        clean_correct=_of_all_processes(clean_correct.astype(np.int32)) > 0,
        num_passes=_sum_of_passes(num_passes),
    )


def _score(
    work: Work,
    key: Key,
    block: _Block,
    dataset: Dataset,
    draws: Draws,
    clean: bool,
    so_far: Callable[[np.ndarray, int], None],
) -> Swept:
    """Scores one block, from where the journal says that it stood."""
    num_images, runner = len(block.rows), work.runner
    stood = work.journal.read_lanes(block.name)
    if stood is None or stood[0].first_failure.shape != dataset.labels.shape:
        stood = start(dataset, work.num_lanes, int(draws.first)), 0
    lanes, num_passes = stood
    dataset = runner.place(dataset)
    clean_correct = np.zeros(num_images, bool)
    if clean:
        clean_correct = _collect(runner.classify(dataset, work.num_lanes), num_images)
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
        work.journal.write_lanes(block.name, lanes, num_passes)
        so_far(_collect(lanes.first_failure, num_images), num_passes)
    return Swept(_collect(lanes.first_failure, num_images), clean_correct, num_passes)


def _fewer_lanes(num_lanes: int) -> int:
    """Returns the next smaller number of lanes, 0 if there is none."""
    return num_lanes // _SHRINK if num_lanes >= _SHRINK * FEWEST_LANES else 0


def _own_blocks(rows: np.ndarray, block_size: int, name: str) -> list[_Block]:
    """Returns the blocks that this process scores."""
    starts = range(0, len(rows), block_size)
    blocks = [
        _Block(f"{name}-block-{number:06d}", places, rows[places])
        for number, places in enumerate(slice(i, i + block_size) for i in starts)
    ]
    return blocks[jax.process_index() :: jax.process_count()]


def _in_advance(work: Work, blocks: list[_Block]) -> Iterator[tuple[_Block, Dataset | Swept]]:
    """Yields each block with its images, or its results if it is finished, read one ahead."""
    with ThreadPoolExecutor(1) as reader:
        ahead = [reader.submit(_load, work, block) for block in blocks[:1]]
        for number, block in enumerate(blocks):
            loaded = ahead.pop().result()
            ahead += [reader.submit(_load, work, b) for b in blocks[number + 1 : number + 2]]
            yield block, loaded


def _load(work: Work, block: _Block) -> Dataset | Swept:
    finished = work.journal.read_block(block.name)
    if finished is not None:
        return Swept(
            finished["first_failure"], finished["clean_correct"], int(finished["num_passes"])
        )
    first, last = block.rows[0], block.rows[-1]
    contiguous = last - first + 1 == len(block.rows)
    images = np.asarray(work.images[first : last + 1] if contiguous else work.images[block.rows])
    check_images(images)
    return _deal(
        images,
        work.labels[block.rows],
        work.example_ids[block.rows],
        num_devices=work.runner.num_devices,
        num_slots=-(-work.block_size // work.runner.num_devices),
    )


def _deal(
    images: np.ndarray,
    labels: np.ndarray,
    example_ids: np.ndarray,
    *,
    num_devices: int,
    num_slots: int,
) -> Dataset:
    """Returns the images dealt over devices, image i to device i modulo their number, filled up."""
    places = np.arange(num_slots * num_devices).reshape(num_slots, num_devices).T
    source = np.minimum(places, len(images) - 1)
    whole = num_devices == 1 and num_slots == len(images)
    return Dataset(
        images=images[None] if whole else images[source],
        labels=labels[source],
        example_ids=example_ids[source],
        num_rows=np.sum(places < len(images), axis=1, dtype=np.int32),
    )


def _collect(dealt: np.ndarray, num_images: int) -> np.ndarray:
    """Returns what was dealt over devices in the order of the images."""
    return dealt.T.reshape(-1)[:num_images]


def _sum_of_passes(own: int) -> int:
    """Returns the sum over processes; JAX gathers 32 bits, so it is gathered in two halves."""
    high, low = _of_all_processes(np.asarray(divmod(own, 2**24), np.int32)).tolist()
    return high * 2**24 + low


def _of_all_processes(own: np.ndarray) -> np.ndarray:
    """Returns the sum over processes, of which each has written its own places only."""
    if jax.process_count() == 1:
        return own
    from jax.experimental import multihost_utils

    return np.sum(np.asarray(multihost_utils.process_allgather(own)), axis=0, dtype=own.dtype)
