"""The stages of the experiment; each keeps its results and skips those it has."""

from __future__ import annotations

import dataclasses
import functools
import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from configs import rpr_mnist
from experiments.datapoints.plan import Plan
from experiments.datapoints.readings import READINGS
from rbjax import atomic, command_line, data, prng, rpr
from rbjax.config import Config
from rbjax.rpr.selection import Subset, random_subset, robust_subset
from rbjax.train import train
from rbjax.training import run_directory, setup
from rbjax.training.predict import predict
from rbjax.typing import Key, LogitsFn

KINDS = ("robust", "random")
"""What a model may be trained on besides all images: the robust ones, or as many at random."""


@dataclasses.dataclass(frozen=True)
class Lab:
    """The experiment's folder and its plan."""

    workdir: Path
    plan: Plan


class Model(NamedTuple):
    """One training: M on all images, M_R on the robust ones of a reading, M_C on its control."""

    seed: int
    kind: str = "all"
    reading: str = ""

    @property
    def name(self) -> str:
        """A name for its folder."""
        return "-".join(part for part in (self.kind, self.reading, f"seed{self.seed}") if part)


class Scored(NamedTuple):
    """The results of a model's draws, one entry per image, the same images for every model."""

    example_ids: np.ndarray
    labels: np.ndarray
    first_failure: np.ndarray
    clean_correct: np.ndarray
    max_steps: int
    seconds: float
    """How long the call took that ended it, compilation included."""

    @property
    def robust(self) -> np.ndarray:
        """(N,) bool, whether no draw failed."""
        return self.first_failure > self.max_steps

    @property
    def draws(self) -> int:
        """The draws that were needed."""
        return int(np.sum(np.minimum(self.first_failure, self.max_steps), dtype=np.int64))


class Classified(NamedTuple):
    """A model's classes of the whole test split."""

    labels: np.ndarray
    predictions: np.ndarray
    seconds: float
    """How long the call took that ended training."""

    @property
    def correct(self) -> np.ndarray:
        """(N,) bool."""
        return self.predictions == self.labels


def open_lab(workdir: str | Path, plan: Plan) -> Lab:
    """Makes the experiment's folder, or checks that an existing one has the same plan.

    Raises:
        ValueError: if the folder belongs to another plan, or holds something else.
    """
    settings = {"experiment": "datapoints", "plan": dataclasses.asdict(plan)}
    run_directory.prepare(workdir, {**settings, "schemes": sorted(READINGS)})
    return Lab(Path(workdir), plan)


def images(lab: Lab, split: str, *, scored: bool = True) -> data.Dataset:
    """Returns the images of a split that are scored, or all of them."""
    number = lab.plan.num_train if split == "train" else lab.plan.num_test
    return setup.first(_load(lab.plan.dataset, split), number if scored else None)


def classified(lab: Lab, model: Model) -> Classified:
    """Returns a model's classes of the whole test split, training it if necessary."""
    path = lab.workdir / "models" / model.name / "test.npz"
    if not path.exists():
        began = time.perf_counter()
        test = images(lab, "test", scored=False)
        predictions = predict(logits_fn(lab, model), test)
        seconds = time.perf_counter() - began
        atomic.write_npz(path, labels=test.labels, predictions=predictions, seconds=seconds)
    with np.load(path) as kept:
        return Classified(kept["labels"], kept["predictions"], float(kept["seconds"]))


def scores(lab: Lab, model: Model, reading: str, split: str) -> Scored:
    """Returns the scores of a split's images under a model; resumes if a call was killed.

    The draws are those of `python -m rbjax.main --config=configs/rpr_mnist.py` with the model's
    seed, the same for every model of that seed.
    """
    path = lab.workdir / "scores" / model.name / f"{reading}-{split}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        journal = path.with_suffix(".journal")
        began = time.perf_counter()
        arrays = _score(lab, model, reading, split, journal)
        atomic.write_npz(path, **arrays, seconds=time.perf_counter() - began)
        shutil.rmtree(journal, ignore_errors=True)
    with np.load(path) as kept:
        whole = {name: kept[name] for name in ("example_ids", "labels", "first_failure")}
        return Scored(
            **whole,
            clean_correct=kept["clean_correct"],
            max_steps=int(kept["max_steps"]),
            seconds=float(kept["seconds"]),
        )


def subset(lab: Lab, seed: int, reading: str, kind: str) -> tuple[Path, Subset]:
    """Returns the file of a subset of the scored training images, and the subset.

    Args:
        lab: the experiment.
        seed: of M, by which the images are robust, and of the choice.
        reading: by which they are robust.
        kind: "robust", or "random" for its control among the same scored images.
    """
    scored = scores(lab, Model(seed), reading, "train")
    ids, num_classes = scored.example_ids, data.info(lab.plan.dataset).num_classes
    chosen = robust_subset(
        scored.robust,
        scored.labels,
        num_classes=num_classes,
        per_class=lab.plan.per_class,
        example_ids=ids,
        seed=seed,
    )
    if kind == "random":
        counts = chosen.class_counts
        chosen = random_subset(scored.labels, class_counts=counts, example_ids=ids, seed=seed)
    path = lab.workdir / "subsets" / f"{Model(seed, kind, reading).name}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_npz(path, example_ids=ids[chosen.rows], labels=scored.labels[chosen.rows])
    return path, chosen


def seconds(lab: Lab) -> float:
    """Returns the time that the kept results took, without calls that were killed."""
    total = 0.0
    for path in [*lab.workdir.glob("models/*/test.npz"), *lab.workdir.glob("scores/*/*.npz")]:
        with np.load(path) as kept:
            total += float(kept["seconds"])
    return total


def draw_key(seed: int) -> Key:
    """Returns the key of a seed's draws."""
    return prng.named(prng.key(seed), "rpr")


@functools.lru_cache(maxsize=4)
def logits_fn(lab: Lab, model: Model) -> LogitsFn:
    """Returns a model, training it or resuming its training if necessary."""
    workdir = str(lab.workdir / "models" / model.name)
    config = command_line.resolve(_config(lab, model), workdir)
    train(config, workdir)
    return setup.trained_logits_fn(config, workdir)


def _config(lab: Lab, model: Model) -> Config:
    """Returns a training as a plain job; `rbjax.main` runs the same from its command line."""
    config, plan = rpr_mnist.get_config(), lab.plan
    config.seed = model.seed
    config.dataset.name = plan.dataset
    config.num_epochs = plan.num_epochs or config.num_epochs
    if model.kind == "all":
        config.dataset.max_train_examples = plan.max_train_examples
        return config
    path, chosen = subset(lab, model.seed, model.reading, model.kind)
    config.dataset.subset = str(path)
    # A subset smaller than a batch is one batch, dealt over the devices.
    size = min(config.batch_size, len(chosen.rows))
    config.batch_size = max(size - size % jax.local_device_count(), 1)
    return config


def _score(lab: Lab, model: Model, reading: str, split: str, journal: Path) -> dict[str, Any]:
    """Returns the arrays of `Scored` but the time."""
    dataset = images(lab, split)
    title = f"{model.name}: {reading}, {split}"
    with rpr.progress_bar(title) as progress:
        scores = rpr.score(
            logits_fn(lab, model),
            draw_key(model.seed),
            dataset.images,
            dataset.labels,
            max_steps=lab.plan.max_steps,
            perturbation=READINGS[reading].perturbation(),
            example_ids=dataset.example_ids,
            journal=journal,
            progress=progress,
        )
    return {
        "example_ids": dataset.example_ids,
        "labels": dataset.labels,
        "first_failure": scores.first_failure,
        "clean_correct": scores.clean_correct,
        "max_steps": scores.max_steps,
    }


@functools.lru_cache(maxsize=2)
def _load(name: str, split: str) -> data.Dataset:
    return data.load(name, split)
