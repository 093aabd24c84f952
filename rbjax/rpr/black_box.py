"""Models that are no JAX functions: any `images -> labels`, called on the host."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rbjax.blocks import Placement
from rbjax.inputs import to_float
from rbjax.rpr.lanes import Dataset, Draws, Lanes, hand_over, perturb, unfinished
from rbjax.typing import Key, Perturbation

Predict = Callable[[np.ndarray], Any]
"""images (B, H, W, C) float32 in [0, 1] -> labels (B,)."""


@dataclasses.dataclass(frozen=True)
class BlackBox:
    """A model of which only its answers are known; made by `black_box`."""

    predict: Predict

    def labels(self, images: np.ndarray) -> np.ndarray:
        """Returns what the model says of a batch.

        Args:
            images: (B, H, W, C) float32 in [0, 1].

        Returns:
            (B,) integers.

        Raises:
            ValueError: if the answer is not one whole number an image.
        """
        answer = np.asarray(self.predict(images))
        if answer.shape != images.shape[:1] or not np.issubdtype(answer.dtype, np.number):
            raise ValueError(
                f"the black box gives {answer.dtype} of shape {answer.shape} for {len(images)} "
                f"images; it must give ({len(images)},) whole numbers, a label an image"
            )
        labels = answer.astype(np.int64)
        if not np.array_equal(labels, answer):
            wrong = answer[labels != answer][0]
            raise ValueError(f"the black box gives the label {wrong}; it must be a whole number")
        return labels


def black_box(predict: Predict) -> BlackBox:
    """Returns a model that `rpr.score` calls on the host, in place of a JAX logits function.

    The perturbed images are drawn on the device with the same keys as for a JAX function, and so
    are the same. The model sees batches of a few fixed sizes.

    Args:
        predict: images (B, H, W, C), numpy float32 in [0, 1] -> labels (B,), whole numbers: for a
            scikit-learn estimator `lambda images: estimator.predict(images.reshape(len(images),
            -1))`, for a PyTorch module `lambda images: module(torch.from_numpy(images.transpose(0,
            3, 1, 2).copy())).argmax(1).numpy()` under `torch.no_grad`.

    Returns:
        The model.

    Raises:
        ValueError: if `predict` cannot be called.
    """
    if not callable(predict):
        raise ValueError(
            f"predict is a {type(predict).__name__}; it must be a function of images that gives "
            "labels, such as an estimator's predict"
        )
    return BlackBox(predict)


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
        while unfinished(jax.device_get(lanes), num_rows, num_iterations, enough_lanes):
            images = np.array(_perturb(self.perturbation, key, dataset, lanes))
            failed = self.model.labels(images) != labels[np.asarray(lanes.row)]
            lanes = _hand_over(lanes, failed, num_rows, draws)
        return jax.tree.map(lambda x: x[None], jax.device_get(lanes))


_perturb = functools.partial(jax.jit, static_argnums=0)(perturb)
_hand_over = jax.jit(hand_over)
