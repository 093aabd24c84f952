"""Tables of examples: what the model says of each, by its file's name where it has one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rbjax.analysis.results import columns
from rbjax.analysis.saving import write_columns
from rbjax.console import printable
from rbjax.inputs import NO_CLASS

ATTACKED_FILE, SCORED_FILE = "examples.csv", "datapoints.csv"


def write(
    path: Path,
    result: Any,
    *,
    index: np.ndarray,
    files: Sequence[str] | np.ndarray | None,
    class_names: Sequence[str],
    predictions: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Writes what a result says of each example as CSV: which it is, then `analysis.columns`.

    Args:
        path: the file.
        result: of `run_attacks` or `rpr.score`, of N examples.
        index: (N,) rows in the split as it is stored.
        files: N names, which stand in place of these; None: the images have no files.
        class_names: of the K classes; they stand in place of the numbers.
        predictions: heading -> (N,) classes that come after them; None: none.
    """
    found = columns(result)
    classes = {"label", *(name for name in found if f"{name}_probability" in found)}
    found, classes = found | (dict(predictions or {})), classes | (predictions or {}).keys()
    for name in classes & found.keys():
        found[name] = [class_names[i] if i != NO_CLASS else "" for i in found[name].tolist()]
    which = {"index": index} if files is None else {"file": [printable(file) for file in files]}
    write_columns(path, result, {**which, **found})
