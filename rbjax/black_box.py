"""Models that are no JAX functions: any `images -> labels`, called on the host."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rbjax.errors import spelled
from rbjax.inputs import check_integer
from rbjax.typing import Array

Predict = Callable[[np.ndarray], Any]
"""images (B, H, W, C) float32 in [0, 1] -> labels (B,)."""


@dataclasses.dataclass(frozen=True)
class BlackBox:
    """A model of which only its answers are known; made by `black_box`."""

    predict: Predict
    num_classes: int | None = None
    fingerprint: str | None = None

    def identity(self, asked: Any) -> str:
        """Returns what a journal knows it by.

        Raises:
            ValueError: if it has no fingerprint.
        """
        del asked
        if self.fingerprint is None:
            raise ValueError(
                "journal: what a black box does cannot be known; give black_box(predict, "
                "fingerprint=...), a text that changes with the model, such as a digest of its "
                "weights"
            )
        return f"black box {self.fingerprint} {self.num_classes}"

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


def black_box(
    predict: Predict, *, num_classes: int | None = None, fingerprint: str | None = None
) -> BlackBox:
    """Returns a model that is called on the host, in place of a JAX logits function.

    `rpr.score` takes it as it is. With `num_classes` it goes wherever no gradient is needed:
    `run_corruptions`, `evaluate_universal`, `run_attacks` with the square attack; its logits are 1
    for its answer and 0 for the other classes.

    The perturbed images are drawn on the device with the same keys as for a JAX function, and so
    are the same. The model sees batches of a few fixed sizes.

    Args:
        predict: images (B, H, W, C), numpy float32 in [0, 1] -> labels (B,), whole numbers: for a
            scikit-learn estimator `lambda images: estimator.predict(images.reshape(len(images),
            -1))`, for a PyTorch module `lambda images: module(torch.from_numpy(images.transpose(0,
            3, 1, 2).copy())).argmax(1).numpy()` under `torch.no_grad`.
        num_classes: K, at least 2.
        fingerprint: a text that changes with the model, such as a digest of its weights; needed
            where a journal is asked for.

    Returns:
        The model.

    Raises:
        ValueError: if `predict` cannot be called, `num_classes` is below 2, or the fingerprint no
            text.
    """
    if not callable(predict):
        raise ValueError(
            f"predict is a {type(predict).__name__}; it must be a function of images that gives "
            "labels, such as an estimator's predict"
        )
    if num_classes is not None:
        check_integer("num_classes", num_classes, low=2)
    if fingerprint is not None and not (isinstance(fingerprint, str) and fingerprint):
        raise ValueError(f"fingerprint is {spelled(fingerprint)}; it must be a text")
    return BlackBox(predict, num_classes, fingerprint)


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """Raises what a black box is refused for as it is, not as the error of a whole program."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        refusal = re.search(r"ValueError: (the black box gives .*)", str(error))
        if refusal is None:
            raise
        raise ValueError(refusal[1]) from None


def on_the_host(box: BlackBox) -> Callable[[Array], Array]:
    """Returns a black box as a function of JAX arrays that has no gradient."""
    num_classes = box.num_classes
    if num_classes is None:
        raise ValueError(
            "the black box does not say how many classes there are; give black_box(predict, "
            "num_classes=...)"
        )

    def answer(images: Any) -> np.ndarray:
        labels = box.labels(np.asarray(images, np.float32))
        if labels.size and not (labels.min() >= 0 and labels.max() < num_classes):
            raise ValueError(f"the black box gives a label outside 0 to {num_classes - 1}")
        return np.eye(num_classes, dtype=np.float32)[labels]

    @jax.custom_jvp
    def logits(images: Array) -> Array:
        shape = jax.ShapeDtypeStruct((len(images), num_classes), jnp.float32)
        return jax.pure_callback(answer, shape, images)

    @logits.defjvp
    def refuse(primals: Any, tangents: Any) -> Any:
        raise ValueError(
            "a black box has no gradients; it can be attacked by 'square', scored and corrupted"
        )

    return logits
