"""Flax NNX: a module that holds its weights, in evaluation mode."""

from __future__ import annotations

import sys
from typing import Any

from rbjax.bridges.asking import Asked, modes

_WHAT = "the NNX module"


def ask(module: Any, *weights: Any) -> Asked:
    """Returns how an NNX module is asked: with its weights of the moment."""
    if weights:
        raise ValueError(f"{_WHAT} holds its own weights; give wrap(module) alone")
    _refuse_training(module)
    keywords = modes(module.__call__, _WHAT)

    def call(images: Any) -> Any:
        _refuse_training(module)
        return module(images, **keywords)

    return Asked(call, _WHAT, None)


def _refuse_training(module: Any) -> None:
    """Raises a ValueError if a layer drops out, or normalises by the batch."""
    for path, layer in sys.modules["flax.nnx"].iter_modules(module):
        drops = getattr(layer, "deterministic", None) is False and getattr(layer, "rate", 1) != 0
        if drops or getattr(layer, "use_running_average", None) is False:
            does = "drops out at random" if drops else "normalises by the batch it is given"
            where = ".".join(map(str, path)) or "itself"
            raise ValueError(
                f"{_WHAT} is in training mode: {where} ({type(layer).__name__}) {does}, so that an "
                "image's answer would not be its own; call model.eval() first, and model.train() "
                "to go on training"
            )
