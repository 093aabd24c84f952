"""Images in blocks of one size, for what is compiled once and run on the host's datasets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rbjax import prng
from rbjax.inputs import check_images, check_labels, logits_shape
from rbjax.typing import Key, LogitsFn

_ANY_NUMBER = 2**31
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
    in_memory = isinstance(images, np.ndarray) and not isinstance(images, np.memmap)
    check_images(images if in_memory else images[:0])
    if len(images) == 0:
        raise ValueError("images holds no image; there must be at least one")
    num_classes = _ANY_NUMBER
    if logits_fn is not None:
        image = jax.ShapeDtypeStruct((1, *images.shape[1:]), jnp.float32)
        num_classes = logits_shape(logits_fn, image)[1]
    check_labels(labels, num_examples=len(images), num_classes=num_classes)
    if num_classes < 2:
        raise ValueError("logits_fn has one class; there must be at least two")
    if key is not None and prng.broadcast(key, 1) is key:
        raise ValueError(f"key has shape {key.shape}; it must be one key")
    if example_ids is not None:
        check_labels(
            example_ids, num_examples=len(images), num_classes=_ANY_NUMBER, field="example_ids"
        )
