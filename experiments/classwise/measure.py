"""One network of the grid: trained, then tested class by class, attacked and corrupted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import jax.numpy as jnp
import numpy as np

from experiments import corrupted as corrupted_images
from experiments.answers import packed
from rbjax import attacks, command_line, prng
from rbjax.config import Config
from rbjax.data import Dataset
from rbjax.sweep import Result
from rbjax.train import train
from rbjax.training import setup
from rbjax.training.log import read_metrics
from rbjax.typing import LogitsFn

_BATCH = 250
_TRENDS = {"clean": "validation/recall", "robust": "validation/robust_recall"}


def measure(
    config: Config,
    workdir: str,
    *,
    radii: Mapping[str, float],
    num_steps: int,
    corrupted: int,
    norm: Literal["linf", "l2"] = "linf",
) -> Result:
    """Trains a network and returns what it answers, image by image, and how it got there.

    Args:
        config: not yet resolved; `config.corruptions` says under what it is tested.
        workdir: the run directory; corrupted images are kept in the folder `corrupted` beside it.
        radii: of PGD, by label.
        num_steps: of it.
        corrupted: test images under corruptions, alike from each class; 0: none are.
        norm: of the radii.

    Returns:
        "train_count" (K,), "count" (K,) of the test images; their "labels" and the class that each
        is given, "clean" and under each label of `radii`, as `packed`; "similarity" (K, K), the
        cosines between the mean logits of classes; "trends", accuracies of each class of the
        validation images after each epoch, "clean" and "robust", (E, K) each; "corruptions", of
        `corrupted.classify`, where any are asked for.
    """
    resolved = command_line.resolve(config, workdir)
    train(resolved, workdir)
    logits_fn = setup.trained_logits_fn(resolved, workdir)
    test = setup.load_test(resolved)
    found = attacks.run_attacks(
        logits_fn,
        prng.key(config.seed),
        test.images,
        test.labels,
        attacks={
            label: attacks.pgd(epsilon=radius, step_size=radius / 8, num_steps=num_steps, norm=norm)
            for label, radius in radii.items()
        },
        example_ids=test.example_ids,
        batch_size=_BATCH,
        journal=Path(workdir) / "attacks",
    )
    result = {
        "train_count": setup.load_train(resolved)[0].class_counts,
        "count": test.class_counts,
        "class_names": list(test.info.class_names),
        "labels": packed(test.labels),
        "clean": packed(found.clean),
        **{label: packed(outcome.predictions) for label, outcome in found.outcomes.items()},
        "similarity": np.round(mean_logit_cosines(logits_fn, test), 4),
        "trends": _trends(workdir),
    }
    if corrupted:
        folder = Path(workdir).parent / "corrupted"
        some = corrupted_images.prepare(resolved, folder, number=corrupted)
        result["corruptions"] = corrupted_images.classify(logits_fn, some)
    return result


def mean_logit_cosines(logits_fn: LogitsFn, dataset: Dataset) -> np.ndarray:
    """Returns P2's cross-class feature similarity, (K, K).

    cos(m_i, m_j), where m_i is the mean of the logits of the images of class i.

    Args:
        logits_fn: images -> logits (B, K).
        dataset: the images, some of each class.
    """
    num_classes = dataset.info.num_classes
    sums = np.zeros((num_classes, num_classes))
    for start in range(0, dataset.num_examples, _BATCH):
        rows = slice(start, start + _BATCH)
        images = jnp.asarray(dataset.images[rows], jnp.float32) / 255
        np.add.at(sums, dataset.labels[rows], np.asarray(logits_fn(images), np.float64))
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    units = sums / np.where(lengths > 0, lengths, 1.0)
    return units @ units.T


def _trends(workdir: str) -> dict[str, list[np.ndarray]]:
    """Returns the accuracies that training logged after each epoch; NaN: of no image."""
    records = read_metrics(workdir)
    return {
        name: [np.round(np.asarray(r[field], float), 4) for r in records if field in r]
        for name, field in _TRENDS.items()
    }
