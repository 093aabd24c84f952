"""Does the step wait for data where the training set is ten times the memory budget?

    python -m experiments.benchmarks.streaming [--budget=64] [--times=10] [--repeats=3]

A made-up training set of 64 x 64 RGB images, once as a memory-mapped uint8 file and once as JPEG
records that are decoded as they are read, streamed through the training step of `rbjax.train`; and
the same set resident on the device.  Each pass is longer than what is read ahead, and begins with
the file out of the system's cache.  The two take turns, medians over the repeats; one process a
form.  What streaming takes is how much the process's own memory grows (without the pages of the
mapped file, which the system takes back at will) in a pass that holds two blocks, as training does,
and runs no step.  With the steps it is the peak of the first pass, less the peak while the same
steps use one block of zeros again and again; the C library's allocator and XLA's temporary arrays
have a share in that.

Prepared data that are mapped have digests, which are checked as blocks are read for the first time:
what that takes is CPU time of one thread for all of them, and its share of the time of the first
epoch, as if no step ran meanwhile.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import io
import itertools
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from experiments.benchmarks import machine
from rbjax import console, losses, methods, models, prng
from rbjax.blocks import AXIS
from rbjax.data import Dataset, DatasetInfo, augment, digests, streaming
from rbjax.data.order import epoch_order
from rbjax.data.pipeline import Block, Feed, Schedule
from rbjax.training.state import create_state, on_host, place
from rbjax.training.step import Recipe, make_train_step

_SHAPE, _BATCH, _STEPS, _WIDTHS = (64, 64, 3), 128, 4, (8, 8)
_MIB = 2**20


class Encoded:
    """JPEG records in one file, decoded where they are indexed."""

    dtype = np.dtype(np.uint8)

    def __init__(self, path: Path, ends: np.ndarray) -> None:
        """Keeps where the records are.

        Args:
            path: of the records, one after the other.
            ends: (N,) where each ends, in bytes.
        """
        self._records = np.memmap(path, np.uint8, "r")
        self._ends = ends
        self.shape = (len(ends), *_SHAPE)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        from PIL import Image

        images = np.empty((len(rows), *_SHAPE), np.uint8)
        for place_, row in enumerate(rows):
            start = self._ends[row - 1] if row else 0
            record = self._records[start : self._ends[row]].tobytes()
            images[place_] = np.asarray(Image.open(io.BytesIO(record)))
        return images


class Measured(NamedTuple):
    """What one set took."""

    plan: str
    reading: float
    """Images a second that are read where nothing is done with them."""
    streamed: float
    """Seconds a step."""
    resident: float
    started: float
    """Seconds until the first block was there."""
    waited: float
    """Share of the rest of a streamed pass in which the host waited for a block."""
    held: float
    """Growth of the process's own memory where two blocks are held and no step is run, MiB."""
    growth: float
    """Its peak with the steps, over that of the same steps on one block, MiB."""
    checked: float
    """Seconds of one core to check the digests of a GB."""
    share: float
    """Of a streamed epoch's time that the digests of the whole set take."""


class _Pass(NamedTuple):
    seconds: float
    started: float
    waited: float


def write(folder: Path, num_images: int) -> None:
    """Writes the set in both forms: noise on gradients, so that JPEG has something to do."""
    from PIL import Image

    generator = np.random.default_rng(0)
    ramp = np.linspace(0, 160, _SHAPE[0], dtype=np.float32)
    smooth = np.stack([np.add.outer(ramp, ramp) / 2] * 3, -1)
    images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, (num_images, *_SHAPE))
    ends, position = np.empty(num_images, np.int64), 0
    with (folder / "images.records").open("wb") as file:
        for start in range(0, num_images, 1000):
            rows = slice(start, min(start + 1000, num_images))
            noise = generator.integers(0, 64, (rows.stop - start, *_SHAPE), dtype=np.uint8)
            images[rows] = smooth.astype(np.uint8) + noise
            for row in range(start, rows.stop):
                record = io.BytesIO()
                Image.fromarray(images[row]).save(record, "JPEG", quality=90)
                position += file.write(record.getvalue())
                ends[row] = position
        os.fsync(file.fileno())
    images.flush()
    np.save(folder / "ends.npy", ends)


def measure(name: str, folder: Path, budget: int, repeats: int, num_dispatches: int) -> Measured:
    """Measures one form of the set; in a process of its own."""
    devices = jax.local_devices()[:1]
    dataset = _dataset(name, folder)
    plan = streaming.plan(
        dataset.images,
        batch_size=_BATCH,
        steps_per_block=_STEPS,
        devices=devices,
        streaming="always",
        memory_budget=budget,
    )
    num_dispatches = max(num_dispatches, 2 * plan.num_ahead)
    schedule = _schedule(dataset, num_dispatches, plan.steps_per_block)
    train = {
        streamed: _trainer(plan.steps_per_block, streamed=streamed) for streamed in (True, False)
    }
    block = plan.steps_per_block * _BATCH
    zeros = _zeros(1, block, plan.steps_per_block)
    train[True](iter([zeros]))  # compiles

    def streamed() -> _Pass:
        _forget(folder)
        with streaming.feed(dataset, schedule, plan, devices=devices) as feed:
            first = next(feed)
            started = feed.seconds_waited
            seconds = train[True](itertools.chain([first], feed))
        return _Pass(seconds, started, feed.seconds_waited - started)

    held = _held(dataset, schedule, plan, devices)
    with _peak() as without:
        train[True](iter([zeros] * 8))
    with _peak() as peak:
        passes = [streamed()]
    resident = _resident(dataset, folder, schedule, devices)
    train[False](resident(1))  # compiles
    seconds = []
    for _ in range(repeats):
        seconds.append(train[False](resident(num_dispatches)))
        passes.append(streamed())
    num_steps = num_dispatches * plan.steps_per_block
    step = statistics.median(one.seconds for one in passes[1:]) / num_steps
    checked, num_bytes = _checking(folder), np.prod(dataset.images.shape)
    return Measured(
        plan=str(plan),
        reading=_reading(dataset, schedule, plan, devices, folder),
        streamed=step,
        resident=statistics.median(seconds) / num_steps,
        started=statistics.median(one.started for one in passes[1:]),
        waited=statistics.median(one.waited / one.seconds for one in passes[1:]),
        growth=peak[0] - without[0],
        held=held,
        checked=checked,
        share=checked * num_bytes / 1e9 / (dataset.num_examples / _BATCH * step),
    )


def _dataset(name: str, folder: Path) -> Dataset:
    images: Any = np.load(folder / "images.npy", mmap_mode="r")
    if name == "JPEG records":
        images = Encoded(folder / "images.records", np.load(folder / "ends.npy"))
    count = len(images)
    classes = tuple("abcdefghij")
    info = DatasetInfo("made_up", _SHAPE, classes, {"train": count}, (0.5,) * 3, (0.5,) * 3, "", "")
    rows = np.arange(count, dtype=np.int32)
    return Dataset(info, "train", images, rows % 10, rows.astype(np.int64), rows)


def _schedule(dataset: Dataset, num_dispatches: int, size: int) -> Schedule:
    count = dataset.num_examples

    def order(epoch: int) -> np.ndarray:
        return epoch_order(count, seed=0, epoch=epoch, batch_size=_BATCH)

    steps = count // _BATCH // size * size  # no shorter dispatch, which would be compiled too
    epochs = -(-num_dispatches * size // steps)
    start = epochs * steps - num_dispatches * size
    return Schedule(
        order, steps_per_epoch=steps, num_epochs=epochs, steps_per_block=size, start=start
    )


def _trainer(size: int, *, streamed: bool) -> Callable[[Iterator[Block]], float]:
    """Returns what trains on blocks, as `rbjax.train` does, and returns the seconds."""
    channels = (0.5,) * _SHAPE[2]
    model = models.create(
        "simple_cnn", num_classes=10, image_shape=_SHAPE, mean=channels, std=channels,
        axis_name=AXIS, widths=_WIDTHS,
    )  # fmt: skip
    recipe = Recipe(
        model=model,
        method=methods.standard(),
        loss_fn=losses.create("cross_entropy"),
        optimizer=optax.sgd(1e-3),
        augment=augment.create(flip_horizontal=True),
        steps_per_epoch=1000,
    )
    key, devices = prng.key(0), jax.local_devices()[:1]
    step = make_train_step(recipe, key, num_steps=size, devices=devices, streamed=streamed)
    state = create_state(key, model, recipe.method, recipe.optimizer, num_rows=_BATCH)
    carried = [place(on_host(state), devices)]

    def train(blocks: Iterator[Block]) -> float:
        began, pending = time.perf_counter(), None
        for block in blocks:
            state, metrics = step(carried.pop(), *block)
            carried.append(state)
            jax.device_get(pending)
            pending = metrics
        jax.block_until_ready(carried[0].step)
        return time.perf_counter() - began

    return train


def _zeros(num_devices: int, size: int, num_steps: int) -> Block:
    numbers = np.zeros((num_devices, size), np.int32)
    rows = np.zeros((num_devices, num_steps, size // num_steps), np.int32)
    return Block(np.zeros((num_devices, size, *_SHAPE), np.uint8), numbers, numbers, rows)


def _resident(
    dataset: Dataset, folder: Path, schedule: Schedule, devices: list[Any]
) -> Callable[[int], Iterator[Block]]:
    """Returns a function that gives blocks of the whole set, put on the device once."""
    split = [
        jax.device_put(x, devices[0])
        for x in (np.load(folder / "images.npy"), dataset.labels, dataset.example_ids)
    ]

    def blocks(count: int) -> Iterator[Block]:
        for number in range(count):
            yield Block(*split, rows=schedule[number][None])

    return blocks


def _reading(
    dataset: Dataset, schedule: Schedule, plan: streaming.Plan, devices: list[Any], folder: Path
) -> float:
    _forget(folder)
    began = time.perf_counter()
    with streaming.feed(dataset, schedule, plan, devices=devices) as feed:
        _drain(feed)
    return len(schedule) * plan.steps_per_block * _BATCH / (time.perf_counter() - began)


def _checking(folder: Path) -> float:
    images = np.load(folder / "images.npy", mmap_mode="r")
    rows = digests.rows_per_block(_SHAPE)
    known = digests.of_blocks(images, rows)  # and the file is in the system's cache
    began = time.thread_time()
    checked = digests.CheckedImages(images, known, rows=rows, path=folder, remedy="")
    checked.check(np.arange(len(known)))
    return (time.thread_time() - began) / (images.nbytes / 1e9)


def _held(dataset: Dataset, schedule: Schedule, plan: streaming.Plan, devices: list[Any]) -> float:
    with streaming.feed(dataset, schedule, plan, devices=devices) as feed:
        next(feed)  # imports what there is to import
    time.sleep(0.5)  # until reads under way have ended
    before = _own_memory()
    with _peak() as peak, streaming.feed(dataset, schedule, plan, devices=devices) as feed:
        last = None
        for block in itertools.islice(feed, 2 * plan.num_ahead):
            time.sleep(0.1)  # a step's time, so that all that may be read ahead is
            last = block
        del last
    return peak[0] - before


def _drain(feed: Feed) -> None:
    for block in feed:
        jax.block_until_ready(block.images)


def _forget(folder: Path) -> None:
    """Has the system drop the files from its cache, where it can be asked to."""
    if hasattr(os, "posix_fadvise"):
        for path in folder.iterdir():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextlib.contextmanager
def _peak() -> Iterator[list[float]]:
    """Yields a list that holds, in the end, the peak of this process's own memory, MiB."""
    peak, done = [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            peak[0] = max(peak[0], _own_memory())

    thread = threading.Thread(target=watch)
    thread.start()
    yield peak
    done.set()
    thread.join()


def _own_memory() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = [line.split() for line in lines if line.startswith(("RssAnon", "RssShmem"))]
    return sum(int(field[1]) for field in fields) / 1024


@console.steady()
def main() -> None:
    """Writes the set, measures both forms and prints a row each."""
    parser = argparse.ArgumentParser(description="Streaming against a resident training set.")
    parser.add_argument("--budget", type=int, default=64, help="memory budget, MiB")
    parser.add_argument("--times", type=int, default=10, help="size of the set in budgets")
    parser.add_argument("--repeats", type=int, default=3, help="timings of each")
    parser.add_argument("--dispatches", type=int, default=16, help="of four steps, a pass, least")
    arguments = parser.parse_args()
    budget = arguments.budget
    num_images = arguments.times * budget * _MIB // int(np.prod(_SHAPE))
    print(f"{machine.describe()}\n")
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write(folder, num_images)
        sizes = {path.name: path.stat().st_size / _MIB for path in sorted(folder.iterdir())}
        print(f"{num_images:,} images of {_SHAPE}, simple_cnn {_WIDTHS}, batches of {_BATCH}")
        print("on disk, MiB: " + ", ".join(f"{name} {size:,.0f}" for name, size in sizes.items()))
        for name in ("memory map", "JPEG records"):
            task = (name, folder, budget, arguments.repeats, arguments.dispatches)
            with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
                found = pool.submit(measure, *task).result()
            print(f"\n{name}: {found.plan}; budget {budget} MiB")
            print(f"  ms a step: streamed {1e3 * found.streamed:.1f}, ", end="")
            print(f"resident {1e3 * found.resident:.1f}, ratio ", end="")
            print(f"{found.streamed / found.resident:.3f}")
            rate = _BATCH / found.streamed
            print(f"  waited for data: {found.waited:.2%} of the time, ", end="")
            print(f"after {1e3 * found.started:.0f} ms for the first block")
            print(f"  images/s: trained {rate:,.0f}, read alone {found.reading:,.0f}", end="")
            print(f" ({found.reading / rate:.1f} times)")
            if name == "memory map":
                print(f"  digests: {found.checked:.2f} s a GB on one core, ", end="")
                print(f"{found.share:.2%} of the first epoch")
            print(f"  memory that streaming took: {found.held:.0f} MiB; ", end="")
            print(f"peak with the steps over one block's: {found.growth:.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
