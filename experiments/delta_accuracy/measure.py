"""One cell: a version is trained, and classifies images, their copies, and images corrupted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.delta_accuracy import copies
from rbjax import command_line, corruptions, perturbations, prng, rpr
from rbjax.config import Config
from rbjax.corruptions import table as corruption_table
from rbjax.data import Dataset, alignmnist
from rbjax.sweep import Result
from rbjax.train import train
from rbjax.training import setup
from rbjax.training.predict import predict
from rbjax.typing import LogitsFn

COPIES = 5
"""Of each image, in P3's equation 1."""
BLOCKS = 75
"""Of AlignMNIST."""


def measure(
    config: Config,
    workdir: str,
    *,
    corrupted: int,
    corruption_names: Sequence[str],
    scored: int,
    draws: int,
    stable: int,
    shown: int,
    recipe: Mapping[str, Any],
) -> Result:
    """Trains a network and returns what it gets right, image by image.

    Args:
        config: of the training, not yet resolved.
        workdir: the run directory; copies are kept in the folder `copies` beside it.
        corrupted: test images under each corruption.
        corruption_names: at most 15, at MNIST-C's severities.
        scored: test images whose RPR is measured.
        draws: of each of those, at most.
        stable: training images that are classified in 75 copies; 0: none.
        shown: test images whose copies' classes are kept.
        recipe: "scale", "prior_weight", "num_pairs" and "num_updates" of the deformations.

    Returns:
        For "train", the images trained on, and "test": "clean", which are correctly classified, and
        "copies", how many of 5 copies are; both are read by `flags` and `counts`. "corruptions",
        how many of them an image withstands; "rpr", which images withstand all "draws"; "stable",
        of 75 copies how many images each gets right, and the sum of squares over images of their
        right copies; "shown", a digit for each copy's class, and "labels", for each image's;
        "source", whose copies the training images have.
    """
    config = command_line.resolve(config, workdir)
    train(config, workdir)
    logits_fn = setup.trained_logits_fn(config, workdir)
    train_set, test = setup.load_train(config)[0], setup.load_test(config)
    deformer = copies.deformer(config, recipe_of(recipe), Path(workdir).parent / "copies")
    given = copies.published(setup.first(train_set, 1), 1, config.data_dir) is not None

    def train_copy(dataset: Dataset, block: int) -> np.ndarray:
        copy = copies.published(dataset, block, config.data_dir) if given else None
        return deformer.copy(dataset, block) if copy is None else copy

    test_classes = _classes(logits_fn, test, deformer.copy)
    train_classes = _classes(logits_fn, train_set, train_copy)
    found: Result = {
        "train": _right(train_set, train_classes),
        "test": _right(test, test_classes),
        "source": copies.PUBLISHED if given else copies.GENERATED,
        "shown": _digits(test_classes[1:, :shown].ravel()),
        "labels": _digits(test.labels[:shown]),
    }
    found["corruptions"] = _corrupted(logits_fn, setup.first(test, corrupted), corruption_names)
    some = setup.first(test, scored)
    scores = rpr.score(
        logits_fn,
        prng.key(0),  # the same draws for all networks
        some.images,
        some.labels,
        max_steps=draws,
        perturbation=perturbations.random_pixels(),
        example_ids=some.example_ids,
    )
    found["rpr"] = {"right": _packed(scores.robust), "count": some.num_examples, "draws": draws}
    if stable:
        some = setup.first(train_set, stable)
        classes = [_of_copy(logits_fn, some, train_copy(some, n + 1)) for n in range(BLOCKS)]
        is_right = np.stack(classes) == some.labels
        squares = int(np.sum(is_right.sum(axis=0) ** 2))
        blocks = is_right.sum(axis=1)
        found["stable"] = {"count": some.num_examples, "blocks": blocks, "squares": squares}
    return found


def recipe_of(given: Mapping[str, Any]) -> alignmnist.Recipe:
    """Returns the recipe of a cell's options."""
    settings = {name: given[name] for name in ("prior_weight", "num_pairs", "num_updates")}
    alignment = alignmnist.DEFAULT.alignment._replace(**settings)
    return alignmnist.DEFAULT._replace(alignment=alignment, scale=given["scale"])


def flags(stored: Mapping[str, Any], name: str) -> np.ndarray:
    """Returns (N,) bool, as `measure` stored them under a name."""
    packed = np.frombuffer(bytes.fromhex(stored[name]), np.uint8)
    return np.unpackbits(packed, count=stored["count"]).astype(bool)


def counts(stored: Mapping[str, Any], name: str) -> np.ndarray:
    """Returns (N,) small integers, as `measure` stored them under a name."""
    return digits(stored[name])


def digits(text: str) -> np.ndarray:
    """Returns the hexadecimal digits of a text, (N,) int64."""
    codes = np.frombuffer(text.encode(), np.uint8).astype(np.int64)
    return np.where(codes > ord("9"), codes - ord("a") + 10, codes - ord("0"))


def _classes(logits_fn: LogitsFn, dataset: Dataset, copy: Any) -> np.ndarray:
    """Returns the classes of images and of their copies, (1 + COPIES, N)."""
    clean = predict(logits_fn, dataset)
    copied = [_of_copy(logits_fn, dataset, copy(dataset, n + 1)) for n in range(COPIES)]
    return np.stack([clean, *copied])


def _of_copy(logits_fn: LogitsFn, dataset: Dataset, images: np.ndarray) -> np.ndarray:
    return predict(logits_fn, copies.replaced(dataset, images))


def _right(dataset: Dataset, classes: np.ndarray) -> dict[str, Any]:
    is_right = classes == dataset.labels
    return {
        "count": dataset.num_examples,
        "clean": _packed(is_right[0]),
        "copies": _digits(is_right[1:].sum(axis=0)),
        "blocks": is_right[1:].sum(axis=1),
    }


def _corrupted(logits_fn: LogitsFn, dataset: Dataset, names: Sequence[str]) -> dict[str, Any]:
    result = corruptions.run_corruptions(
        logits_fn,
        prng.key(0),
        dataset.images,
        dataset.labels,
        profile="mnist",
        severities={name: (corruption_table.default_severity(name, "mnist"),) for name in names},
        example_ids=dataset.example_ids,
    )
    is_right = np.stack([result.predictions[name][0] for name in names]) == dataset.labels
    accuracy = dict(zip(names, is_right.mean(axis=1).tolist(), strict=True))
    right = _digits(is_right.sum(axis=0))
    return {"count": dataset.num_examples, "right": right, "accuracy": accuracy}


def _packed(flags: np.ndarray) -> str:
    return np.packbits(flags).tobytes().hex()


def _digits(numbers: np.ndarray) -> str:
    """Returns a hexadecimal digit for each number of 0 to 15; f for -1, which is no class."""
    return "".join(f"{number % 16:x}" for number in numbers)
