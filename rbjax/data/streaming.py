"""Training sets that do not fit on a device: Grain reads ahead, a block of steps at a time.

Grain's threads read and decode blocks in the order of the schedule and hold a bounded number of
them ready; the next one is copied to the devices while the step before it runs.  Threads and not
processes: slicing a memory map and decoding JPEG or PNG both release Python's lock, nothing has to
be pickled or copied between processes, and no process has to be killed.

Grain's iterator state is not kept in checkpoints: it is the number of blocks handed out, which
follows from the step, whatever the size of the blocks.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rbjax.blocks import Placement
from rbjax.data.images import base
from rbjax.data.loading import Dataset
from rbjax.data.pipeline import Block, Feed, Schedule, of_process, per_device, resident
from rbjax.typing import Device

_MIB = 2**20
_DEVICE_SHARE = 4
"""A split may take a quarter of an accelerator's memory; the rest is for the model."""
_CPU_BUDGET = 2048 * _MIB
_IN_USE = 3
"""Blocks besides those read ahead: one in a step, one on its way to it, one being handed over."""
_MOST_THREADS, _MOST_AHEAD = 16, 32
_NUMBERS = 2 * np.dtype(np.int32).itemsize
"""Bytes of an example's label and id."""


class Plan(NamedTuple):
    """How a training set reaches the devices."""

    streamed: bool
    num_bytes: int
    """Of all its images."""
    steps_per_block: int
    block_bytes: int = 0
    num_ahead: int = 0
    """Blocks that are read before they are needed."""
    num_threads: int = 0

    def __str__(self) -> str:
        size = f"{self.num_bytes / _MIB:,.{0 if self.num_bytes >= 10 * _MIB else 1}f} MiB"
        if not self.streamed:
            return f"{size} of images on each device"
        steps = f"{self.steps_per_block} step{'s' if self.steps_per_block > 1 else ''}"
        return (
            f"streaming {size} in blocks of {steps}, {self.block_bytes / _MIB:,.1f} MiB each, "
            f"{self.num_ahead} read ahead by {self.num_threads} threads"
        )


def plan(
    images: Any,
    *,
    batch_size: int,
    steps_per_block: int,
    devices: Sequence[Device],
    streaming: str = "auto",
    memory_budget: int | None = None,
    num_processes: int = 1,
) -> Plan:
    """Chooses whether a training set is streamed, and how, within a budget of memory.

    A set within the budget is kept on the devices. If it is streamed, the blocks that are read
    ahead, handed over and in use stay within the budget together.

    Args:
        images: (N, H, W, C) uint8 or float32; an array, a memory map, or whatever is indexed like
            one.
        batch_size: B, over all processes.
        steps_per_block: the most steps of a dispatch; fewer if the budget requires it.
        devices: the local devices; on CPU they share one memory, and each has a copy of the set.
        streaming: "auto"; "always", stream; "never", refuse a set that is larger than the budget.
        memory_budget: MiB; None: a quarter of an accelerator's memory, 2 GiB on CPU.
        num_processes: that share each batch.

    Returns:
        The plan; str(plan) is one phrase for a log.

    Raises:
        ValueError: if the set is too large for "never", or the budget too small to stream.
    """
    budget = default_budget(devices[0]) if memory_budget is None else memory_budget * _MIB
    num_bytes = int(np.prod(images.shape, dtype=np.int64)) * images.dtype.itemsize
    copies = len(devices) if devices[0].platform == "cpu" else 1
    fits = copies * num_bytes <= budget
    if streaming == "never" and not fits:
        raise ValueError(
            f"dataset.streaming = 'never': the training images take "
            f"{copies * num_bytes / _MIB:,.0f} MiB, the memory budget is {budget / _MIB:,.0f} MiB; "
            "set dataset.streaming = auto, or a larger dataset.memory_budget"
        )
    if streaming == "never" or (streaming == "auto" and fits):
        return Plan(streamed=False, num_bytes=num_bytes, steps_per_block=steps_per_block)
    step_bytes = batch_size // num_processes * (num_bytes // len(images) + _NUMBERS)
    threads = min(max(2, os.cpu_count() or 1), _MOST_THREADS)
    size = steps_per_block
    while size > 1 and budget // (size * step_bytes) < _IN_USE + threads:
        size //= 2
    num_ahead = min(budget // (size * step_bytes) - _IN_USE, _MOST_AHEAD)
    if num_ahead < 1:
        least = -(-(_IN_USE + 1) * step_bytes // _MIB)
        raise ValueError(
            f"dataset.memory_budget = {budget // _MIB}: streaming needs {least} MiB, "
            f"{_IN_USE + 1} batches; raise it, or lower batch_size"
        )
    return Plan(True, num_bytes, size, size * step_bytes, num_ahead, min(threads, num_ahead))


def default_budget(device: Device) -> int:
    """Returns the default memory budget of a training set, in bytes."""
    stats = device.memory_stats() or {}
    return stats["bytes_limit"] // _DEVICE_SHARE if "bytes_limit" in stats else _CPU_BUDGET


def feed(
    dataset: Dataset,
    schedule: Schedule,
    plan: Plan,
    *,
    devices: Sequence[Device],
    process: tuple[int, int] = (0, 1),
) -> Feed:
    """Returns the blocks of a schedule, resident or streamed; a context that ends the reading.

    A read that is under way when the context ends is finished by its thread and dropped.

    Args:
        dataset: the training set.
        schedule: which rows of it each dispatch uses; of `plan.steps_per_block` steps.
        plan: how it reaches the devices.
        devices: the local devices.
        process: index and number of the processes that share each batch.

    Returns:
        An iterator of Blocks, which raises a ValueError that names the row if an example cannot be
        read.
    """
    if not plan.streamed:
        return Feed(resident(dataset, schedule, num_devices=len(devices), process=process))
    reader = _Reader(dataset, len(devices), process)
    placement = Placement(devices)

    def stream() -> Generator[Block]:
        import grain  # 1.5 s, and only where something is streamed

        options = grain.ReadOptions(plan.num_threads, plan.num_ahead)
        blocks = iter(grain.MapDataset.source(schedule).map(reader).to_iter_dataset(options))
        try:
            for block in blocks:
                yield Block(*placement.split(tuple(block)))
        except ValueError as error:
            raise ValueError(f"{error}") from None  # without the notes on Grain's insides
        finally:
            blocks.close()

    return Feed(stream())


class _Reader:
    """From the rows of a dispatch to a block on the host; called by several threads."""

    def __init__(self, dataset: Dataset, num_devices: int, process: tuple[int, int]) -> None:
        self._dataset, self._num_devices = dataset, num_devices
        self._index, self._count = process

    def __call__(self, rows: np.ndarray) -> Block:
        rows = of_process(rows, index=self._index, count=self._count)
        rows = per_device(rows, self._num_devices)
        own = rows.reshape(self._num_devices, -1)
        images = self._images(own.ravel()).reshape(*own.shape, *self._dataset.images.shape[1:])
        places = np.arange(own.shape[1], dtype=np.int32).reshape(rows.shape[1:])
        return Block(
            images,
            self._dataset.labels[own],
            self._dataset.example_ids[own],
            np.broadcast_to(places, rows.shape),
        )

    def _images(self, rows: np.ndarray) -> np.ndarray:
        """Returns the images of some rows in memory that goes back to the system once it is freed.

        The C library's allocator keeps and scatters blocks that one thread allocates and another
        frees: twice the budget (measured).  Whole pages also need no copy to become a CPU's array.
        """
        stored = base(self._dataset.images)
        if isinstance(stored, np.memmap) and stored.filename is not None:
            # Reading a map of a truncated file would end the process (SIGBUS).
            path, needed = Path(stored.filename), stored.offset + stored.nbytes
            size = path.stat().st_size if path.exists() else needed  # deleted: the map still has it
            if size < needed:
                raise ValueError(f"{path} is truncated: {size:,} bytes of at least {needed:,}")
        shape, dtype = (len(rows), *self._dataset.images.shape[1:]), self._dataset.images.dtype
        pages = mmap.mmap(-1, math.prod(shape) * dtype.itemsize)
        images = np.frombuffer(pages, dtype).reshape(shape)
        size = max(_MIB // images[0].nbytes, 1)  # decoded images are in memory twice
        try:
            for start in range(0, len(rows), size):
                images[start : start + size] = self._dataset.images[rows[start : start + size]]
        except Exception as error:  # a reader of the user's own may raise anything
            raise self._failure(rows, error) from None
        return images

    def _failure(self, rows: np.ndarray, error: Exception) -> ValueError:
        """Returns the error of a failed read: it names the first row that fails by itself."""
        where = f"{self._dataset.info.name} {self._dataset.split}"
        for row in rows.tolist():
            try:
                self._dataset.images[np.array([row])]
            except Exception as own:
                return ValueError(
                    f"{where}: row {self._dataset.index[row]} cannot be read: {_said(own)}"
                )
        return ValueError(f"{where}: images could not be read: {_said(error)}")


def _said(error: Exception) -> str:
    return f"{error}" if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
