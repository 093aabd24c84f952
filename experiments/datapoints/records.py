"""First failures and flags as a cell's result stores them, and the published numbers."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Scored(NamedTuple):
    """The draws of one model under one scheme, an entry an image."""

    first_failure: np.ndarray
    """(N,) integers, 1 to max_steps, or max_steps + 1 where no draw failed."""
    clean_correct: np.ndarray
    """(N,) bool."""
    labels: np.ndarray
    """(N,) integers."""
    max_steps: int

    @property
    def robust(self) -> np.ndarray:
        """(N,) bool, whether no draw failed."""
        return self.first_failure > self.max_steps

    @property
    def ratio(self) -> float:
        """The share of all images that are robust, as P4 counts."""
        return float(np.mean(self.robust))


@functools.cache
def expected(paper: str) -> dict[str, Any]:
    """Returns the published numbers of "P4" or "PRBench", of expected.json."""
    text = (Path(__file__).parent / "expected.json").read_text(encoding="utf-8")
    return json.loads(text)[paper]


def pack(scored: Scored) -> dict[str, str]:
    """Returns first failures and which images are correct as they are, in hexadecimal."""
    failures = scored.first_failure.astype("<u2").tobytes().hex()
    return {"first_failure": failures, "clean": pack_flags(scored.clean_correct)}


def unpack(result: Mapping[str, Any], split: str, name: str) -> Scored:
    """Returns what a cell stored of a split, under a scheme or a model.

    Args:
        result: of `cells.read` or `cells.retrain`.
        split: "test" or "train".
        name: of the scheme, or of the model.
    """
    labels = np.frombuffer(bytes.fromhex(result["labels"][split]), np.uint8).astype(np.int64)
    stored = result[split][name]
    failures = np.frombuffer(bytes.fromhex(stored["first_failure"]), "<u2").astype(np.int64)
    clean = unpack_flags(stored["clean"], len(labels))
    return Scored(failures, clean, labels, result["max_steps"])


def pack_labels(labels: np.ndarray) -> str:
    """Returns labels below 256 in hexadecimal."""
    return labels.astype(np.uint8).tobytes().hex()


def pack_flags(flags: np.ndarray) -> str:
    """Returns flags (N,) as the bits of a hexadecimal number."""
    return np.packbits(flags).tobytes().hex()


def unpack_flags(stored: str, count: int) -> np.ndarray:
    """Returns the flags (count,) bool that `pack_flags` stored."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(stored), np.uint8), count=count).astype(bool)
