"""The models of every family and seed, each trained and scored once and kept."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from configs import rpr_mnist
from experiments.datapoints.inherent.plan import FAMILIES, Plan
from rbjax import atomic, command_line, data, prng, rpr
from rbjax.config import Config
from rbjax.inputs import to_float
from rbjax.perturbations.pixels import RandomPixels, Values, random_pixels
from rbjax.train import train
from rbjax.training import run_directory, setup


@dataclasses.dataclass(frozen=True)
class Scheme:
    """P4's scheme with enough pixels that most datapoints fail now and then."""

    values: Values = "binary"
    """Law of a new value, one of `perturbations.pixels.VALUES`."""
    pixels: int | None = None
    """Pixels replaced, exactly so many; None: a seventh of the image's, 112 on MNIST."""

    def perturbation(self, image_shape: tuple[int, ...]) -> RandomPixels:
        """Returns it for images of a shape (H, W, C)."""
        number = image_shape[0] * image_shape[1] // 7 if self.pixels is None else self.pixels
        return random_pixels(max_pixels=number, exactly=True, values=self.values)


@dataclasses.dataclass(frozen=True)
class Lab:
    """The experiment's folder, plan and scheme."""

    workdir: Path
    plan: Plan
    scheme: Scheme


class Measured(NamedTuple):
    """Measurements of N datapoints under F families of S seeds, R repetitions each."""

    first_failure: np.ndarray
    """(F, S, N, R) int32, max_steps + 1 where no draw failed."""
    clean_correct: np.ndarray
    """(F, S, N) bool."""
    seconds: float
    """All of training and scoring took, in whatever calls."""


def open_lab(workdir: str | Path, plan: Plan, scheme: Scheme) -> Lab:
    """Makes the experiment's folder, or checks that an existing one is for the same.

    Raises:
        ValueError: if the folder belongs to another plan or scheme, or holds something else.
    """
    image = jax.ShapeDtypeStruct(data.info(plan.dataset).image_shape, np.float32)
    # An impossible scheme leaves no folder behind.
    jax.eval_shape(scheme.perturbation(image.shape), prng.key(0), image)
    parts = {"plan": dataclasses.asdict(plan), "scheme": dataclasses.asdict(scheme)}
    run_directory.prepare(workdir, {"experiment": "inherent", **parts})
    return Lab(Path(workdir), plan, scheme)


def measure(lab: Lab, tell: Callable[[str], None]) -> Measured:
    """Trains and scores all models, skipping what is done.

    Args:
        lab: the experiment.
        tell: called with a line for each model.

    Returns:
        What was measured, of the same images with the same draws for every model.
    """
    first_failure, clean_correct, seconds = [], [], 0.0
    for family in FAMILIES:
        for seed in range(lab.plan.num_seeds):
            kept = _scores(lab, family, seed)
            first_failure.append(kept["first_failure"])
            clean_correct.append(kept["clean_correct"])
            seconds += float(kept["seconds"])
            failing = np.mean(np.any(first_failure[-1] <= lab.plan.max_steps, axis=1))
            tell(
                f"{family}, seed {seed}: {np.mean(clean_correct[-1]):.2%} of "
                f"{len(clean_correct[-1]):,} images right as they are, {failing:.2%} fail now and "
                "then"
            )
    shape = (len(FAMILIES), lab.plan.num_seeds)
    return Measured(
        np.reshape(first_failure, (*shape, *first_failure[0].shape)),
        np.reshape(clean_correct, (*shape, -1)),
        seconds,
    )


def _scores(lab: Lab, family: str, seed: int) -> dict[str, np.ndarray]:
    """Returns a model's scores, training and scoring it if necessary."""
    path = lab.workdir / "scores" / f"{family}-seed{seed}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        began = time.perf_counter()
        made = _logits_fn(lab, family, seed)
        journal = path.with_suffix(".journal")
        scores = _score(lab, made, f"{family}, seed {seed}", journal)
        atomic.write_npz(path, **scores, seconds=time.perf_counter() - began)
        shutil.rmtree(journal, ignore_errors=True)
    with np.load(path) as kept:
        return dict(kept)


def _score(lab: Lab, made: Any, title: str, journal: Path) -> dict[str, np.ndarray]:
    plan, dataset = lab.plan, setup.first(data.load(lab.plan.dataset, "test"), lab.plan.num_test)
    with rpr.progress_bar(title) as progress:
        scores = rpr.score_repeatedly(
            made,
            prng.named(prng.key(0), "rpr"),  # the models' seeds are not the draws'
            dataset.images,
            dataset.labels,
            repetitions=plan.repetitions,
            max_steps=plan.max_steps,
            perturbation=lab.scheme.perturbation(dataset.info.image_shape),
            example_ids=dataset.example_ids,
            journal=journal,
            progress=progress,
        )
    return {
        "example_ids": dataset.example_ids,
        "labels": dataset.labels,
        "first_failure": scores.first_failure,
        "clean_correct": scores.clean_correct,
    }


def _logits_fn(lab: Lab, family: str, seed: int) -> Any:
    """Returns a trained model, for `rpr.score_repeatedly`."""
    workdir = str(lab.workdir / "models" / f"{family}-seed{seed}")
    config = _config(lab, family, seed)
    if family == "extra_trees":
        forest = _forest(command_line.resolve(config, workdir), lab.plan.num_trees)
        return rpr.black_box(forest, fingerprint=f"{lab.plan.num_trees} trees, seed {seed}")
    if family != config.model.name:
        config.model.name, config.model.widths = family, None  # the config's are the CNN's
    config = command_line.resolve(config, workdir)
    train(config, workdir)
    return setup.trained_logits_fn(config, workdir)


def _config(lab: Lab, family: str, seed: int) -> Config:
    """Returns a training as a plain job, of the same images for all families and seeds."""
    config, plan = rpr_mnist.get_config(), lab.plan
    config.seed = seed
    config.dataset.name = plan.dataset
    config.dataset.max_train_examples = plan.max_train_examples
    config.num_epochs = plan.num_epochs or config.num_epochs
    return config


def _forest(config: Config, num_trees: int) -> Callable[[np.ndarray], np.ndarray]:
    """Returns images -> labels of a fitted forest; the same seed gives the same one."""
    from sklearn.ensemble import ExtraTreesClassifier

    dataset, _ = setup.load_train(config)
    forest = ExtraTreesClassifier(num_trees, random_state=config.seed)
    forest.fit(_rows(np.asarray(to_float(dataset.images))), dataset.labels)
    return lambda images: forest.predict(_rows(images))


def _rows(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1)
