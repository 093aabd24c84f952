"""One network of the grid: trained, then tested as it is, corrupted, and perturbed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from experiments import corrupted as corrupted_images
from experiments.answers import packed
from rbjax import attacks, command_line, data, prng
from rbjax.config import Config
from rbjax.sweep import Result
from rbjax.train import train
from rbjax.training import setup
from rbjax.training.predict import predict


def measure(
    config: Config,
    workdir: str,
    *,
    epsilon: float,
    crafted: int,
    craft_epochs: int,
    corrupted: int,
) -> Result:
    """Trains a network and returns what it answers, image by image.

    Args:
        config: not yet resolved; `config.corruptions` says under what it is tested.
        workdir: the run directory; corrupted images are kept in the folder `corrupted` beside it.
        epsilon: of the universal perturbation, in linf.
        crafted: training images that it is crafted on, alike from each class and the same for
            every network of a dataset, whatever these were trained on.
        craft_epochs: passes over them.
        corrupted: test images under corruptions, alike from each class.

    Returns:
        "train_count" (K,), "count" (K,) of the test images; their "labels" and the class that each
        is given, "clean" and under "universal", as `packed`; "fooling_rate" of the perturbation;
        "corruptions", of `corrupted.classify`.
    """
    resolved = command_line.resolve(config, workdir)
    train(resolved, workdir)
    logits_fn = setup.trained_logits_fn(resolved, workdir)
    test = setup.load_test(resolved)
    clean = predict(logits_fn, test)
    balanced = dataclasses.replace(setup.load(resolved, "train"), groups=None)
    each = max(crafted // test.info.num_classes, 1)
    balanced = data.subsample(balanced, lambda counts: np.minimum(counts, each))
    delta = attacks.craft_universal(
        logits_fn,
        prng.named(prng.key(config.seed), "universal"),
        balanced.images,
        balanced.labels,
        epsilon=epsilon,
        num_epochs=craft_epochs,
        example_ids=balanced.example_ids,
    ).delta
    found = attacks.evaluate_universal(logits_fn, test.images, test.labels, delta)
    some = corrupted_images.prepare(resolved, Path(workdir).parent / "corrupted", number=corrupted)
    return {
        "train_count": setup.load_train(resolved)[0].class_counts,
        "count": test.class_counts,
        "class_names": list(test.info.class_names),
        "labels": packed(test.labels),
        "clean": packed(clean),
        "universal": packed(found.predictions),
        "fooling_rate": found.fooling_rate,
        "corruptions": corrupted_images.classify(logits_fn, some),
    }
