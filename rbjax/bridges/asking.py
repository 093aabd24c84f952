"""How any model is asked: normalised images in its layout, logits out, mistakes in one line."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from rbjax.black_box import BlackBox
from rbjax.closures import Closure
from rbjax.errors import a_type
from rbjax.tables import reason
from rbjax.typing import Array

KEYS = ("key", "keys", "rng", "rngs", "rng_key", "prng_key")
_TRAINS = ("train", "training", "is_training")
_DOES_NOT_TRAIN = ("deterministic", "use_running_average", "inference")
_LEAST = float(np.finfo(np.float32).tiny)


class Asked(NamedTuple):
    """How a library's model is asked about a batch."""

    call: Callable[..., Any]
    """(*weights, images) -> answers (B, K), images normalised and in the model's layout."""
    what: str
    """The model, for messages: "the Equinox module"."""
    weights: tuple[Any, ...] | None = ()
    """What `call`, which reads nothing else that changes, takes first, as pytrees; None: `call`
    reads its weights itself."""
    channels: str = "last"
    outputs: str = "logits"
    """"logits", "probabilities", or "scores", of which the library says what they are."""
    on_host: bool = False
    """Whether `call` takes and gives numpy arrays."""
    num_classes: int | None = None
    predict: Callable[..., Any] | None = None
    """On the host: images as `call` takes them -> classes (B,), where that is less work."""
    gradient: Callable[..., Any] | None = None
    """On the host: (images as `call` takes them, cotangents of its answers) -> those of the images;
    None: there is none."""
    digest: Callable[[], str | None] = lambda: None
    """On the host: a text that changes with the weights of the moment; None: it cannot be known."""


class Form(NamedTuple):
    """What of a model is a person's to say; see `wrap`."""

    num_classes: int | None
    channels: Any
    mean: tuple[float, ...]
    std: tuple[float, ...]
    outputs: Any

    def completed(self, asked: Asked) -> Form:
        """Returns the form with what the library says where the person says nothing."""
        if self.outputs is not None and asked.outputs == "scores":
            raise ValueError(f"outputs is {self.outputs!r}; {asked.what} says itself what it gives")
        known = asked.num_classes
        if None not in (self.num_classes, known) and self.num_classes != known:
            raise ValueError(f"num_classes is {self.num_classes}; {asked.what} has {known} classes")
        return self._replace(
            num_classes=self.num_classes or known,
            channels=self.channels or asked.channels,
            outputs=self.outputs or asked.outputs,
        )

    def prepared(self, images: Any, xp: Any) -> Any:
        """Returns images (B, H, W, C) as the model sees them; `xp` is numpy or jax.numpy."""
        for field, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, images.shape[-1]):
                raise ValueError(
                    f"{field} has {len(values)} numbers; images of shape {images.shape[1:]} have "
                    f"{images.shape[-1]} channels"
                )
        if self.mean != (0.0,) or self.std != (1.0,):
            mean, std = (xp.asarray(values, images.dtype) for values in (self.mean, self.std))
            images = (images - mean) / std
        return xp.moveaxis(images, -1, 1) if self.channels == "first" else images


def as_function(asked: Asked, form: Form) -> Callable[[Array], Array]:
    """Returns a model of JAX as a logits function: a `Partial` where its weights are arguments."""
    if asked.weights is not None:
        return Partial(Closure(_logits, asked=_Same(asked), form=form), *asked.weights)

    def logits_fn(images: Array) -> Array:
        """Returns the logits of images (B, H, W, C) in [0, 1]."""
        return _logits(images, asked=_Same(asked), form=form)

    return logits_fn


class _Same:
    """An `Asked` in a compiled program's key: it equals another of the same function."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked._replace(weights=None)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.asked == other.asked

    def __hash__(self) -> int:
        return hash(self.asked)


def _logits(*arguments: Any, asked: _Same, form: Form) -> Array:
    *weights, images = arguments
    return _answered(asked.asked, form, tuple(weights), images, jnp)


def _answered(asked: Asked, form: Form, weights: tuple[Any, ...], images: Any, xp: Any) -> Any:
    """Returns the logits (B, K), float32, of images (B, H, W, C)."""
    given = form.prepared(images, xp)
    try:
        answers = asked.call(*weights, given)
    except ValueError as error:
        if not str(error).startswith(asked.what):
            raise _refusal(asked, form, weights, images, error) from None
        raise
    except Exception as error:
        # JAX's and rbjax's errors are handled where models are traced, and one of Flax's.
        library = type(error).__module__.split(".")[0]
        if library in ("jax", "rbjax") or type(error).__name__ == "TraceContextError":
            raise
        raise _refusal(asked, form, weights, images, error) from None
    shape = getattr(answers, "shape", None)
    if shape is None:
        raise ValueError(f"{asked.what} returns {a_type(answers)}; it must return logits (B, K)")
    wanted, size = form.num_classes, len(images)
    if len(shape) != 2 or shape[0] != size or wanted not in (None, shape[1]):
        of = "it must be" if wanted is None else f"of num_classes = {wanted} it must be"
        raise ValueError(
            f"{asked.what} gives shape {tuple(shape)} for {size} images; {of} "
            f"({size}, {wanted or 'num_classes'})"
        )
    answers = answers.astype(xp.float32)
    return xp.log(xp.maximum(answers, _LEAST)) if form.outputs == "probabilities" else answers


def _refusal(
    asked: Asked, form: Form, weights: tuple[Any, ...], images: Any, error: Exception
) -> ValueError:
    """Returns what is said of images that the model fails with; of their layout, if it is that."""
    other = form._replace(channels="last" if form.channels == "first" else "first")
    shape = form.prepared(np.zeros(images.shape), np).shape[1:]
    hint = ""
    if _takes(asked, other, weights, images):
        hint = f'; it takes them with channels="{other.channels}"'
    return ValueError(f"{asked.what} fails with images as {shape}{hint}: {reason(error)}")


def _takes(asked: Asked, form: Form, weights: tuple[Any, ...], images: Any) -> bool:
    """Returns whether a model takes images in a layout."""
    try:
        if asked.on_host:
            asked.call(form.prepared(np.asarray(images[:1]), np))
        else:
            zeros = jax.ShapeDtypeStruct(images.shape, images.dtype)
            jax.eval_shape(lambda x: asked.call(*weights, form.prepared(x, jnp)), zeros)
    except Exception:
        return False
    return True


def as_black_box(asked: Asked, form: Form, fingerprint: str | None = None) -> BlackBox:
    """Returns a model on the host as a black box that knows its scores."""

    def scores(images: np.ndarray) -> np.ndarray:
        answers = _answered(asked, form, (), np.asarray(images, np.float32), np)
        if form.outputs == "logits":
            _refuse_probabilities(asked.what, answers)
        return answers

    def predict(images: np.ndarray) -> Any:
        if asked.predict is None:
            return np.argmax(scores(images), axis=-1)
        return asked.predict(form.prepared(np.asarray(images, np.float32), np))

    def gradient(images: np.ndarray, cotangents: np.ndarray) -> np.ndarray:
        given = form.prepared(images, np)
        try:
            found = _pulled_back(asked, form, given, cotangents)
        except Exception as error:
            if isinstance(error, ValueError) and str(error).startswith(asked.what):
                raise
            raise ValueError(
                f"{asked.what} fails in its gradient with images as {given.shape[1:]}: "
                f"{reason(error)}"
            ) from None
        found = np.moveaxis(found, 1, -1) if form.channels == "first" else found
        return found / np.asarray(form.std, np.float32)

    def digest() -> str | None:
        known = asked.digest() if fingerprint is None else fingerprint
        return None if known is None else f"{known} {tuple(form)}"

    return BlackBox(
        predict,
        form.num_classes,
        scores=scores,
        gradient=None if asked.gradient is None else gradient,
        what=asked.what,
        digest=digest,
    )


def _pulled_back(asked: Asked, form: Form, given: np.ndarray, cotangents: np.ndarray) -> np.ndarray:
    """Returns the cotangents of images as the model sees them, of cotangents of logits."""
    ask: Any = asked.gradient
    if form.outputs == "probabilities":
        shares = asked.call(given)
        cotangents = np.where(shares >= _LEAST, cotangents / np.maximum(shares, _LEAST), 0)
    return ask(given, cotangents)


def _refuse_probabilities(what: str, answers: np.ndarray) -> None:
    """Raises a ValueError if rows are no logits: each of them numbers in [0, 1] of the sum 1."""
    is_share = (answers >= 0) & (answers <= 1)
    if len(answers) and np.all(is_share) and np.allclose(answers.sum(axis=-1), 1, atol=1e-4):
        raise ValueError(
            f'{what} gives probabilities, of the sum 1, for logits; give outputs="probabilities"'
        )


def modes(call: Callable[..., Any], what: str, *, leading: int = 1) -> dict[str, Any]:
    """Returns the keywords with which a model is asked and not trained; a key it needs is None.

    Args:
        call: a model's function, without `self`.
        what: the model, for messages.
        leading: how many arguments are given by their places.

    Raises:
        ValueError: if it must be given others, too.
    """
    parameters = list(inspect.signature(call).parameters.values())
    named = [one for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    found: dict[str, Any] = {one.name: False for one in named[leading:] if one.name in _TRAINS}
    found |= {one.name: True for one in named[leading:] if one.name in _DOES_NOT_TRAIN}
    needed = [one.name for one in named[leading:] if one.default is one.empty]
    found |= {name: None for name in needed if name in KEYS}
    missing = [name for name in needed if name not in found]
    if missing:
        raise ValueError(
            f"{what} is also called with {', '.join(missing)}; wrap a function of the images, such "
            f"as lambda images: model(images, {missing[0]}=...)"
        )
    return found
