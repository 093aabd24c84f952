"""What is measured of an attack, on either side: distances over the exact one, or multiples of it.

Imports neither rbjax nor PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

MULTIPLES = (
    *(1.001, 1.002, 1.005, 1.01, 1.02, 1.03, 1.05, 1.07, 1.1, 1.15, 1.2),
    *(1.3, 1.4, 1.5, 1.7, 2.0, 2.5, 3.0, 4.0, 5.0),
)
"""Of the exact distance, the budgets that attacks are tried with."""
SHARE = 0.9
"""Of the images, that is to be fooled."""
ROUNDING = 2e-3
"""By which an adversarial image may seem nearer than possible: logits are float32 numbers."""
ORDERS = {"linf": np.inf, "l2": 2, "l1": 1, "l0": 0}


class Row(NamedTuple):
    """What an attack did on all models."""

    library: str
    attack: str
    """As this table calls it."""
    called: str
    """As its library does, with the options that are not its defaults."""
    norm: str
    smallest: bool
    """Whether it looks for the smallest perturbation; if not it has a budget."""
    ratios: dict[str, list[float | None]]
    """model: for each image the distance over the exact one, or the smallest multiple of it that
    fools, of `MULTIPLES`; None where the attack missed."""

    def key(self) -> str:
        """Returns what the row is kept under."""
        return f"{self.library}, {self.called}, {self.norm}"


def sizes(moved: np.ndarray, images: np.ndarray, norm: str) -> np.ndarray:
    """Returns the sizes of perturbations, (N,) float64, of arrays whose first axis is N."""
    delta = np.asarray(moved, np.float64) - np.asarray(images, np.float64)
    return np.linalg.norm(delta.reshape(len(delta), -1), ORDERS[norm], axis=1)


def ratios(
    moved: np.ndarray, images: np.ndarray, fooled: np.ndarray, exact: np.ndarray, norm: str
) -> np.ndarray:
    """Returns distances over the exact ones, (N,), infinite where the model is not fooled.

    Args:
        moved: (N, ...), what an attack returned.
        images: (N, ...), as they were.
        fooled: (N,) bool, what the model says of `moved`.
        exact: (N,).
        norm: the norm.

    Raises:
        RuntimeError: where an image fools outside [0, 1] or nearer than anything can.
    """
    outside = np.max(np.abs(np.asarray(moved, np.float64) - 0.5).reshape(len(moved), -1), axis=1)
    found = np.where(fooled, sizes(moved, images, norm) / exact, np.inf)
    if np.any(fooled & (outside > 0.5 + 1e-5)):
        raise RuntimeError("an adversarial image lies outside [0, 1]")
    if np.any(found < 1 - ROUNDING):
        raise RuntimeError(f"an adversarial image is at {np.min(found):.4f} of the exact distance")
    return found


def smallest_multiples(
    fools: Callable[[np.ndarray, np.ndarray], np.ndarray], num_images: int
) -> np.ndarray:
    """Returns each image's smallest multiple at which it is fooled, by bisection of `MULTIPLES`.

    Args:
        fools: (rows, multiples) -> which of those images are fooled, each with its own multiple.
        num_images: N.

    Returns:
        (N,), infinite where even the largest is not enough.
    """
    low = np.zeros(num_images, int)
    high = np.full(num_images, len(MULTIPLES))
    while np.any(low < high):
        rows = np.flatnonzero(low < high)
        middle = (low[rows] + high[rows]) // 2
        fooled = np.asarray(fools(rows, np.array(MULTIPLES)[middle]))
        high[rows] = np.where(fooled, middle, high[rows])
        low[rows] = np.where(fooled, low[rows], middle + 1)
    return np.append(MULTIPLES, np.inf)[low]


def kept(found: np.ndarray) -> list[float | None]:
    """Returns ratios as they are written."""
    return [round(float(ratio), 4) if np.isfinite(ratio) else None for ratio in found]


def of_share(found: np.ndarray) -> float:
    """Returns the multiple at which nine tenths of the images are fooled."""
    return float(np.quantile(found, SHARE, method="inverted_cdf"))
