"""PyTorch: a module in evaluation mode, called and differentiated by PyTorch itself."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from rbjax.bridges.asking import Asked

_WHAT = "the PyTorch module"
_CHANGES = ("Dropout", "BatchNorm", "InstanceNorm", "StochasticDepth", "DropPath", "SyncBatchNorm")


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
        with torch.inference_mode():
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
    return Asked(call, _WHAT, channels="first", on_host=True, gradient=gradient)


def _refuse_training(module: Any) -> None:
    """Raises a ValueError if a layer drops out, or normalises by the batch."""
    for path, layer in module.named_modules():
        kind = type(layer).__name__
        if layer.training and any(name in kind for name in _CHANGES):
            raise ValueError(
                f"{_WHAT} is in training mode: {path or 'itself'} ({kind}) answers otherwise "
                "then; call module.eval() first"
            )
