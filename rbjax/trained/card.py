"""A model's card: what a saved file says of its weights, as JSON under a few keys."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax
import jax
import numpy as np

import rbjax
from rbjax import atomic
from rbjax import config as schema
from rbjax.blocks import AXIS
from rbjax.config import Config
from rbjax.data import Dataset, own_images, subset
from rbjax.data.card import found
from rbjax.data.images import is_resident
from rbjax.data.prepare import published_files
from rbjax.trained.run import Run
from rbjax.training import hooks, setup, state

FORMAT, VERSION = "rbjax", "1"
KEYS = (
    "model",
    "class_names",
    "checkpoint",
    "posthoc",
    "config",
    "data",
    "evaluation",
    "seeds",
    "licence",
    "versions",
)
ABOUT = (
    "A classifier trained with rbjax; rbjax.load(path) gives it. The tensors are its variables in "
    "Flax, by dotted names. Images are float32 (B, H, W, C) in [0, 1]; the model itself "
    "subtracts the mean and divides by the std that stand under 'model'."
)
NOT_STATED = "not stated"
_OF_A_RESULT = ("attack", "classwise", "interval", "summary")


def make(run: Run, *, licence: str | None) -> dict[str, Any]:
    """Returns the card of a model; one that was loaded from a file keeps its own.

    Args:
        run: the model.
        licence: of the weights; None: what its card says, else "not stated".

    Returns:
        Plain values under `KEYS`.
    """
    if run.card is not None:
        return {**run.card, "licence": licence or run.card["licence"]}
    config = run.config
    trained_on = _train_set(config, run.path)
    return atomic.plain(
        {
            "model": _model(run),
            "class_names": run.class_names,
            "checkpoint": {
                "which": run.checkpoint,
                "step": run.step,
                "weights": "average" if state.is_averaged(config) else "plain",
            },
            "posthoc": _posthoc(config, trained_on),
            "config": schema.stamped(_without_folders(config.to_dict()), rbjax.__version__),
            "data": _data(config, trained_on),
            "evaluation": _evaluation(run.report),
            "seeds": {"training": config.seed, "imbalance": config.imbalance.seed},
            "licence": licence or NOT_STATED,
            "versions": {
                "rbjax": rbjax.__version__,
                "jax": jax.__version__,
                "flax": flax.__version__,
                "numpy": np.__version__,
            },
        }
    )


def _without_folders(config: dict[str, Any]) -> dict[str, Any]:
    """Returns a config whose paths are names alone: the file travels, folders do not."""
    groups = {name: dict(group) for name, group in config.items() if isinstance(group, dict)}
    attacks = {label: dict(attack) for label, attack in groups["attacks"].items()}
    for names, holders in (
        (("path", "metadata", "subset", "devkit"), [groups["dataset"]]),
        (("weights",), [groups["model"]]),
        (("baseline",), [groups["corruptions"]]),
        (("backbone", "start_from"), [groups["method"]]),
        (("source",), list(attacks.values())),
    ):
        for holder in holders:
            for name in names:
                if isinstance(holder.get(name), str):
                    holder[name] = Path(holder[name]).name
    kind, _, path = (groups["dataset"].get("test_on") or "").partition(":")
    if path and kind in own_images.ENCODED:
        groups["dataset"]["test_on"] = f"{kind}:{Path(path).name}"
    return {**config, **groups, "attacks": attacks, "workdir": None, "data_dir": None}


def to_text(card: Mapping[str, Any]) -> dict[str, str]:
    """Returns a card as the metadata of a file: JSON under each key."""
    text = {"format": FORMAT, "format_version": VERSION, "about": ABOUT}
    return text | {key: json.dumps(card[key], allow_nan=False) for key in KEYS}


def from_text(text: Mapping[str, str]) -> dict[str, Any]:
    """Returns the card that a file's metadata hold.

    Raises:
        ValueError: if the file is another program's, of a later rbjax, or damaged.
    """
    if text.get("format") != FORMAT:
        raise ValueError(
            "holds tensors, but no model that rbjax.save wrote; rbjax.weights.read reads them, "
            "rbjax.models.from_torch into a model"
        )
    version = text.get("format_version")
    if version != VERSION:
        raise ValueError(f"is of format {version!r:.50}; this rbjax knows {VERSION}: update it")
    try:
        return {key: json.loads(text[key]) for key in KEYS}
    except (KeyError, ValueError, RecursionError) as error:
        raise ValueError(f"is damaged: {type(error).__name__} {error} in its metadata") from None


def digest(text: Mapping[str, str], tensors: Mapping[str, np.ndarray]) -> str:
    """Returns the SHA-256 of what a card says, and of the weights, in hex."""
    made = hashlib.sha256()
    said = [(key, text.get(key, "")) for key in ("format", "format_version", "about", *KEYS)]
    made.update(json.dumps(said).encode())
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        made.update(json.dumps([name, array.dtype.name, array.shape]).encode())
        made.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return made.hexdigest()


def _model(run: Run) -> dict[str, Any]:
    """Returns what `models.create` is called with."""
    model, config = run.model, run.config
    return {
        "name": model.name,
        "num_classes": model.num_classes,
        "image_shape": model.image_shape,
        "mean": model.mean,
        "std": model.std,
        "dtype": config.model.dtype,
        "axis_name": AXIS if config.model.batch_norm == "synchronized" else None,
        "options": setup.options(config, "model"),
    }


def _posthoc(config: Config, trained_on: Dataset | None) -> dict[str, Any]:
    """Returns what was done to the tensors, and what is still to be done to their logits."""
    tau, adjustment = config.model.get("tau_norm"), config.model.get("logit_adjustment")
    said: dict[str, Any] = {"tau_norm": None, "logit_adjustment": None}
    if tau is not None:
        said["tau_norm"] = {"tau": tau, "applied_to_the_tensors": True}
    if adjustment:
        assert trained_on is not None  # the model was made with its counts
        said["logit_adjustment"] = {
            "tau": adjustment,
            "class_counts": trained_on.class_counts,
            "applied_to_the_tensors": False,
            "formula": "logits - tau * log(class_counts / sum(class_counts))",
        }
    return said


def _train_set(config: Config, workdir: str) -> Dataset | None:
    """Returns what a run was trained on; None if it is not on this machine."""
    info = setup.info(config)
    if "train" not in info.num_examples:  # given weights, on a test set
        return None
    if setup.own_data(config) is None and not found(info, config.data_dir):
        return None
    return hooks.trained_on(workdir, setup.load_train(config)[0])


def _data(config: Config, trained_on: Dataset | None) -> dict[str, Any]:
    """Returns a dataset's name, licence and checksums."""
    info, is_own = setup.info(config), setup.own_data(config) is not None
    known = () if is_own else published_files(config.dataset.name)
    files = [{"name": file.name, "sha256": file.sha256} for file in known]
    said: dict[str, Any] = {"name": config.dataset.name, "licence": info.licence, "files": files}
    said |= {key: config.dataset.get(key) for key in ("fingerprint", "subset_digest")}
    said |= {"notes": info.notes, "train": None}
    if trained_on is not None:
        said["train"] = {
            "class_counts": trained_on.class_counts,
            "example_ids_digest": subset.digest(trained_on.example_ids),
            "sha256": _digest_of(trained_on),
            "sha256_of": "label (little-endian int32) and pixels of each image, by example id",
        }
    return said


def _digest_of(dataset: Dataset) -> str | None:
    """Returns the SHA-256 of labels and pixels; None for images that are not in memory."""
    if not is_resident(dataset.images):
        return None
    made = hashlib.sha256()
    for label, image in zip(dataset.labels.astype("<i4"), dataset.images, strict=True):
        made.update(label.tobytes() + image.tobytes())
    return made.hexdigest()


def _evaluation(report: dict[str, Any] | None) -> dict[str, Any] | None:
    """Returns of an evaluation what a card shows: counts, accuracies and intervals per class."""
    if report is None:
        return None
    kept = ("dataset", "split", "step", "class_counts", "train_class_counts", "order")
    results = {
        label: {key: result[key] for key in _OF_A_RESULT}
        for label, result in report["results"].items()
    }
    worst = report.get("worst")
    return {**{key: report[key] for key in kept}, "results": results, "worst": worst}
