"""What an attack asks a model, written down as it goes: passes, and the smallest perturbations.

NumPy alone, so that both sides use it. A pass forwards counts 1 for each of its images and so does
one backwards, as AttackBench counts (Cinà et al. 2024, arXiv:2404.19460). Attacks drop images and
put batches together anew, so that an image is known by the original that it lies nearest to.
"""

from __future__ import annotations

from typing import Any

import numpy as np

MOST = 2000
"""Passes after which an image's perturbations no longer count."""
PASSES = np.unique(np.round(np.geomspace(1, MOST, 60)).astype(int))
"""Where curves are read off."""
_OUTSIDE = 1e-6


class Recorder:
    """Counts the passes of each image and keeps the smallest perturbation met so far."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, norm: str) -> None:
        """Begins.

        Args:
            images: (N, D) the originals, in [0, 1].
            labels: (N,).
            norm: "linf", "l2" or "l1".
        """
        self._images, self._labels, self._norm = images, labels, norm
        self.passes = np.zeros(len(labels), np.int64)
        self.smallest = np.full(len(labels), np.inf)
        self.met: list[tuple[int, int, float]] = []
        """(image, its passes so far, size) of each perturbation smaller than those before."""

    def forwards(self, images: np.ndarray, logits: np.ndarray) -> None:
        """Takes in a pass forwards: images (B, ...) and logits (B, K)."""
        flat = np.asarray(images, np.float32).reshape(len(images), -1)
        rows = self._rows(flat)
        np.add.at(self.passes, rows, 1)
        moved = np.abs(flat - self._images[rows])
        sizes = {
            "linf": lambda: moved.max(1),
            "l2": lambda: np.sqrt((moved.astype(np.float64) ** 2).sum(1)),
            "l1": lambda: moved.sum(1),
        }[self._norm]()
        fools = np.argmax(np.asarray(logits), axis=1) != self._labels[rows]
        fools &= (flat.min(1) >= -_OUTSIDE) & (flat.max(1) <= 1 + _OUTSIDE)
        for row, size in zip(rows[fools].tolist(), sizes[fools].tolist(), strict=True):
            if size < self.smallest[row] and self.passes[row] <= MOST:
                self.smallest[row] = size
                self.met.append((row, int(self.passes[row]), size))

    def backwards(self, images: np.ndarray) -> None:
        """Takes in a pass backwards through images (B, ...)."""
        np.add.at(self.passes, self._rows(np.asarray(images).reshape(len(images), -1)), 1)

    def robust(self, epsilon: float, passes: np.ndarray) -> np.ndarray:
        """Returns the share of images without a perturbation within epsilon, after some passes.

        Args:
            epsilon: the radius; a millionth more counts as within.
            passes: (P,) of each image.

        Returns:
            (P,) shares.
        """
        first = np.full(len(self._labels), np.inf)
        for row, count, size in self.met:
            if size <= epsilon * (1 + 1e-6):
                first[row] = min(first[row], count)
        return np.mean(first[None] > np.asarray(passes)[:, None], axis=1)

    def _rows(self, flat: np.ndarray) -> np.ndarray:
        squares = (self._images**2).sum(1)[None] - 2 * flat @ self._images.T
        return np.argmin(squares, axis=1)


def describe(recorder: Recorder, epsilon: float, seconds: float) -> dict[str, Any]:
    """Returns the curve of robust accuracy at a radius, the median size and the mean passes."""
    return {
        "robust": np.round(100 * recorder.robust(epsilon, PASSES), 2).tolist(),
        "median": _finite(np.median(recorder.smallest)),
        "fooled": round(100 * float(np.mean(np.isfinite(recorder.smallest))), 2),
        "passes": round(float(np.mean(recorder.passes)), 1),
        "seconds": round(seconds, 1),
    }


def _finite(size: Any) -> float | None:
    return round(float(size), 5) if np.isfinite(size) else None
