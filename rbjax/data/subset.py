"""The training examples whose ids a file holds: a subset chosen elsewhere."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from rbjax import atomic
from rbjax.data.loading import Dataset
from rbjax.paths import expanded

FIELD = "example_ids"
"""The array of the .npz file that says which examples to keep."""


def read_ids(path: str | Path, *, expected: str | None = None) -> np.ndarray:
    """Reads the ids of a subset.

    Args:
        path: an .npz file with `example_ids`, (M,) integers; other arrays are ignored.
        expected: the `digest` that the ids must have; None: any.

    Returns:
        (M,) int64, ascending.

    Raises:
        ValueError: if the file does not exist, holds something else or an id twice, or has another
            digest.
    """
    where = f"dataset.subset = {str(path)!r}"
    path = expanded(path, field="dataset.subset")
    if not path.is_file():
        raise ValueError(f"{where}: no such file; allowed: an .npz file with {FIELD}")
    arrays = atomic.read_npz(path)
    if arrays is None or FIELD not in arrays:
        raise ValueError(f"{where}: not an .npz file with an array {FIELD}")
    ids = arrays[FIELD]
    if ids.ndim != 1 or not ids.size or not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(
            f"{where}: {FIELD} is {ids.dtype} of shape {ids.shape}; must be integers (M,), M > 0"
        )
    ids, counts = np.unique(ids.astype(np.int64), return_counts=True)
    if np.any(counts > 1):
        raise ValueError(f"{where}: {FIELD} holds {ids[counts > 1][0]} twice; allowed: once")
    if expected not in (None, digest(ids)):
        raise ValueError(
            f"{where}: holds other examples than it did, digest {digest(ids)}, not "
            f"dataset.subset_digest = {expected}; restore it, or train into another workdir"
        )
    return ids


def digest(example_ids: np.ndarray) -> str:
    """Returns a fingerprint of a subset: the start of the SHA-256 of its ids, in hex.

    Args:
        example_ids: (M,) integers, in any order.

    Returns:
        16 characters.
    """
    ordered = np.sort(np.asarray(example_ids)).astype("<i8")
    return hashlib.sha256(ordered.tobytes()).hexdigest()[:16]


def keep(dataset: Dataset, path: str | Path, *, expected: str | None = None) -> Dataset:
    """Returns the examples of a dataset whose ids a file holds.

    Args:
        dataset: the training set, after validation split and imbalance.
        path: as for `read_ids`.
        expected: as for `read_ids`.

    Returns:
        A Dataset in the same order.

    Raises:
        ValueError: as `read_ids`, or if an id is not in the dataset, or a group in part.
    """
    ids = read_ids(path, expected=expected)
    unknown = np.setdiff1d(ids, dataset.example_ids)
    if unknown.size:
        raise ValueError(
            f"dataset.subset = {str(path)!r}: {FIELD} holds {unknown[0]}, which is not among the "
            f"{dataset.num_examples} training examples of {dataset.info.name} (of {len(ids)} ids "
            f"{unknown.size} are not)"
        )
    is_kept = np.isin(dataset.example_ids, ids)
    if dataset.groups is not None:
        divided = np.intersect1d(dataset.groups[is_kept], dataset.groups[~is_kept])
        if divided.size:
            whole = dataset.groups == divided[0]
            raise ValueError(
                f"dataset.subset = {str(path)!r}: {FIELD} divides {divided.size} groups of "
                f"dataset.groups; of the first it holds {np.sum(whole & is_kept)} of "
                f"{np.sum(whole)} examples, such as {dataset.example_ids[whole & is_kept][0]}, and "
                f"not {dataset.example_ids[whole & ~is_kept][0]}. Take all of a group or none"
            )
    return dataset.take(np.flatnonzero(is_kept))
