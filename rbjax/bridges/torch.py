"""PyTorch: a module in evaluation mode, called and differentiated by PyTorch itself."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from rbjax.bridges.asking import Asked

_WHAT = "the PyTorch module"


def ask(module: Any, *weights: Any) -> Asked:
    """Returns how a PyTorch module is asked: on its device; gradients are autograd's.

    Args:
        module: a `torch.nn.Module`; or a program of `torch.export`.
        *weights: none, a module holds its own.
    """
    if weights:
        raise ValueError(f"{_WHAT} holds its own weights; give wrap(module) alone")
    torch: Any = sys.modules["torch"]
    is_program = isinstance(module, torch.export.ExportedProgram)
    if not is_program and not isinstance(module, torch.nn.Module):
        raise ValueError(f"model is a torch.{type(module).__name__}; give the torch.nn.Module")
    module = module.module() if is_program else module

    def answered(images: Any) -> Any:
        if not is_program:
            _refuse_training(module)
        answer = module(images)
        answer = getattr(answer, "logits", answer)  # as Hugging Face's models give them
        if not isinstance(answer, torch.Tensor):
            raise ValueError(f"{_WHAT} returns a {type(answer).__name__}; it must return logits")
        return answer

    def given(images: np.ndarray) -> Any:
        like = next((one for one in module.parameters() if one.is_floating_point()), None)
        tensor = torch.from_numpy(np.array(images))  # a copy: JAX's are not to be written to
        return tensor if like is None else tensor.to(like)

    def call(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return answered(given(images)).float().cpu().numpy()

    def gradient(images: np.ndarray, cotangents: np.ndarray) -> np.ndarray:
        with torch.enable_grad():
            asked = given(images).requires_grad_(True)
            answer = answered(asked)
            backwards = torch.from_numpy(np.array(cotangents)).to(answer)
            (found,) = torch.autograd.grad(answer, asked, backwards)
        return found.float().cpu().numpy()

    if not is_program:
        _refuse_training(module)
    host: dict[str, Any] = {"gradient": gradient, "digest": lambda: _digest(module, torch)}
    return Asked(call, _WHAT, channels="first", on_host=True, **host)


def _refuse_training(module: Any) -> None:
    """Raises a ValueError for what may drop out at random, or normalise by the batch."""
    for path, layer in module.named_modules():
        if getattr(layer, "training", False):  # torch.jit.freeze leaves no such attribute
            raise ValueError(
                f"{_WHAT} is in training mode: {path or 'itself'} ({type(layer).__name__}); call "
                "module.eval() first, and module.train() to go on training"
            )


def _digest(module: Any, torch: Any) -> str | None:
    """Returns what changes with a module's layers, weights and other attributes; None: unknown."""
    state = hashlib.sha256(_spelled(module))
    try:
        for name, value in _attributes(module, torch):
            if isinstance(value, torch.Tensor):
                tensor = value.detach().cpu().contiguous().reshape(-1)
                numbers = tensor.view(torch.uint8).numpy()  # NumPy has no bfloat16
                state.update(f"{name} {value.dtype} {value.shape}".encode() + numbers.tobytes())
            else:
                state.update(f"{name} ".encode() + _spelled(value))
    except (RuntimeError, TypeError):  # of sparse and of quantised tensors
        return None
    return state.hexdigest()[:16]


def _attributes(module: Any, torch: Any) -> Iterator[tuple[str, Any]]:
    """Yields what a module's answers follow from, by name; tensors, and what is spelled in full."""
    for name, value in module.state_dict().items():
        if not isinstance(value, torch.Tensor):  # such as the packed weights of a quantised layer
            raise TypeError(name)
        yield name, value
    yield from module.named_buffers()  # also those that are not saved
    for path, layer in module.named_modules():
        yield path, type(layer).__qualname__
        yield f"{path}.code", getattr(layer, "code", None)  # of TorchScript and of programs
        for name, value in sorted(vars(layer).items()):
            if isinstance(value, np.ndarray):
                yield f"{path}.{name}", torch.from_numpy(value)
            elif isinstance(value, torch.Tensor | int | float | str | tuple | list):
                yield f"{path}.{name}", value


def _spelled(value: Any) -> bytes:
    """Returns a value's text without addresses, which are others in another process."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value)).encode()
