"""From a dataset to batches: orders, gathering inside a compiled step, evaluation batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rbjax.data.loading import Dataset
from rbjax.data.order import priorities
from rbjax.inputs import UNIT_INTERVAL, to_float
from rbjax.typing import Array, Batch


class DeviceDataset(NamedTuple):
    """A whole split on the devices, the same on each."""

    images: Array
    """(N, H, W, C) uint8."""
    labels: Array
    """(N,) int32."""
    example_ids: Array
    """(N,) int32."""


def epoch_order(num_examples: int, *, seed: int, epoch: int, batch_size: int) -> np.ndarray:
    """Returns the rows of each step of an epoch.

    A pure function of its arguments, so that a resumed run goes on exactly.  A dataset's rows are
    in the order of `example_ids`, so the order does not depend on how the split is stored.

    Args:
        num_examples: N.
        seed: an integer >= 0.
        epoch: an integer >= 0.
        batch_size: B, at most N.

    Returns:
        (N // B, B) int32; no row twice.  The N % B rows that do not fill a batch are left out, and
        are other ones each epoch.

    Raises:
        ValueError: if an argument is out of range.
    """
    if not 1 <= batch_size <= num_examples:
        raise ValueError(
            f"batch_size = {batch_size}: must be in 1..{num_examples}, the number of examples"
        )
    order = np.argsort(
        priorities(np.arange(num_examples), seed=seed, name="epoch", epoch=epoch), kind="stable"
    )
    num_steps = num_examples // batch_size
    return order[: num_steps * batch_size].reshape(num_steps, batch_size).astype(np.int32)


def gather(
    images: Array, labels: Array, example_ids: Array, rows: Array, mask: Array | None = None
) -> Batch:
    """Returns a batch of a split that lies on the device; for use inside a compiled step.

    Args:
        images: (N, H, W, C) uint8.
        labels: (N,) int32.
        example_ids: (N,) int32.
        rows: (B,) int32 in [0, N).
        mask: (B,) bool, False for rows that only fill up the batch; all True.

    Returns:
        A Batch, images float32 in [0, 1].
    """
    if mask is None:
        mask = jnp.ones(rows.shape, bool)
    return Batch(to_float(images[rows]), labels[rows], example_ids[rows], mask)


def replicate(dataset: Dataset) -> DeviceDataset:
    """Returns a whole split on every local device, once each, as uint8.

    Args:
        dataset: of N examples.

    Returns:
        The arrays a training step gathers from (`in_axes=None` under pmap).
    """
    mesh = jax.sharding.Mesh(np.asarray(jax.local_devices()), ("data",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    arrays = (dataset.images[:], dataset.labels, dataset.example_ids)
    return DeviceDataset(*(jax.device_put(x, sharding) for x in arrays))


def batches(dataset: Dataset, batch_size: int) -> Iterator[Batch]:
    """Yields a dataset in batches of one shape, each example exactly once.

    Args:
        dataset: of N examples.
        batch_size: B, at least 1.

    Yields:
        ceil(N / B) Batches in the order of the rows, on the default device.  The last one is filled
        up with its first row, where `mask` is False.

    Raises:
        ValueError: if `batch_size` is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size = {batch_size}: must be at least 1")
    return _batches(dataset, batch_size)


def _batches(dataset: Dataset, batch_size: int) -> Iterator[Batch]:
    for start in range(0, dataset.num_examples, batch_size):
        rows = np.arange(start, start + batch_size)
        mask = rows < dataset.num_examples
        rows = np.where(mask, rows, start)
        images = UNIT_INTERVAL[dataset.images[rows]]
        arrays = (images, dataset.labels[rows], dataset.example_ids[rows], mask)
        yield Batch(*jax.device_put(arrays))
