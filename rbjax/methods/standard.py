"""Standard training: the model sees the images as they are."""

from __future__ import annotations

from rbjax.training.state import Method, MethodState
from rbjax.typing import Array, Key, LogitsFn


def standard() -> Method:
    """Returns empirical risk minimisation, min_w E loss(f_w(x), y)."""
    return Method(init=_init, perturb=_perturb)


def _init(key: Key, image_shape: tuple[int, ...], num_rows: int) -> MethodState:
    del key, image_shape, num_rows
    return MethodState(replicated=(), per_row=())


def _perturb(
    logits_fn: LogitsFn, keys: Key, state: MethodState, images: Array, labels: Array
) -> Array:
    del logits_fn, keys, state, labels
    return images
