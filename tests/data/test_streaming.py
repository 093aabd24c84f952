"""Streaming: the batches of a resident set, read ahead within a budget, and clear failures."""

import dataclasses
import subprocess
import sys
import threading
import time
from typing import Any

import jax
import numpy as np
import pytest
from jax.tree_util import Partial

from rbjax import attacks, perturbations, rpr
from rbjax.attacks.universal import deepfool
from rbjax.data import Dataset, DatasetInfo, streaming
from rbjax.data.images import take
from rbjax.data.order import epoch_order
from rbjax.data.pipeline import Schedule, of_process, per_device
from rbjax.training.predict import predict

N, BATCH, SHAPE = 100, 16, (6, 6, 1)
STEPS = N // BATCH


class Decoded:
    """Images that are made where they are indexed; they say how much was asked for, and refuse."""

    dtype = np.dtype(np.uint8)

    def __init__(self, images: np.ndarray, *, broken: int | None = None, seconds: float = 0.0):
        self._images, self._broken, self._seconds = images, broken, seconds
        self.shape, self.largest, self.num_reads = images.shape, 0, 0

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, rows: Any) -> np.ndarray:
        time.sleep(self._seconds)
        self.num_reads += 1
        self.largest = max(self.largest, np.size(np.arange(len(self))[rows]))
        if self._broken is not None and np.any(np.asarray(rows) == self._broken):
            raise OSError(f"image-{self._broken}.jpg: broken data stream")
        return self._images[rows]

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise AssertionError("the whole array was asked for")


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    generator = np.random.default_rng(0)
    info = DatasetInfo("made_up", SHAPE, ("a", "b", "c"), {"train": N}, (0.5,), (0.25,), "", "")
    return Dataset(
        info=info,
        split="train",
        images=generator.integers(0, 256, (N, *SHAPE), dtype=np.uint8),
        labels=generator.integers(0, 3, N).astype(np.int32),
        index=generator.permutation(N) + 1000,
        example_ids=np.arange(N, dtype=np.int32),
    )


def order(epoch: int) -> np.ndarray:
    return epoch_order(N, seed=3, epoch=epoch, batch_size=BATCH)


def schedule(start: int = 0, size: int = 4, num_epochs: int = 3) -> Schedule:
    return Schedule(
        order, steps_per_epoch=STEPS, num_epochs=num_epochs, steps_per_block=size, start=start
    )


def plan(images: Any, devices: int = 2, **options: Any) -> streaming.Plan:
    options = {"streaming": "always", "memory_budget": 1, "steps_per_block": 4} | options
    return streaming.plan(
        images, batch_size=BATCH, devices=jax.local_devices()[:devices], **options
    )


def stream(dataset: Dataset, rows: Schedule, devices: int = 2, **keywords: Any):
    return streaming.feed(
        dataset,
        rows,
        plan(dataset.images),
        devices=jax.local_devices()[:devices],
        **keywords,
    )


def workers() -> list[str]:
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if "grain" in name]


def assert_no_workers() -> None:
    deadline = time.monotonic() + 10
    while workers():
        assert time.monotonic() < deadline, workers()
        time.sleep(0.01)


@pytest.mark.parametrize("start", [0, 3, 5, 6, 13, 17, 18])
def test_a_schedule_goes_on_from_any_step(start):
    whole = np.concatenate([order(epoch) for epoch in range(3)])
    blocks = list(schedule(start))
    assert len(blocks) == len(schedule(start))
    assert all(1 <= len(block) <= 4 for block in blocks)
    np.testing.assert_array_equal(np.concatenate([np.empty((0, BATCH)), *blocks]), whole[start:])
    ends = start + np.cumsum([len(block) for block in blocks])
    assert set(range(STEPS, 3 * STEPS + 1, STEPS)) - set(range(start + 1)) <= set(ends.tolist())


def test_an_epochs_order_is_worked_out_once():
    asked = []

    def counted(epoch: int) -> np.ndarray:
        asked.append(epoch)
        return order(epoch)

    rows = Schedule(counted, steps_per_epoch=STEPS, num_epochs=3, steps_per_block=2)
    assert asked == []
    list(rows)
    assert asked == [0, 1, 2]


def test_streamed_blocks_hold_what_a_resident_set_gathers(dataset):
    rows = schedule(start=5)
    places = plan(dataset.images, streaming="never")
    devices = jax.local_devices()[:2]
    resident = streaming.feed(dataset, rows, places, devices=devices)
    with stream(dataset, rows) as streamed, resident:
        pairs = list(zip(resident, streamed, strict=True))
    assert len(pairs) == len(rows)
    own: Any
    for block, own in pairs:
        assert own.images.dtype == np.uint8
        assert own.images.sharding.device_set == set(devices)
        for device in range(2):
            expected, found = np.asarray(block.rows)[device], np.asarray(own.rows)[device]
            for whole, part in zip(block[:3], own[:3], strict=True):
                np.testing.assert_array_equal(
                    np.asarray(part)[device][found], np.asarray(whole)[expected]
                )
    assert streamed.seconds_waited > 0
    assert_no_workers()


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_shares_of_all_processes_are_the_global_batch_in_its_order(count):
    rows = order(0)[:3]
    shares = [of_process(rows, index=i, count=count) for i in range(count)]
    np.testing.assert_array_equal(np.concatenate(shares, axis=1), rows)
    # As one process with all the devices would deal them.
    dealt = np.concatenate([per_device(share, 4 // count) for share in shares])
    np.testing.assert_array_equal(dealt, per_device(rows, 4))


def test_a_process_reads_its_share_alone(dataset):
    images = Decoded(dataset.images)
    rows = schedule(num_epochs=1)
    with stream(dataclasses.replace(dataset, images=images), rows, process=(1, 2)) as blocks:
        found = list(blocks)
    assert images.largest == 4 * BATCH // 2
    share = [of_process(block, index=1, count=2) for block in rows]
    for block, own in zip(found, share, strict=True):
        expected = per_device(own, 2).reshape(2, -1)
        np.testing.assert_array_equal(block.example_ids, dataset.example_ids[expected])


def test_what_is_read_ahead_stays_within_the_budget():
    images = np.lib.stride_tricks.as_strided(  # 10 GiB that take one byte
        np.zeros(1, np.uint8), (50_000, 256, 256, 3), (0, 0, 0, 0)
    )
    for budget in (16, 50, 64, 500, 4000):
        found = plan(images, memory_budget=budget)
        assert found.streamed
        assert 1 <= found.num_threads <= found.num_ahead
        assert found.block_bytes >= found.steps_per_block * BATCH * 256 * 256 * 3
        assert (found.num_ahead + 3) * found.block_bytes <= budget * 2**20
    assert plan(images, memory_budget=4000).steps_per_block == 4
    assert plan(images, memory_budget=16).steps_per_block == 1
    assert "streaming 9,375 MiB in blocks of 4 steps, 12.0 MiB each" in str(found)
    with pytest.raises(ValueError, match=r"dataset.memory_budget = 12: streaming needs 13 MiB, 4"):
        plan(images, memory_budget=12)


def test_no_more_is_read_than_the_plan_says(dataset):
    images = Decoded(np.zeros((N, 64, 64, 3), np.uint8))
    small = dataclasses.replace(dataset, images=images)
    rows = schedule(num_epochs=50, size=1)
    place = plan(images, memory_budget=2, steps_per_block=1)
    with streaming.feed(small, rows, place, devices=jax.local_devices()[:2]) as blocks:
        next(blocks)
        time.sleep(0.3)
        assert 1 < images.num_reads <= place.num_ahead + 1
    assert_no_workers()


@pytest.mark.parametrize(
    ("mode", "budget", "devices", "streamed"),
    [
        ("auto", 2, 1, False),
        ("auto", 2, 2, True),  # a copy each, in one memory
        ("auto", 1, 1, True),
        ("always", 2, 1, True),
        ("never", 2, 1, False),
        ("auto", None, 1, False),
    ],
)
def test_the_size_or_the_config_chooses(mode, budget, devices, streamed):
    images = np.zeros((N, 16_000, 1, 1), np.uint8)  # 1.53 MiB
    found = plan(images, devices, streaming=mode, memory_budget=budget, steps_per_block=1)
    assert found.streamed == streamed


def test_a_set_that_does_not_fit_is_refused_where_it_may_not_stream():
    images = np.zeros((N, 16_000, 1, 1), np.uint8)
    with pytest.raises(ValueError, match=r"streaming = 'never'.*take 2 MiB.*budget is 1 MiB"):
        plan(images, 1, streaming="never")


def test_an_accelerators_budget_follows_from_its_memory():
    class Accelerator:
        platform = "gpu"

        def memory_stats(self):
            return {"bytes_limit": 4 * 2**20}

    images: Any = np.zeros((N, 16_000, 1, 1), np.uint8)
    devices: Any = [Accelerator()] * 8
    options = {"batch_size": 8, "steps_per_block": 1, "devices": devices}
    assert streaming.plan(images, **options).streamed
    assert not streaming.plan(images[:60], **options).streamed  # once on each, not eight times


def test_an_example_that_cannot_be_read_is_named(dataset):
    broken = dataclasses.replace(dataset, images=Decoded(dataset.images, broken=17))
    message = rf"made_up train: row {dataset.index[17]} cannot be read: OSError: image-17.jpg"
    with stream(broken, schedule()) as blocks, pytest.raises(ValueError, match=message) as caught:
        list(blocks)
    assert not getattr(caught.value, "__notes__", [])
    assert_no_workers()


def test_a_file_that_was_cut_is_named(dataset, tmp_path):
    path = tmp_path / "images.npy"
    np.save(path, dataset.images)
    mapped = np.load(path, mmap_mode="r")
    with stream(dataclasses.replace(dataset, images=mapped), schedule()) as blocks:
        np.testing.assert_array_equal(next(blocks).labels.shape, (2, 4 * BATCH // 2))
    with path.open("r+b") as file:
        file.truncate(1000)
    message = r"images.npy is truncated: 1,000 bytes of at least 3,728"
    for images in (mapped, take(mapped, np.arange(N))):
        cut = dataclasses.replace(dataset, images=images)
        with stream(cut, schedule()) as blocks, pytest.raises(ValueError, match=message):
            list(blocks)


def test_an_interrupt_ends_the_workers(dataset):
    slow = dataclasses.replace(dataset, images=Decoded(dataset.images, seconds=0.05))
    seen = []

    def interrupted() -> None:
        with stream(slow, schedule(num_epochs=100)) as blocks:
            next(blocks)
            seen.extend(workers())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert seen
    assert_no_workers()


def test_grain_is_imported_only_where_something_is_streamed():
    code = "import sys, rbjax.train; sys.exit('grain' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_evaluation_and_scoring_read_images_in_blocks(dataset, monkeypatch):
    """None of them takes the whole of what is only decoded where it is indexed."""
    weights = np.random.default_rng(1).normal(size=(36, 3)).astype(np.float32)
    logits_fn = Partial(linear, weights)
    images: Any = Decoded(dataset.images)
    lazy = dataclasses.replace(dataset, images=images)
    args = (logits_fn, jax.random.key(0), images, dataset.labels)
    found = predict(logits_fn, lazy, batch_size=16)
    np.testing.assert_array_equal(found, predict(logits_fn, dataset, batch_size=16))
    suite = attacks.run_attacks(*args, attacks={"fgsm": attacks.fgsm(epsilon=0.1)}, batch_size=16)
    np.testing.assert_array_equal(suite.clean, found)
    noise = perturbations.random_pixels(max_pixels=2)
    rpr.score(*args, max_steps=2, perturbation=noise, batch_size=16, block_size=16)
    crafted = attacks.craft_universal(*args, epsilon=0.1, num_epochs=1, batch_size=16)
    attacks.evaluate_universal(logits_fn, images, dataset.labels, crafted.delta, batch_size=16)
    monkeypatch.setattr(deepfool, "_BLOCK", 16)
    attacks.craft_universal_deepfool(*args[:3], epsilon=0.1, max_passes=1, batch_size=16)
    assert images.largest == 16


def linear(weights, images):
    return images.reshape(len(images), -1) @ weights
