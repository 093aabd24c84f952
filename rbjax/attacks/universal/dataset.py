"""What crafting and scoring share: checks of a dataset, its order and its blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from rbjax import prng
from rbjax.inputs import ANY_NUMBER, check_image_set, check_labels, logits_shape
from rbjax.typing import Array, Key, LogitsFn


def count_classes(logits_fn: LogitsFn, images: np.ndarray) -> int:
    """Returns the number of classes of a model for a dataset of images, which are checked.

    Raises:
        ValueError: for images of a wrong shape, dtype or range, none at all, or a wrong model.
    """
    return logits_shape(logits_fn, check_image_set(images))[-1]


def check_ids(example_ids: Any, num_examples: int) -> np.ndarray:
    """Returns the examples' ids; None: their row numbers.

    Raises:
        ValueError: for others than one whole number an example.
    """
    ids = np.arange(num_examples) if example_ids is None else np.asarray(example_ids)
    check_labels(ids, num_examples=num_examples, num_classes=ANY_NUMBER, field="example_ids")
    return ids


@jax.jit
def _order_numbers(key: Key, example_ids: Array, epoch: Array) -> Array:
    keys = prng.per_draw(prng.per_example(prng.named(key, "order"), example_ids), epoch)
    return jax.vmap(jax.random.bits)(keys)


def epoch_order(key: Key, example_ids: np.ndarray, epoch: int) -> np.ndarray:
    """Returns the rows in an order that follows from the examples' ids, not from their rows."""
    numbers = np.asarray(_order_numbers(key, example_ids, epoch))
    return np.lexsort((example_ids, numbers))


def batches(rows: np.ndarray, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields (batch_size,) rows and which of them count; the last batch repeats its last row."""
    for start in range(0, len(rows), batch_size):
        block = rows[start : start + batch_size]
        missing = batch_size - len(block)
        yield np.pad(block, (0, missing), mode="edge"), np.arange(batch_size) < len(block)
