"""What the page and the pictures of a run are of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class Content(NamedTuple):
    """What a page may show; each part may be missing."""

    title: str
    evaluation: Mapping[str, Any] | None = None
    """As of `read_report`."""
    scores: Mapping[str, Any] | None = None
    """As of rpr.json."""
    columns: Mapping[str, np.ndarray] = {}
    """Heading -> (K,) ratios: of the table, in its order."""
    totals: Mapping[str, float] = {}
    """Those of the columns among all images, where they have one."""
    accuracies: Mapping[str, np.ndarray] = {}
    """Those of the columns that are accuracies: clean, under each attack, and the worst of all."""
    records: Sequence[Mapping[str, Any]] = ()
    """Of a training."""
    perturbations: Mapping[str, np.ndarray] = {}
    """Label -> universal perturbation, (H, W, C) or (K, H, W, C)."""
    images: np.ndarray | None = None
    """(M, H, W, C) images on which these are drawn, and their labels (M,)."""
    labels: np.ndarray | None = None
    datapoints: Mapping[str, np.ndarray] = {}
    """The most and the least robust ones: "images", "labels", "first_failure", "example_ids",
    and "files" where images have them."""
