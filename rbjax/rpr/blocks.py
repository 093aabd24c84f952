"""Images in blocks of one size, for what is compiled once and run on the host's datasets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from rbjax import prng
from rbjax.inputs import ANY_NUMBER, check_dataset, logits_shape
from rbjax.typing import Key, LogitsFn

"""One more than the largest int32."""


def run_blocks(function: Callable[[np.ndarray], Any], num_rows: int, block_size: int) -> Any:
    """Returns a function's results on rows 0 to `num_rows - 1`, taken in blocks.

    Args:
        function: rows (block_size,) -> a pytree of arrays (block_size, ...) on a device; the last
            block is filled up with the last row.
        num_rows: at least 1.
        block_size: rows of a call.

    Returns:
        The pytree, of numpy arrays (num_rows, ...).
    """
    parts = []
    for start in range(0, num_rows, block_size):
        rows = np.minimum(np.arange(start, start + block_size), num_rows - 1)
        parts.append(jax.device_get(function(rows)))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:num_rows], *parts)


def check_input(
    logits_fn: LogitsFn | None,
    images: Any,
    labels: np.ndarray,
    *,
    key: Key | None = None,
    example_ids: np.ndarray | None = None,
) -> None:
    """Checks what comes from a person: images, their labels, and what makes their keys.

    Args:
        logits_fn: images -> logits (B, K); None where only its answers are known.
        images: (N, H, W, C) uint8, or floating in [0, 1]; of what is not in memory, such as a
            memory map, only shape and type are checked.
        labels: (N,) integers, the true classes.
        key: one key; None where nothing is drawn.
        example_ids: (N,) integers; None where nothing is drawn.

    Raises:
        ValueError: for what is wrong.
    """

    def count_classes(image: jax.ShapeDtypeStruct) -> int:
        return ANY_NUMBER if logits_fn is None else logits_shape(logits_fn, image)[1]

    check_dataset(images, labels, count_classes=count_classes, example_ids=example_ids)
    if key is not None:
        prng.check_one(key)
