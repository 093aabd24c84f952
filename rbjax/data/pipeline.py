"""From a dataset to batches: which rows each dispatch of training steps uses, and how it gets them.

Which rows a step uses is a function of the seed, the epoch and the step alone.  So a training set
that lies on the devices and one that is streamed to them (`streaming.py`) train identically, and a
checkpoint has to keep no more than the number of the step to continue with the same batches.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple, Self

import jax.numpy as jnp
import numpy as np

from rbjax.blocks import Placement
from rbjax.data.loading import Dataset
from rbjax.inputs import to_float
from rbjax.typing import Array, Batch


class Block(NamedTuple):
    """What one dispatch uses: a whole split, or the examples of its steps alone."""

    images: np.ndarray | Array
    """(N, H, W, C) uint8 or float32, the same on each device; or (devices, K B / devices, H, W,
    C)."""
    labels: np.ndarray | Array
    """(N,) int32, or (devices, K B / devices)."""
    example_ids: np.ndarray | Array
    """(N,) int32, or (devices, K B / devices)."""
    rows: np.ndarray | Array
    """(devices, K, B / devices) int32, into the images that the device has."""


class Schedule:
    """The rows of each dispatch, (K, B) int32; random access, and no dispatch crosses an epoch.

    An epoch's order is computed when it is first needed, and the two latest are kept.
    """

    def __init__(
        self,
        order: Callable[[int], np.ndarray],
        *,
        steps_per_epoch: int,
        num_epochs: int,
        steps_per_block: int,
        start: int = 0,
    ) -> None:
        """Lays out the dispatches from a step to the end of training.

        Args:
            order: from an epoch to its rows, (S, B) int32; a pure function.
            steps_per_epoch: S.
            num_epochs: epochs of the whole training.
            steps_per_block: K, the most steps of a dispatch; an epoch's last has fewer.
            start: the first step, which may lie inside an epoch.
        """
        self._order = functools.lru_cache(maxsize=2)(order)
        self._lock = threading.Lock()  # several threads need the order of the epoch that begins
        self._steps, self._size = steps_per_epoch, steps_per_block
        self._epoch, self._position = divmod(start, steps_per_epoch)
        self._first = -(-(steps_per_epoch - self._position) // steps_per_block)
        self._each = -(-steps_per_epoch // steps_per_block)
        epochs_left = num_epochs - self._epoch
        self._length = self._first + (epochs_left - 1) * self._each if epochs_left > 0 else 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[index] for index in range(self._length))

    def __getitem__(self, index: int) -> np.ndarray:
        number = range(self._length)[index]
        if number < self._first:
            epoch, position = self._epoch, self._position + number * self._size
        else:
            epochs, block = divmod(number - self._first, self._each)
            epoch, position = self._epoch + 1 + epochs, block * self._size
        with self._lock:
            order = self._order(epoch)
        return order[position : min(position + self._size, self._steps)]


class Feed:
    """Blocks in turn, and how long the host has waited for them."""

    def __init__(self, blocks: Generator[Block]) -> None:
        self._blocks = blocks
        self.seconds_waited = 0.0
        """Time in which the host had nothing to dispatch; the devices may have been busy."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._blocks.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Block:
        began = time.perf_counter()
        block = next(self._blocks)
        self.seconds_waited += time.perf_counter() - began
        return block


class DeviceDataset(NamedTuple):
    """A whole split on the devices, the same on each."""

    images: Array
    """(N, H, W, C) uint8, or float32 in [0, 1]."""
    labels: Array
    """(N,) int32."""
    example_ids: Array
    """(N,) int32."""


def replicate(dataset: Dataset) -> DeviceDataset:
    """Returns a whole split on every local device, once each, as it is stored.

    Args:
        dataset: of N examples.

    Returns:
        The arrays a training step gathers from (`in_axes=None` under pmap).
    """
    arrays = (dataset.images[:], dataset.labels, dataset.example_ids)
    return DeviceDataset(*Placement().replicate(arrays))


def resident(
    dataset: Dataset, schedule: Schedule, *, num_devices: int, process: tuple[int, int] = (0, 1)
) -> Generator[Block]:
    """Yields blocks of a split that lies on the devices, copied there for the first block.

    Args:
        dataset: the training set.
        schedule: which rows each dispatch uses.
        num_devices: local devices.
        process: index and number of the processes that share each batch.

    Yields:
        A Block for each entry of the schedule; only the rows differ.
    """
    split = replicate(dataset)
    for rows in schedule:
        own = of_process(rows, index=process[0], count=process[1])
        yield Block(*split, rows=per_device(own, num_devices))


def per_device(rows: np.ndarray, num_devices: int) -> np.ndarray:
    """Returns each device's share of each step's batch.

    Args:
        rows: (K, B).
        num_devices: a divisor of B.

    Returns:
        (devices, K, B / devices).
    """
    num_steps, batch_size = rows.shape
    return rows.reshape(num_steps, num_devices, batch_size // num_devices).swapaxes(0, 1)


def of_process(rows: np.ndarray, *, index: int, count: int) -> np.ndarray:
    """Returns what a process reads of each step's global batch: the rows of its own devices.

    Side by side, the shares of all processes are the global batch in its order.

    Args:
        rows: (K, B), of the global batch.
        index: of the process.
        count: of processes, a divisor of B.

    Returns:
        (K, B / count).
    """
    size = rows.shape[1] // count
    return rows[:, index * size : (index + 1) * size]


def gather(
    images: Array, labels: Array, example_ids: Array, rows: Array, mask: Array | None = None
) -> Batch:
    """Returns a batch of a split that lies on the device; for use inside a compiled step.

    Args:
        images: (N, H, W, C) uint8, or float32 in [0, 1].
        labels: (N,) int32.
        example_ids: (N,) int32.
        rows: (B,) int32 in [0, N).
        mask: (B,) bool, False for rows that only fill up the batch; None: all True.

    Returns:
        A Batch, images float32 in [0, 1].
    """
    if mask is None:
        mask = jnp.ones(rows.shape, bool)
    return Batch(to_float(images[rows]), labels[rows], example_ids[rows], mask)
