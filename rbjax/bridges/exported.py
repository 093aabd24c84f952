"""Programs of `jax.export`: an `Exported`, or a file of one."""

from __future__ import annotations

import os
from typing import Any

import jax
from jax import export as jax_export

from rbjax.black_box import without_gradient
from rbjax.bridges.asking import Asked
from rbjax.closures import Closure
from rbjax.paths import expanded
from rbjax.tables import reason

_WHAT = "the exported program"


def ask_file(path: str | os.PathLike[str], *weights: Any) -> Asked:
    """Returns how the program in a file is asked."""
    file = expanded(path, field="model")
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ValueError(f"model = {str(path)!r}: {error.strerror}") from None
    try:
        program = jax_export.deserialize(bytearray(content))
    except Exception as error:
        raise ValueError(
            f"model = {str(path)!r}: is no program of jax.export ({reason(error)}); allowed: such "
            "a file, or one whose name ends in .onnx"
        ) from None
    return ask(program, *weights)


def ask(program: Any, *weights: Any) -> Asked:
    """Returns how an `Exported` is asked; without a gradient where it was exported without one.

    Args:
        program: of images alone, or of weights and images.
        *weights: what it takes before the images.
    """
    avals = program.in_avals[len(jax.tree.leaves(weights)) :]
    if len(avals) != 1 or len(avals[0].shape) != 4:
        shapes = ", ".join(str(aval.str_short(short_dtypes=True)) for aval in program.in_avals)
        raise ValueError(
            f"{_WHAT} takes {shapes}; after the weights it must take images alone, (B, H, W, C)"
        )
    call: Any = Closure(_call, program=program, images=avals[0])
    return Asked(call if program.has_vjp() else without_gradient(call, _WHAT), _WHAT, weights)


def _call(*arguments: Any, program: Any, images: Any) -> Any:
    given, size = arguments[-1], images.shape[0]
    if isinstance(size, int) and size != len(given):
        raise ValueError(
            f"{_WHAT} takes {size} images at once and is given {len(given)}; export it for any "
            "number: jax.export.symbolic_shape, or rbjax.export without batch_size"
        )
    return program.call(*arguments[:-1], given.astype(images.dtype))
