"""ONNX: a session of ONNX Runtime, a model or the path of a file, as a black box."""

from __future__ import annotations

import hashlib
import importlib
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from rbjax.bridges.asking import Asked
from rbjax.paths import expanded
from rbjax.tables import reason

_WHAT = "the ONNX model"
_LOCATION = re.compile(rb"\n\x08location\x12(.)", re.DOTALL)
"""How a tensor says in which file beside the model it is: a key, and the length of what follows."""


def ask_file(path: str | os.PathLike[str], *weights: Any) -> Asked:
    """Returns how the model in a file is asked."""
    file = expanded(path, field="model")
    if not file.is_file():
        raise ValueError(f"model = {str(path)!r}: there is no such file")
    return ask(_session(str(file), f"model = {str(path)!r}"), *weights)


def ask(model: Any, *weights: Any) -> Asked:
    """Returns how an `InferenceSession` or a `ModelProto` is asked."""
    if weights:
        raise ValueError(f"{_WHAT} holds its own weights; give wrap(model) alone")
    session = model if hasattr(model, "run") else _session(model.SerializeToString(), "model")
    inputs, first = session.get_inputs(), _logits(session.get_outputs()).name
    if len(inputs) != 1:
        raise ValueError(f"{_WHAT} has {len(inputs)} inputs; it must take images alone")
    (given,) = inputs
    dtype = {"tensor(float16)": np.float16, "tensor(double)": np.float64}.get(
        given.type, np.float32
    )
    size = given.shape[0]

    def call(images: np.ndarray) -> np.ndarray:
        images = images.astype(dtype)
        if not isinstance(size, int):
            return session.run([first], {given.name: images})[0]
        # A model that was exported for so many images at once is given as many.
        blocks = np.split(_padded(images, size), -(-len(images) // size))
        parts = [session.run([first], {given.name: block})[0] for block in blocks]
        return np.concatenate(parts)[: len(images)]

    known = _digest(session)  # the files may be written again later
    return Asked(call, _WHAT, channels="first", on_host=True, digest=lambda: known)


def _logits(outputs: list[Any]) -> Any:
    """Returns the output (B, K); of several, the one called logits, else the first."""
    tables = [output for output in outputs if len(output.shape or ()) == 2] or outputs
    return next((output for output in tables if output.name == "logits"), tables[0])


def _digest(session: Any) -> str | None:
    """Returns what changes with a model and its weights, those in files beside it too."""
    content, path = (getattr(session, name, None) for name in ("_model_bytes", "_model_path"))
    try:
        content = Path(path).read_bytes() if content is None and path else content
        if content is None:
            return None
        state = hashlib.sha256(content)
        ends = [(one.end(), one.end() + one[1][0]) for one in _LOCATION.finditer(content)]
        for name in sorted({content[start:end].decode() for start, end in ends}):
            with (Path(path or "").parent / name).open("rb") as file:
                state.update(hashlib.file_digest(file, "sha256").digest())
    except (OSError, UnicodeDecodeError, ValueError):  # no such file: it is no place of a tensor's
        return None
    return state.hexdigest()[:16]


def _session(model: str | bytes, where: str) -> Any:
    try:
        runtime: Any = importlib.import_module("onnxruntime")
    except ImportError:
        raise ValueError(f"{where}: needs ONNX Runtime; pip install onnxruntime") from None
    try:
        return runtime.InferenceSession(model, providers=runtime.get_available_providers())
    except Exception as error:
        raise ValueError(f"{where}: {reason(error)}") from None


def _padded(images: np.ndarray, size: int) -> np.ndarray:
    """Returns images with the last one repeated, up to a multiple of `size`."""
    return np.concatenate([images, np.repeat(images[-1:], -len(images) % size, axis=0)])
