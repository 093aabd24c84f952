"""Models that are no JAX functions: `images -> labels`, or logits, called on the host."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
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
Scores = Callable[[np.ndarray], np.ndarray]
"""images (B, H, W, C) float32 in [0, 1] -> logits (B, K)."""


@dataclasses.dataclass(frozen=True)
class BlackBox:
    """A model of which only its answers are known; made by `black_box` and `wrap`."""

    predict: Predict
    num_classes: int | None = None
    fingerprint: str | None = None
    scores: Scores | None = None
    """Of a model whose logits are known; None: its logits are 1 for its answer, else 0."""
    gradient: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    """(images, cotangents (B, K)) -> cotangents of the images, (B, H, W, C); None: it has none."""
    what: str = "a black box"
    """The model, for messages."""
    digest: Callable[[], str | None] | None = None
    """Gives a text that changes with the model's weights of the moment; None: they are unknown."""

    def identity(self, asked: Any) -> str:
        """Returns what a journal knows it by: its fingerprint, or a digest of its weights.

        What it answers for a few images would not do: two trees may agree on all of them.

        Raises:
            ValueError: if it has neither.
        """
        del asked
        if self.fingerprint is not None:
            return f"black box {self.fingerprint} {self.num_classes}"
        known = None if self.digest is None else self.digest()
        if known is None:
            maker = "black_box(predict, " if self.digest is None else "wrap(model, "
            raise ValueError(
                f"journal: what {self.what} does cannot be known; give {maker}fingerprint=...), a "
                "text that changes with the model, such as a digest of its weights"
            )
        return f"{self.what} {known}"

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
    check_fingerprint(fingerprint)
    return BlackBox(predict, num_classes, fingerprint)


def check_fingerprint(fingerprint: Any) -> None:
    """Raises a ValueError for what is no text."""
    if fingerprint is not None and not (isinstance(fingerprint, str) and fingerprint):
        raise ValueError(f"fingerprint is {spelled(fingerprint)}; it must be a text")


def without_gradient(
    logits_fn: Callable[..., Array], what: str = "a black box"
) -> Callable[..., Array]:
    """Returns a function of JAX arrays that says what to do where its gradient is asked for.

    Args:
        logits_fn: of which there is no gradient.
        what: the model, for the message.
    """

    @jax.custom_jvp
    def logits(*arguments: Any) -> Array:
        return logits_fn(*arguments)

    @logits.defjvp
    def refuse(primals: Any, tangents: Any) -> Any:
        raise ValueError(
            f"{what} has no gradients; it can be attacked by 'square', scored and corrupted"
        )

    return logits


_watches: list[list[BaseException]] = []
"""One list of failures for each `with raised_here()` that is running, in any thread."""


@contextlib.contextmanager
def raised_here() -> Iterator[None]:
    """Raises what a model on the host raised while programs ran that asked it, here and as it is.

    Raised within a compiled program, it would reach the caller as an error of the whole program;
    where that runs on several CPU devices XLA ends the process (jaxlib 0.12.0.1). So the program
    goes on with NaN for answers, and the model is not asked again. Results must be there when the
    block ends.
    """
    failures: list[BaseException] = []
    _watches.append(failures)
    try:
        yield
    finally:
        _watches[:] = [watch for watch in _watches if watch is not failures]
    if failures:
        raise failures[0]


def _guarded(ask: Callable[..., np.ndarray], *arguments: Any, like: Any) -> np.ndarray:
    """Returns what a model answers within a program; NaN once it has failed, if that is watched."""
    if any(_watches):
        return np.full(like.shape, np.nan, like.dtype)
    try:
        answer = ask(*arguments)
        if answer.shape != like.shape:
            raise ValueError(f"the model gives shape {answer.shape}; it gave {like.shape} before")
        return answer.astype(like.dtype)
    except BaseException as error:
        if not _watches:
            raise
        for failures in _watches:
            failures.append(error)
        return np.full(like.shape, np.nan, like.dtype)


def on_the_host(box: BlackBox) -> Callable[[Array], Array]:
    """Returns a black box as a function of JAX arrays that has no gradient."""
    if box.num_classes is None and box.scores is None:
        raise ValueError(
            "the black box does not say how many classes there are; give black_box(predict, "
            "num_classes=...)"
        )
    ask = _one_hot(box) if box.scores is None else box.scores
    counted: dict[tuple[int, ...], int] = {}

    def answer(images: Any) -> np.ndarray:
        return np.asarray(ask(np.asarray(images, np.float32)), np.float32)

    def logits(images: Array) -> Array:
        shape = images.shape[1:]
        if box.scores is not None and shape not in counted:
            # Also what is wrong with images of this shape is said here, outside any program.
            counted[shape] = answer(np.zeros((1, *shape))).shape[-1]
        result = (len(images), counted.get(shape, box.num_classes))
        like = jax.ShapeDtypeStruct(result, jnp.float32)
        return jax.pure_callback(functools.partial(_guarded, answer, like=like), like, images)

    return without_gradient(logits, box.what) if box.gradient is None else _with(box, logits)


def _with(box: BlackBox, logits_fn: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Returns a function whose gradient is asked for on the host, too."""

    @jax.custom_vjp
    def logits(images: Array) -> Array:
        return logits_fn(images)

    def pull_back(images: Array, cotangents: Array) -> tuple[Array]:
        like = jax.typeof(images)
        asked = functools.partial(_guarded, ask, like=like)
        return (jax.pure_callback(asked, like, images, cotangents),)

    def ask(images: Any, cotangents: Any) -> np.ndarray:
        gradient: Any = box.gradient
        return np.asarray(
            gradient(np.asarray(images, np.float32), np.asarray(cotangents, np.float32))
        )

    logits.defvjp(lambda images: (logits(images), images), pull_back)
    return logits


def _one_hot(box: BlackBox) -> Scores:
    """Returns scores that are 1 for a black box's answer, else 0."""
    num_classes: Any = box.num_classes

    def scores(images: np.ndarray) -> np.ndarray:
        labels = box.labels(images)
        if labels.size and not (labels.min() >= 0 and labels.max() < num_classes):
            raise ValueError(f"the black box gives a label outside 0 to {num_classes - 1}")
        return np.eye(num_classes, dtype=np.float32)[labels]

    return scores
