"""Keras: on JAX with gradients, on another backend as a black box."""

from __future__ import annotations

import hashlib
import re
import sys
from typing import Any

import numpy as np

from rbjax.bridges.asking import Asked

_WHAT = "the Keras model"


def ask(model: Any, *weights: Any) -> Asked:
    """Returns how a Keras model is asked: not training, with its weights of the moment."""
    if weights:
        raise ValueError(f"{_WHAT} holds its own weights; give wrap(model) alone")
    if not getattr(model, "built", False):
        raise ValueError(f"{_WHAT} has no weights yet; call model.build(...) or model.fit first")
    keras: Any = sys.modules["keras"]
    first = keras.config.image_data_format() == "channels_first"
    said: dict[str, Any] = {
        "channels": "first" if first else "last",
        "outputs": "probabilities" if _ends_in_softmax(model, keras) else "logits",
    }
    if keras.config.backend() == "jax":
        return Asked(lambda images: model(images, training=False), _WHAT, None, **said)

    def on_host(images: np.ndarray) -> np.ndarray:
        return np.asarray(keras.ops.convert_to_numpy(model(images, training=False)))

    return Asked(on_host, _WHAT, on_host=True, digest=lambda: _digest(model, keras), **said)


def _digest(model: Any, keras: Any) -> str:
    """Returns what changes with a model's layers and weights."""
    try:
        layers = model.to_json()
    except Exception:  # a model of one's own that says nothing of its layers
        layers = type(model).__qualname__
    names = re.findall(r'"name": "([^"]*)"', layers)
    for number, name in enumerate(dict.fromkeys(names)):
        # Keras counts the layers that a process makes: conv2d, conv2d_1, ...
        layers = layers.replace(f'"{name}"', f'"{re.sub(r"_[0-9]+$", "", name)} {number}"')
    state = hashlib.sha256(layers.encode())
    for weights in map(keras.ops.convert_to_numpy, model.weights):
        state.update(f"{weights.dtype} {weights.shape}".encode())
        state.update(np.ascontiguousarray(weights).tobytes())
    return state.hexdigest()[:16]


def _ends_in_softmax(model: Any, keras: Any) -> bool:
    last = model.layers[-1] if getattr(model, "layers", None) else model
    if isinstance(last, keras.Model) and last is not model:
        return _ends_in_softmax(last, keras)
    is_softmax = getattr(last, "activation", None) is keras.activations.softmax
    return is_softmax or isinstance(last, keras.layers.Softmax)
