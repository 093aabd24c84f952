"""What a cell of the grid does: trains, scores, and returns first failures as plain values."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.datapoints import records
from experiments.datapoints.readings import READINGS
from rbjax import atomic, command_line, data, perturbations, prng, rpr
from rbjax.config import Config
from rbjax.data.subset import read_ids
from rbjax.inputs import to_float
from rbjax.rpr.selection import random_subset, robust_subset
from rbjax.train import train
from rbjax.training import setup
from rbjax.training.predict import predict
from rbjax.typing import LogitsFn

KINDS = ("robust", "random", "balanced")
"""What a model is trained on beside all images: robust ones (M_R), as many at random (M_C), and as
many of each class at random (M_B)."""
BUDGETS = ("epochs", "updates")
"""What such a model has in common with M: passes over its images, or updates."""


def read(
    config: Config,
    workdir: str,
    *,
    schemes: Sequence[str],
    num_images: int | None,
    max_steps: int,
) -> dict[str, Any]:
    """Trains M under a reading of the model; scores both splits under readings of the scheme.

    Args:
        config: of M.
        workdir: the cell's folder.
        schemes: names in `READINGS`.
        num_images: of each split that are scored; None: all.
        max_steps: draws of an image.

    Returns:
        The first failures: result["test"][scheme], result["train"][scheme].
    """
    logits_fn, about = _trained(config, f"{workdir}/M")
    result: dict[str, Any] = {"M": about, "max_steps": max_steps, "labels": {}}
    for split in ("test", "train"):
        images = setup.first(_load(config.dataset.name, split), num_images)
        result["labels"][split] = records.pack_labels(images.labels)
        result[split] = {
            scheme: records.pack(
                _score(config, logits_fn, images, scheme, max_steps, f"{workdir}/{split}-{scheme}")
            )
            for scheme in schemes
        }
    return result


def retrain(
    config: Config,
    workdir: str,
    *,
    scheme: str,
    num_test: int | None,
    num_train: int | None,
    max_steps: int,
    per_class: int,
    balanced: bool,
) -> dict[str, Any]:
    """Trains M, trains on the training images that withstand it and on controls, and scores all.

    Args:
        config: of M.
        workdir: the cell's folder.
        scheme: a name in `READINGS`.
        num_test: test images scored; None: all.
        num_train: training images scored, among which all subsets are chosen; None: all.
        max_steps: draws of an image.
        per_class: robust images kept of each class at most.
        balanced: whether of each class as many are kept as of the one that has the fewest.

    Returns:
        "models": what each was trained on and its accuracy; "test" and "train": first failures of
        the models that were scored; "rows": which test images each classifies correctly.
    """
    pools = {
        split: setup.first(_load(config.dataset.name, split), number)
        for split, number in (("test", num_test), ("train", num_train))
    }

    def score(model: str, logits_fn: LogitsFn, split: str) -> records.Scored:
        folder = f"{workdir}/{model}-{split}"
        return _score(config, logits_fn, pools[split], scheme, max_steps, folder)

    logits_fn, about = _trained(config, f"{workdir}/M")
    scores = {split: score("M", logits_fn, split) for split in pools}
    result: dict[str, Any] = {
        "max_steps": max_steps,
        "labels": {split: records.pack_labels(pool.labels) for split, pool in pools.items()},
        "models": {"M": about},
        "train": {"M": records.pack(scores["train"])},
        "test": {"M": records.pack(scores["test"])},
        "fooling": _fooling(config, logits_fn, pools["test"], scores["test"], scheme),
    }
    subsets = _subsets(pools["train"], scores["train"].robust, per_class, balanced, config.seed)
    result["class_counts"], result["available"] = subsets.class_counts, subsets.available
    for kind, rows in subsets.rows.items():
        path = Path(workdir) / f"{kind}.npz"
        atomic.write_npz(path, example_ids=pools["train"].example_ids[rows])
        for budget in BUDGETS:
            name = f"{kind}-{budget}"
            own = _on_subset(config, path, len(rows), about["updates"], budget)
            retrained, result["models"][name] = _trained(own, f"{workdir}/{name}")
            result["test"][name] = records.pack(score(name, retrained, "test"))
    return result


def prbench(
    config: Config,
    workdir: str,
    *,
    radii: Sequence[float],
    num_images: int | None,
    num_draws: int,
) -> dict[str, Any]:
    """Trains a network and counts failures under uniform noise of several radii.

    Args:
        config: of the network.
        workdir: the cell's folder.
        radii: of the balls.
        num_images: test images; None: all.
        num_draws: of each image and radius.

    Returns:
        "failures": by law ("truncated", as PRBench's code draws, and "clipped") and radius, of each
        image; "clean": which are correctly classified.
    """
    logits_fn, about = _trained(config, f"{workdir}/net")
    images = setup.first(_load(config.dataset.name, "test"), num_images)
    key = prng.named(prng.key(config.seed), "prbench")
    result: dict[str, Any] = {
        "net": about,
        "num_draws": num_draws,
        "labels": {"test": records.pack_labels(images.labels)},
        "failures": {"truncated": {}, "clipped": {}},
    }
    for law in result["failures"]:
        for radius in radii:
            drawn = rpr.count_failures(
                logits_fn,
                key,
                images.images,
                images.labels,
                perturbation=perturbations.uniform_noise(
                    epsilon=radius, truncated=law == "truncated"
                ),
                num_draws=num_draws,
                example_ids=images.example_ids,
                block_size=100,
            )
            result["failures"][law][str(radius)] = drawn.failures
            result["clean"] = records.pack_flags(drawn.clean_correct)
    return result


class _Subsets(NamedTuple):
    """Rows of the scored training images, by what the model is to be trained on."""

    rows: dict[str, np.ndarray]
    class_counts: np.ndarray
    available: np.ndarray


def _subsets(
    pool: data.Dataset, robust: np.ndarray, per_class: int, balanced: bool, seed: int
) -> _Subsets:
    """Chooses robust images, as many at random, and as many of each class at random."""
    num_classes = pool.info.num_classes
    options: dict[str, Any] = {"example_ids": pool.example_ids, "seed": seed}
    available = np.bincount(pool.labels[robust], minlength=num_classes)
    if balanced:
        per_class = min(per_class, int(available.min()))
    if not per_class:
        raise ValueError(
            f"no image of class {int(available.argmin())} withstands M, so that no subset has the "
            "same number of each class; score more images, or take --unbalanced"
        )
    chosen = robust_subset(
        robust, pool.labels, num_classes=num_classes, per_class=per_class, **options
    )
    counts = chosen.class_counts
    # Of one class, as it were: each image as likely as another.
    any_class = random_subset(
        np.zeros_like(pool.labels), class_counts=np.array([counts.sum()]), **options
    )
    same_classes = random_subset(pool.labels, class_counts=counts, **options)
    rows = (chosen.rows, any_class.rows, same_classes.rows)
    return _Subsets(dict(zip(KINDS, rows, strict=True)), counts, available)


def _on_subset(config: Config, path: Path, number: int, updates: int, budget: str) -> Config:
    """Returns M's config for a subset: M's epochs, or as near to M's updates as epochs allow."""
    config = config.copy_and_resolve_references()
    config.dataset.subset = str(path)
    config.dataset.max_train_examples = None
    # A subset smaller than a batch is one batch, dealt over the devices.
    size = min(config.batch_size, number)
    config.batch_size = max(size - size % jax.local_device_count(), 1)
    if budget == "updates":
        config.num_epochs = max(round(updates / (number // config.batch_size)), 1)
    return config


def _trained(config: Config, workdir: str) -> tuple[LogitsFn, dict[str, Any]]:
    """Trains a model, or resumes its training, and says what it is."""
    config = config.copy_and_resolve_references()
    config.checkpoint.every_epochs = 10  # a subset's epochs are a second each
    resolved = command_line.resolve(config, workdir)
    train(resolved, workdir)
    logits_fn = setup.trained_logits_fn(resolved, workdir)
    test = _load(config.dataset.name, "test")
    correct = predict(logits_fn, test) == test.labels
    subset = config.dataset.get("subset")
    number = len(read_ids(subset)) if subset else _load(config.dataset.name, "train").num_examples
    number = min(number, config.dataset.get("max_train_examples") or number)
    return logits_fn, {
        "images": number,
        "epochs": config.num_epochs,
        "updates": config.num_epochs * (number // config.batch_size),
        "accuracy": float(np.mean(correct)),
        "tested": len(correct),
        "rows": records.pack_flags(correct),
    }


def _score(
    config: Config,
    logits_fn: LogitsFn,
    images: data.Dataset,
    scheme: str,
    max_steps: int,
    journal: str,
) -> records.Scored:
    """Scores images with the seed's draws, the same for every model; resumes from the journal."""
    with rpr.progress_bar(scheme) as progress:
        scores = rpr.score(
            logits_fn,
            prng.named(prng.key(config.seed), "rpr"),
            images.images,
            images.labels,
            max_steps=max_steps,
            perturbation=READINGS[scheme].perturbation(),
            example_ids=images.example_ids,
            journal=journal,
            progress=progress,
        )
    return records.Scored(scores.first_failure, scores.clean_correct, images.labels, max_steps)


def _fooling(
    config: Config,
    logits_fn: LogitsFn,
    images: data.Dataset,
    scored: records.Scored,
    scheme: str,
) -> dict[str, Any] | None:
    """Returns the image whose first failing draw is nearest to figure 2's 47, and that draw.

    Among images that are correctly classified; None where no such image failed. The draw is made
    again, from the key it has in scoring.
    """
    failed = np.flatnonzero(scored.clean_correct & ~scored.robust)
    if not failed.size:
        return None
    published = records.expected("P4")["first_failure"]
    row = failed[np.argmin(np.abs(scored.first_failure[failed] - published))]
    number = int(scored.first_failure[row])
    image = to_float(jnp.asarray(images.images[row]))
    key = prng.fold_in(prng.named(prng.key(config.seed), "rpr"), int(images.example_ids[row]))
    perturbed = READINGS[scheme].perturbation()(prng.fold_in(key, number), image)
    logits = logits_fn(jnp.stack([image, perturbed]))
    before, after = np.argmax(np.asarray(logits), axis=-1).tolist()
    return {
        "row": int(row),
        "draw": number,
        "before": before,
        "after": after,
        "shape": list(image.shape),
        "perturbed": np.asarray(jnp.round(255 * perturbed), np.uint8).tobytes().hex(),
    }


@functools.lru_cache(maxsize=2)
def _load(name: str, split: str) -> data.Dataset:
    return data.load(name, split)
