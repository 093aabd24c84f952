"""Scoring a black box: perturbations are drawn on a device, and it is asked on the host."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rbjax.black_box import BlackBox
from rbjax.blocks import Placement
from rbjax.captures import static_first
from rbjax.inputs import to_float
from rbjax.rpr.lanes import Dataset, Draws, Lanes, failures, hand_over, perturb, unfinished
from rbjax.typing import Key, Perturbation


class OnHost(NamedTuple):
    """The runner of a black box: draws on one device, answers from the host."""

    placement: Placement
    model: BlackBox
    perturbation: Perturbation

    @property
    def num_devices(self) -> int:
        """Devices a block is dealt to."""
        return 1

    def place(self, tree: Any) -> Any:
        """Returns the one device's share, on it."""
        share = jax.tree.map(lambda x: np.asarray(x)[0], tree)
        return jax.device_put(share, self.placement.devices[0])

    def classify(self, key: Key, dataset: Dataset, batch_size: int) -> np.ndarray:
        """Returns (1, R) bool, whether each image is correctly classified as it is."""
        del key
        labels, num_slots = np.asarray(dataset.labels), dataset.labels.shape[0]
        predicted = np.zeros(num_slots, np.int64)
        for first in range(0, num_slots, batch_size):
            # The last batch is padded with the last image, so that all have one size.
            rows = np.minimum(np.arange(first, first + batch_size), num_slots - 1)
            predicted[rows] = self.model.labels(np.array(to_float(dataset.images[rows])))
        return (predicted == labels)[None]

    def advance(
        self,
        key: Key,
        dataset: Dataset,
        lanes: Lanes,
        draws: Draws,
        num_iterations: int,
        enough_lanes: int,
    ) -> Lanes:
        """Returns the lanes after `rpr.lanes.advance`, on the host."""
        labels, num_rows = np.asarray(dataset.labels), int(dataset.num_rows)
        lanes = self.place(lanes)._replace(iterations=jnp.int32(0))
        while unfinished(num_rows, num_iterations, enough_lanes, jax.device_get(lanes)):
            images = np.array(_perturb(self.perturbation, key, dataset, lanes))
            failed = failures(self.model.labels(images), images, labels[np.asarray(lanes.row)])
            lanes = _hand_over(lanes, failed, num_rows, draws)
        return jax.tree.map(lambda x: x[None], jax.device_get(lanes))


_perturb = static_first(perturb, functools.partial(jax.jit, static_argnums=0))
_hand_over = jax.jit(hand_over)
