"""A dataset under many corruptions: every example's class under each, at each severity.

The loop runs on the host over blocks of one size, each split over the devices; images are corrupted
as they are needed, so that no archive of corrupted ones is kept.  What is drawn belongs to an
example, so that results depend on neither the blocks nor the order.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rbjax import journal as journals
from rbjax import prng
from rbjax.batches import Batches
from rbjax.corruptions import table
from rbjax.inputs import check_dataset, logits_shape
from rbjax.metrics import confusion_matrix
from rbjax.tables import lookup
from rbjax.typing import Array, Key, LogitsFn, Perturbation

CLEAN = "clean"


Progress = Callable[[str, int, int], None]
"""(name and severity, images classified, of how many)."""


@dataclasses.dataclass(frozen=True, eq=False)
class CorruptionResult:
    """The class of every example under every corruption."""

    labels: np.ndarray
    """(N,) int32."""
    num_classes: int
    clean: np.ndarray
    """(N,) int32, the class of each image as it is."""
    predictions: Mapping[str, np.ndarray]
    """By corruption, (S, N) int32."""
    severities: Mapping[str, tuple[int, ...]]
    """By corruption, the S severities."""

    def confusion(self, name: str = CLEAN) -> np.ndarray:
        """Returns counts, row = true class, column = predicted class.

        Args:
            name: "clean", or a corruption.

        Returns:
            (K, K); of a corruption (S, K, K).

        Raises:
            ValueError: for an unknown name.
        """
        known = {CLEAN: self.clean, **self.predictions}
        predictions = lookup(known, name, what="corruption")
        matrices = [
            np.asarray(confusion_matrix(self.labels, row, self.num_classes))
            for row in np.atleast_2d(predictions)
        ]
        return matrices[0] if name == CLEAN else np.stack(matrices)


def run_corruptions(
    logits_fn: LogitsFn,
    key: Key,
    images: Any,
    labels: np.ndarray | Array,
    *,
    profile: str,
    severities: Mapping[str, Sequence[int]] | None = None,
    example_ids: np.ndarray | Array | None = None,
    batch_size: int | None = None,
    devices: Sequence[Any] | None = None,
    journal: str | Path | None = None,
    progress: Progress | None = None,
    finished: Callable[[str, CorruptionResult], None] | None = None,
) -> CorruptionResult:
    """Classifies a dataset under corruptions, cut to 256 levels (`quantize` of `create`).

    The key of an image under a corruption is fold_in(named(key, "<name>-<severity>"), example_id).

    Args:
        logits_fn: images -> logits (B, K). With `Partial(model.apply, variables)` new weights do
            not compile again.
        key: one key.
        images: (N, H, W, C) uint8, or floating in [0, 1]; an array, a memory map, or whatever is
            indexed by row numbers. They are read block by block.
        labels: (N,) integers, the true classes.
        profile: whose constants; one of `PROFILES`.
        severities: by corruption, of 1 to 5; None: all corruptions of the profile at the severities
            that are published, 1 to 5 each, of "mnist" one each.
        example_ids: (N,) integers; None: the row numbers.
        batch_size: images at once, over all devices; None: by the platform.
        devices: the `jax.Device`s to use; None: all local ones.
        journal: a folder in which finished blocks are kept; the same call goes on from there.
        progress: called after each block.
        finished: called with "clean" and with the name of each corruption as it ends, and what
            there is until then.

    Returns:
        Predictions of every example, clean and under each corruption.

    Raises:
        ValueError: for an unknown name, profile or severity, wrong shapes or values, or another
            call's journal.
    """
    chosen = _choose(profile, severities)
    images = np.asarray(images) if isinstance(images, jax.Array | list) else images
    labels = np.asarray(labels)
    ids = np.arange(len(labels)) if example_ids is None else np.asarray(example_ids)
    prng.check_one(key)
    num_classes = check_dataset(
        images,
        labels,
        count_classes=lambda one: logits_shape(logits_fn, one)[-1],
        example_ids=ids,
    )
    batches = Batches(len(labels), batch_size, devices)
    folder = journals.claim(journal, lambda: batches.describe(key, images, labels, ids, logits_fn))
    work = _Work(
        logits_fn=batches.replicate(_as_pytree(logits_fn)),
        key=key,
        images=images,
        example_ids=ids.astype(np.int32),
        batches=batches,
        journal=journals.Journal(folder),
        tell=progress or (lambda *_: None),
    )
    ended = finished or (lambda *_: None)
    predictions: dict[str, np.ndarray] = {}
    clean = _in_blocks(work, CLEAN, None)
    result = CorruptionResult(labels.astype(np.int32), num_classes, clean, predictions, chosen)
    ended(CLEAN, result)
    for name, levels in chosen.items():
        rows = [
            _in_blocks(
                work,
                f"{name}-{level}",
                table.create(name, severity=level, profile=profile, quantize=True),
            )
            for level in levels
        ]
        predictions[name] = np.stack(rows)
        ended(name, result)
    return result


def published(profile: str) -> dict[str, tuple[int, ...]]:
    """Returns the corruptions of a profile and their published severities.

    Args:
        profile: one of `PROFILES`.

    Returns:
        Severities by name.

    Raises:
        ValueError: for an unknown profile.
    """
    return {name: table.severities(name, profile) for name in table.names(profile)}


class _Work(NamedTuple):
    """What all corruptions of a call have in common."""

    logits_fn: LogitsFn
    key: Key
    images: Any
    example_ids: np.ndarray
    batches: Batches
    journal: journals.Journal
    tell: Progress


def _choose(
    profile: str, severities: Mapping[str, Sequence[int]] | None
) -> dict[str, tuple[int, ...]]:
    """Returns the severities of each corruption; all are made once, so that errors come first."""
    severities = published(profile) if severities is None else severities
    for name, levels in severities.items():
        for level in levels:
            table.create(name, severity=level, profile=profile)
    return {name: tuple(map(int, levels)) for name, levels in severities.items()}


def _in_blocks(work: _Work, label: str, corruption: Perturbation | None) -> np.ndarray:
    """Returns the classes of all images under a corruption, block by block, (N,) int32."""
    num_rows, size = len(work.example_ids), work.batches.size
    predictions = np.empty(num_rows, np.int32)
    stream = prng.named(work.key, label)
    work.tell(label, 0, num_rows)
    mark = journals.digest(label, journals.identity(corruption) if corruption else CLEAN)
    for start in range(0, num_rows, size):
        rows = np.arange(start, min(start + size, num_rows))
        file = f"{label}-{mark}-block-{start // size:06d}"
        found = work.journal.read_block(file)
        if found is None or found["predictions"].shape != rows.shape:
            filled, images = work.batches.block(work.images, rows)
            if corruption is not None:
                ids = work.batches.place(work.example_ids[filled])
                images = _corrupt(corruption, stream, ids, images)
            found = {"predictions": np.asarray(_classes(work.logits_fn, images))[: len(rows)]}
            work.journal.write_block(file, **found)
        predictions[rows] = found["predictions"]
        work.tell(label, int(rows[-1]) + 1, num_rows)
    return predictions


@functools.partial(jax.jit, static_argnums=0)
def _corrupt(corruption: Perturbation, stream: Key, ids: Array, images: Array) -> Array:
    return jax.vmap(corruption)(prng.per_example(stream, ids), images)


@jax.jit
def _classes(logits_fn: LogitsFn, images: Array) -> Array:
    return jnp.argmax(logits_fn(images), axis=-1).astype(jnp.int32)


def _as_pytree(logits_fn: LogitsFn) -> Any:
    if isinstance(logits_fn, jax.tree_util.Partial):
        return logits_fn
    return jax.tree_util.Partial(logits_fn)
