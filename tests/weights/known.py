"""The tensors that the committed files hold, drawn by NumPy for PyTorch's side and for ours."""

from __future__ import annotations

import ml_dtypes
import numpy as np

FLOATS = ("float64", "float32", "float16", "bfloat16")
WHOLE = ("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8")
EIGHT_BITS = ("float8_e4m3fn", "float8_e5m2")
OTHERS = ("bool", "complex64", "complex128")
DTYPES = (*FLOATS, *WHOLE, *EIGHT_BITS, *OTHERS)
SHAPE = (2, 3)


def of_dtype(name: str) -> np.ndarray:
    """Returns a tensor (2, 3) whose bits are all over the dtype's range."""
    dtype = np.dtype(getattr(ml_dtypes, name, None) or name)
    rng = np.random.default_rng(DTYPES.index(name))
    if name == "bool":
        return rng.integers(0, 2, SHAPE).astype(bool)
    return np.frombuffer(rng.bytes(6 * dtype.itemsize), dtype).reshape(SHAPE)


def base() -> np.ndarray:
    """Returns what the views are views of, (4, 5, 6) float32."""
    return np.random.default_rng(7).normal(size=(4, 5, 6)).astype(np.float32)


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the weights of a layer, float32."""
    rng = np.random.default_rng(list(name.encode()))
    return rng.normal(size=shape).astype(np.float32)
