"""Models of other libraries as what every entry point takes: `wrap`.

Which library an object is of is told by the modules of its classes; no library is imported for an
object of another one. A bridge a library says how its model is asked about a batch, and in which
layout; normalisation, layout, probabilities and what a wrong answer is told with are the same for
all and stand in `asking`.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from jax.tree_util import Partial

from rbjax.black_box import BlackBox, check_fingerprint
from rbjax.bridges import (
    equinox,
    exported,
    keras,
    linen,
    nnx,
    onnx,
    pairs,
    scikit_learn,
    torch,
)
from rbjax.bridges.asking import Asked, Form, as_black_box, as_function
from rbjax.errors import a_type, spelled
from rbjax.inputs import check_integer, check_real

__all__ = ["wrap"]

_BRIDGES: tuple[tuple[str, Callable[..., Asked]], ...] = (
    ("flax.linen", linen.ask),
    ("flax.nnx", nnx.ask),
    ("equinox", equinox.ask),
    ("haiku", pairs.ask),
    ("jax._src.export", exported.ask),
    ("keras", keras.ask),
    ("sklearn", scikit_learn.ask),
    ("torch", torch.ask),
    ("onnxruntime", onnx.ask),
    ("onnx", onnx.ask),
)
"""The beginning of a class's module, and the bridge; Keras before what else its classes are of."""


def wrap(
    model: Any,
    *weights: Any,
    num_classes: int | None = None,
    channels: Literal["first", "last"] | None = None,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    outputs: Literal["logits", "probabilities"] | None = None,
    fingerprint: str | None = None,
) -> Callable[..., Any] | BlackBox:
    """Returns a model of any library as what every entry point takes for `logits_fn`.

    Flax (Linen, NNX), Equinox, Haiku and other pairs of `init` and `apply`, `jax.export` programs
    and Keras on JAX become functions with gradients. PyTorch modules are called on the host, and
    differentiated there by PyTorch. scikit-learn, ONNX and Keras on another backend become black
    boxes, for all that needs no gradient. NNX, Keras, PyTorch and scikit-learn answer with what
    the model has learnt by the moment of a call, the others with the weights given here.

    Args:
        model: a module, a pair, an estimator, a session, a function of images; or the path of a
            file of `jax.export` or ONNX.
        *weights: what the library keeps beside the model. Linen: variables, or the parameters
            alone. A pair: parameters, and the state if there is one. Equinox: the state if there
            is one. Others: nothing.
        num_classes: K, which the model's answers are checked for; None: whatever it gives.
        channels: where the model wants them; None: "first", (C, H, W), for Equinox, PyTorch and
            ONNX; "last", (H, W, C), for the others, Keras as it is set.
        mean: subtracted from images in [0, 1] before the model sees them: a number, or one a
            channel, in a sequence or an array of any library.
        std: divided by next, likewise.
        outputs: what the model gives; None: "probabilities" for a Keras model that ends in
            a softmax, else "logits". The logits of probabilities are their logarithms.
        fingerprint: of a model on the host, a text that changes with it, for journals; None: a
            digest of its weights, where they can be read.

    Returns:
        images (B, H, W, C) in [0, 1] -> logits (B, K), float32; or a model on the host.

    Raises:
        ValueError: for a model of no known kind, without its weights or in training mode. What
            is wrong only with certain images (their layout, the number of classes) is refused when
            the model is asked about them.
    """
    form = Form(
        num_classes=None
        if num_classes is None
        else check_integer("num_classes", num_classes, low=2),
        channels=_one_of("channels", channels, ("first", "last")),
        mean=_per_channel("mean", mean),
        std=_per_channel("std", std, low=1e-12),
        outputs=_one_of("outputs", outputs, ("logits", "probabilities")),
    )
    check_fingerprint(fingerprint)
    asked = _bridge(model)(model, *weights)
    form = form.completed(asked)
    if asked.on_host:
        return as_black_box(asked, form, fingerprint)
    if fingerprint is not None:
        raise ValueError(
            f"fingerprint is {spelled(fingerprint)}; {asked.what} is known by its program and its "
            "weights, leave it out"
        )
    return as_function(asked, form)


def _bridge(model: Any) -> Callable[..., Asked]:
    """Returns the bridge of the library that an object is of."""
    if isinstance(model, type):
        raise ValueError(
            f"model is the class {model.__name__}; give a model of it, made and with its weights"
        )
    if isinstance(model, str | os.PathLike):
        return onnx.ask_file if str(model).endswith(".onnx") else exported.ask_file
    for kind in type(model).__mro__:
        for library, ask in _BRIDGES:
            if f"{kind.__module__}.".startswith(f"{library}."):
                return ask
    if pairs.is_pair(model):
        return pairs.ask
    if callable(model) and not isinstance(model, BlackBox):
        return _ask_function
    if model is None:
        raise ValueError(
            "model is None; NNX's model.eval() returns nothing: give wrap(model) after it"
        )
    raise ValueError(
        f"model is {a_type(model)}, which wrap does not know; allowed: a model of Flax, Equinox, "
        "Haiku, Keras, scikit-learn, PyTorch or ONNX, a jax.export program, the path of one or of "
        "an .onnx file, or a function of images"
    )


def _ask_function(function: Any, *weights: Any) -> Asked:
    """Returns how a function is asked: of its weights, if there are some, and images."""
    what = "the function"
    if isinstance(function, Partial):
        return Asked(operator.call, what, (function, *weights))
    return Asked(function, what, weights or None)


def _one_of(field: str, value: Any, allowed: tuple[str, str]) -> Any:
    if value is not None and value not in allowed:
        raise ValueError(f"{field} is {spelled(value)}; allowed: {', '.join(allowed)}")
    return value


def _per_channel(field: str, value: Any, *, low: float = float("-inf")) -> tuple[float, ...]:
    listed = value.tolist() if hasattr(value, "tolist") else value  # an array of any library
    values = np.ravel(np.asarray(listed, dtype=object)).tolist()
    if not values:
        raise ValueError(f"{field} is {spelled(value)}; it must be a number, or one a channel")
    return tuple(check_real(field, number, low=low) for number in values)
