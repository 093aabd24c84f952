"""Rows of a dataset in batches of a few fixed sizes, split over the devices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rbjax import checks
from rbjax import journal as journals
from rbjax.inputs import UNIT_INTERVAL, check_images, to_float
from rbjax.typing import Array, Key

_BATCH_SIZES = {"cpu": 128}
_LARGER_BATCH = 1024
"""Of every platform but the CPU, on each device."""
_MOST_SIZES = 8
"""The smallest batch is an eighth of the full one: each size is compiled for each attack."""
_MOST_WASTE = 0.75
"""A batch that would be filled less than this is made smaller."""


class Batches:
    """How the rows of a dataset are put together; the last ones fill batches of half the size."""

    def __init__(
        self, num_rows: int, batch_size: int | None, devices: Sequence[Any] | None
    ) -> None:
        """Chooses sizes that the devices divide.

        Args:
            num_rows: rows there are.
            batch_size: rows at once, over all devices; None: by the platform.
            devices: the devices; None: all local ones.

        Raises:
            ValueError: for a size below 1, or no device.
        """
        if devices is not None and not len(devices):
            raise ValueError("devices is empty; give at least one, or None for all local ones")
        devices = list(jax.local_devices() if devices is None else devices)
        if batch_size is None:
            batch_size = _BATCH_SIZES.get(devices[0].platform, _LARGER_BATCH * len(devices))
        most = min(checks.integer("batch_size", batch_size, low=1), num_rows)
        self._unit = len(devices)
        self.size = -(-most // self._unit) * self._unit
        self._least = max(self.size // _MOST_SIZES, self._unit)
        mesh = Mesh(np.asarray(devices), ("data",))
        self._sharding = NamedSharding(mesh, PartitionSpec("data"))
        self._same = NamedSharding(mesh, PartitionSpec())

    def split(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
        """Yields rows in batches, each with how many count; the last is repeated to fill one.

        Few sizes occur, the full one and its halves: each is compiled once.
        """
        start, size = 0, self.size
        while start < len(rows):
            left = len(rows) - start
            half = size // 2
            if left < _MOST_WASTE * size and half >= self._least and half % self._unit == 0:
                size = half
                continue
            taken = rows[start : start + size]
            yield np.pad(taken, (0, size - len(taken)), mode="edge"), len(taken)
            start += size

    def block(self, images: Any, rows: np.ndarray) -> tuple[np.ndarray, Array]:
        """Returns one batch of full size, read and checked.

        Args:
            images: (N, H, W, C) uint8, or floating in [0, 1]; whatever is indexed by row numbers.
            rows: (B,) of at most `size`.

        Returns:
            The rows with the last one repeated until they are `size`, and their images on the
            devices, float32 in [0, 1].

        Raises:
            ValueError: for values outside [0, 1].
        """
        own = np.asarray(images[rows])
        check_images(own)
        missing = self.size - len(rows)
        filled = np.pad(self.to_float(own), ((0, missing), (0, 0), (0, 0), (0, 0)), mode="edge")
        return np.pad(rows, (0, missing), mode="edge"), self.place(filled)

    def describe(
        self, key: Key, images: Any, labels: np.ndarray, example_ids: np.ndarray, model: Any
    ) -> dict[str, Any]:
        """Returns what the header of a journal says of a model on a dataset.

        Args:
            key: one key.
            images: as for `block`.
            labels: (N,) integers.
            example_ids: (N,) integers.
            model: images -> logits; known by what it computes of a few of the images.

        Returns:
            JSON.
        """
        return {
            "key": np.asarray(jax.random.key_data(key)),
            **journals.about_data(images, labels, example_ids),
            "batch_size": self.size,
            "model": journals.identity(model, to_float(journals.sample(images))),
        }

    def place(self, tree: Any) -> Any:
        """Returns arrays (B, ...) on the devices, each with its share of the rows."""
        return jax.device_put(tree, self._sharding)

    def replicate(self, tree: Any) -> Any:
        """Returns a pytree of arrays on the devices, the whole of it on each."""
        return jax.device_put(tree, self._same)

    def to_float(self, images: np.ndarray) -> np.ndarray:
        """Returns images as float32 in [0, 1] on the host, uint8 as exactly x / 255."""
        if images.dtype == np.uint8:
            return UNIT_INTERVAL[images]
        return np.array(images, np.float32)
