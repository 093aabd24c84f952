"""Corrupted test images, made once for all cells of a grid and kept beside their run directories.

`rbjax.evaluate` corrupts images as they are needed, each model anew; over a grid that is most of an
evaluation's time. What is drawn is what `rbjax.corruptions.run_corruptions` draws of the key 0.
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.answers import packed
from rbjax import atomic, corruption_setup, corruptions, data, prng
from rbjax.config import Config
from rbjax.data import Dataset
from rbjax.inputs import to_float
from rbjax.sweep import Result
from rbjax.training import setup
from rbjax.training.predict import predict
from rbjax.typing import LogitsFn

_AT_ONCE = 250


class Corrupted(NamedTuple):
    """Some test images, alike from each class, under the corruptions of a config."""

    images: Dataset
    """As they are."""
    plan: corruption_setup.Plan
    folder: Path

    def under(self, name: str) -> np.ndarray:
        """Returns the images under a corruption, (S, N, H, W, C) uint8, mapped from their file."""
        file = self.folder / f"{name}.npy"
        if not file.exists():
            made = np.stack([self._corrupt(name, level) for level in self.plan.severities[name]])
            with atomic.replace(file) as opened:
                np.save(opened, made)
        return np.load(file, mmap_mode="r")

    def _corrupt(self, name: str, level: int) -> np.ndarray:
        options: dict[str, Any] = {"quantize": True, **self.plan.options[name]}
        corruption = corruptions.create(name, severity=level, profile=self.plan.profile, **options)
        stream = prng.named(prng.key(0), f"{name}-{level}")
        compiled = jax.jit(jax.vmap(corruption))
        made = []
        for start in range(0, self.images.num_examples, _AT_ONCE):
            rows = slice(start, start + _AT_ONCE)
            ids = jnp.asarray(self.images.example_ids[rows])
            images = to_float(np.asarray(self.images.images[rows]))
            corrupted = jnp.clip(compiled(prng.per_example(stream, ids), images), 0.0, 1.0)
            made.append(np.asarray(jnp.round(255 * corrupted), np.uint8))
        return np.concatenate(made)


def prepare(config: Config, folder: Path, *, number: int) -> Corrupted:
    """Returns test images of a config under its corruptions; each is made when it is asked for.

    Args:
        config: resolved; `config.corruptions` says under what.
        folder: where they are kept.
        number: of images, as many of each class as there are of the scarcest at most.
    """
    test = setup.load_test(config)
    each = number // test.info.num_classes
    some = data.subsample(test, lambda counts: np.minimum(counts, each))
    plan = corruption_setup.create(config, test.info)
    about = repr((config.dataset.name, some.num_examples, plan.profile, plan.severities))
    digest = hashlib.sha256(about.encode() + some.example_ids.tobytes() + some.labels.tobytes())
    place = folder / f"{config.dataset.name}-{plan.profile}-{digest.hexdigest()[:12]}"
    place.mkdir(parents=True, exist_ok=True)
    return Corrupted(some, plan, place)


def classify(logits_fn: LogitsFn, corrupted: Corrupted) -> Result:
    """Returns what a model gets right of corrupted images.

    Args:
        logits_fn: the model.
        corrupted: of `prepare`.

    Returns:
        "labels" (N,) and "right" (N,), of how many of "total" corruptions and severities each image
        is correctly classified, as `packed`; "accuracy" by corruption, at each severity, and
        "class_accuracy", (K,) over its severities; "profile", whose constants.
    """
    right = np.zeros(corrupted.images.num_examples, np.int64)
    labels, counts = corrupted.images.labels, corrupted.images.class_counts
    accuracy, class_accuracy, total = {}, {}, 0
    for name in corrupted.plan.names:
        accuracy[name], before = [], right
        for images in corrupted.under(name):
            moved = dataclasses.replace(corrupted.images, images=np.asarray(images))
            is_right = predict(logits_fn, moved, batch_size=_AT_ONCE) == moved.labels
            right, total = right + is_right, total + 1
            accuracy[name].append(float(np.mean(is_right)))
        mine = np.bincount(labels, right - before, minlength=len(counts))
        class_accuracy[name] = np.round(mine / np.maximum(counts, 1) / len(accuracy[name]), 4)
    return {
        "labels": packed(labels),
        "right": packed(right),
        "total": total,
        "accuracy": accuracy,
        "class_accuracy": class_accuracy,
        "profile": corrupted.plan.profile,
    }
