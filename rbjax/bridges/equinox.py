"""Equinox: any module, called with one image, in inference mode."""

from __future__ import annotations

import sys
from typing import Any

import jax

from rbjax.bridges.asking import Asked, modes

_WHAT = "the Equinox module"


def ask(module: Any, *weights: Any) -> Asked:
    """Returns how an Equinox module is asked: image by image, without dropout.

    Whatever is static in it may be of any type: nothing of it becomes the key of a program.

    Args:
        module: called with an image, and with the state if there is one.
        *weights: the `eqx.nn.State`, if there is one.
    """
    if len(weights) > 1:
        raise ValueError(f"{_WHAT} takes its state beside it; give wrap(module, state)")
    still: Any = sys.modules["equinox"].nn.inference_mode(module)
    keywords = modes(still.__call__, _WHAT, leading=1 + len(weights))

    def of_one(image: Any) -> Any:
        answer = still(image, *weights, **keywords)
        return answer[0] if weights else answer

    return Asked(jax.vmap(of_one, axis_name="batch"), _WHAT, None, channels="first")
