"""Evaluation: a run's newest weights under every attack of the config, per class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tqdm import tqdm

import rbjax
from rbjax import atomic, attacks, metrics, prng
from rbjax.config import Config
from rbjax.data import Dataset, pipeline
from rbjax.training import setup
from rbjax.training.predict import classes, predict
from rbjax.typing import Attack, LogitsFn

REPORT_FILE = "report.json"
EXAMPLES_FILE = "report.npz"


def evaluate(config: Config, workdir: str) -> dict[str, Any]:
    """Attacks the test set and writes the report.

    Args:
        config: a resolved config; its dataset and model are the run's.
        workdir: a run directory with a checkpoint.

    Returns:
        What was written to report.json: for "clean" and for each attack its settings, confusion
        matrix and summary.  report.npz holds each example's predictions, and each universal
        perturbation.

    Raises:
        ValueError: if the run directory holds no checkpoint.
    """
    # ------------------------------------------------------------------ the trained model
    test = setup.load_test(config)
    model = setup.create_model(config, test.info)
    step, variables = setup.trained_variables(config, workdir, model)
    logits_fn = jax.tree_util.Partial(model.apply, jax.device_put(variables))
    print(f"{workdir}: evaluating step {step} on {test.num_examples} test images")

    # ------------------------------------------------------------------ clean, then each attack
    examples: dict[str, np.ndarray] = {
        "index": test.index,
        "example_ids": test.example_ids,
        "labels": test.labels,
        "clean": predict(logits_fn, test, batch_size=config.batch_size),
    }
    results = {"clean": _result({}, test, examples["clean"], examples["clean"])}
    for label, group in config.attacks.items():
        key = prng.named(jax.random.key(config.seed), f"evaluate/{label}")
        if group.name == "universal":
            examples[label], delta = _under_universal(config, group, logits_fn, key, test)
            examples[f"{label}/perturbation"] = delta
        else:
            attack = attacks.create(group.name, **setup.options(group))
            examples[label] = _under_attack(
                attack, logits_fn, key, test, batch_size=config.batch_size, title=label
            )
        results[label] = _result(group.to_dict(), test, examples[label], examples["clean"])

    # ------------------------------------------------------------------ the report
    report = {
        "config": config.to_dict(),
        "step": step,
        "dataset": config.dataset.name,
        "split": test.split,
        "class_names": list(test.info.class_names),
        "class_counts": test.class_counts,
        "train_class_counts": setup.load_train(config)[0].class_counts,
        "results": results,
        "order": list(results),
        "versions": {"rbjax": rbjax.__version__, "jax": jax.__version__},
        "device": jax.devices()[0].device_kind,
    }
    atomic.write_json(Path(workdir) / REPORT_FILE, report)
    atomic.write_npz(Path(workdir) / EXAMPLES_FILE, **examples)
    return report


def _under_attack(
    attack: Attack,
    logits_fn: LogitsFn,
    key: jax.Array,
    test: Dataset,
    *,
    batch_size: int,
    title: str,
) -> np.ndarray:
    """Returns the class of each attacked image, the batch split over the local devices."""
    devices = jax.local_devices()
    sharding = NamedSharding(Mesh(np.asarray(devices), ("data",)), PartitionSpec("data"))
    size = min(batch_size, test.num_examples)
    size = -(-size // len(devices)) * len(devices)
    total = -(-test.num_examples // size)
    parts = []
    batches = pipeline.batches(test, size)
    for batch in tqdm(batches, title, total=total, unit="batch", leave=False, disable=None):
        batch = jax.device_put(batch, sharding)
        keys = prng.per_example(key, batch.example_ids)
        result = attack(logits_fn, keys, batch.images, batch.labels)
        parts.append(np.asarray(classes(logits_fn, result.images))[np.asarray(batch.mask)])
    return np.concatenate(parts)


def _under_universal(
    config: Config, group: Config, logits_fn: LogitsFn, key: jax.Array, test: Dataset
) -> tuple[np.ndarray, np.ndarray]:
    """Crafts one perturbation on train and returns test's classes under it, and it."""
    train = setup.first(setup.load_train(config)[0], group.max_examples)
    options = {k: v for k, v in setup.options(group).items() if k != "max_examples"}
    with tqdm(
        total=group.num_epochs, desc="universal", unit="epoch", leave=False, disable=None
    ) as bar:

        def progress(done: int, total: int, loss: float) -> None:
            bar.set_postfix(loss=f"{loss:.3f}")
            bar.update(done - bar.n)

        crafted = attacks.craft_universal(
            logits_fn,
            key,
            train.images,
            train.labels,
            example_ids=train.example_ids,
            batch_size=config.batch_size,
            progress=progress,
            **options,
        )
    evaluation = attacks.evaluate_universal(
        logits_fn, test.images, test.labels, crafted.delta, batch_size=config.batch_size
    )
    return evaluation.predictions, np.asarray(crafted.delta)


def _result(
    spec: dict[str, Any], test: Dataset, predictions: np.ndarray, clean: np.ndarray
) -> dict[str, Any]:
    """One attack's counts and what follows from them."""
    matrix = metrics.confusion_matrix(test.labels, predictions, test.info.num_classes)
    right = clean == test.labels
    fooled = right & (predictions != test.labels)
    return {
        "attack": spec,
        "confusion": np.asarray(matrix),
        "summary": metrics.summarize(matrix),
        "classwise": metrics.from_confusion(np.asarray(matrix))._asdict(),
        "fooling_rate": float(np.mean(predictions != clean)),
        "attack_success_rate": float(fooled.sum() / right.sum()) if right.any() else None,
    }
