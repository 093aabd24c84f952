"""The grid: cells of the retraining test, of the readings, and of PRBench's row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from configs import rpr_mnist
from experiments.datapoints import cells
from experiments.datapoints.readings import READINGS
from rbjax import config as schema
from rbjax.config import Config
from rbjax.sweep import Cell

FLOOR = 0.98
"""Clean accuracy on MNIST below which a network trained on all classes alike does not count."""
RADII = (0.03, 0.08, 0.1, 0.12)
"""Of PRBench."""
NETWORKS = "experiments.datapoints.networks"


class Scale(NamedTuple):
    """How much is trained and scored. Images are the first so many of a random order, by id."""

    seeds: int
    retrained: tuple[str, ...]
    """Readings of the scheme under which the retraining test is made."""
    schemes: tuple[str, ...]
    """Readings of the scheme that every reading of the model is scored with."""
    base_schemes: tuple[str, ...]
    """Those that the first reading of the model is scored with."""
    models: tuple[str, ...]
    """Readings of the model."""
    scanned: int | None
    """Test images, and as many of train, that a reading is scored on; None: all."""
    num_test: int | None
    """Test images of the retraining test."""
    num_train: int | None
    """Training images of which the robust ones are kept."""
    prbench_epochs: int
    prbench_train: int | None
    """Images that PRBench's network is trained on; None: all."""
    prbench_test: int | None
    radii: tuple[float, ...] = RADII
    """Of PRBench's row."""
    max_steps: int = 250
    per_class: int = 1500
    """Robust training images kept of each class, if the smallest class has as many."""
    num_epochs: int = 4
    """Of M."""
    max_train_examples: int | None = None
    """Images that M is trained on; None: all."""
    dataset: str = "mnist"
    floor: float = FLOOR


def _epochs(factor: float) -> Callable[[Config], None]:
    def change(config: Config) -> None:
        config.num_epochs = max(round(factor * config.num_epochs), 1)

    return change


def _network(**options: Any) -> Callable[[Config], None]:
    def change(config: Config) -> None:
        config.model.update(name=f"{NETWORKS}:ReadCNN", **options)

    return change


def _inputs(factor: float) -> Callable[[Config], None]:
    def change(config: Config) -> None:
        config.model.normalize = False
        if factor != 1:
            config.model.update(name=f"{NETWORKS}:ReadCNN", scale=factor)

    return change


def _sgd(config: Config) -> None:
    config.optimizer.update(name="sgd", momentum=0.9)
    config.schedule.learning_rate = 0.05


MODELS: dict[str, tuple[str, Callable[[Config], None]]] = {
    "base": ("P4's CNN, ReLU, normalised input, Adam", lambda config: None),
    "unit": ("input in [0, 1]", _inputs(1)),
    "bytes": ("input from 0 to 255", _inputs(255.0)),
    "linear": ("no activation", _network(activation="linear")),
    "tanh": ("tanh", _network(activation="tanh")),
    "short": ("a quarter of the epochs", _epochs(0.25)),
    "sgd": ("SGD with momentum 0.9, rate 0.05", _sgd),
    "long": ("three times the epochs", _epochs(3)),
}
"""Readings of the model: what differs from the first, in words and in the config."""

SMOKE = Scale(
    seeds=1,
    retrained=("at_most-distinct-uniform",),
    schemes=("at_most-distinct-uniform", "exactly-permuted"),
    base_schemes=("at_most-distinct-uniform", "exactly-permuted"),
    models=("base", "bytes"),
    scanned=40,
    num_test=60,
    num_train=300,
    prbench_epochs=1,
    prbench_train=512,
    prbench_test=40,
    radii=(0.1,),
    max_steps=20,
    num_epochs=2,
    dataset="digits",
    floor=0.0,
)
CPU = Scale(
    seeds=3,
    retrained=("exactly-distinct-inverted", "at_most-distinct-uniform"),
    schemes=("exactly-distinct-inverted", "exactly-distinct-white", "at_most-distinct-uniform"),
    base_schemes=tuple(READINGS),
    models=tuple(MODELS),
    scanned=200,
    num_test=1000,
    num_train=6000,
    prbench_epochs=3,
    prbench_train=20_000,
    prbench_test=300,
)
PAPER = CPU._replace(
    seeds=5,
    retrained=tuple(READINGS),
    schemes=tuple(READINGS),
    scanned=None,
    num_test=None,
    num_train=None,
    prbench_epochs=100,
    prbench_train=None,
    prbench_test=None,
)
SCALES = {"smoke": SMOKE, "cpu": CPU, "paper": PAPER}


def grid(scale: Scale, *, unbalanced: bool = False) -> list[Cell]:
    """Returns the cells, those of the first conclusions first.

    Args:
        scale: one of `SCALES`.
        unbalanced: whether a class gives as many robust images as it has, up to `per_class`, rather
            than as many as the smallest class has; the cells have names of their own.
    """
    seeds, first, *others = (range(scale.seeds), *scale.retrained)
    made = [
        cell
        for seed in seeds
        for cell in (_retrain(scale, first, seed, unbalanced), _read(scale, "base", seed))
    ]
    made.append(_prbench(scale))
    made += [_read(scale, model, seed) for model in scale.models[1:] for seed in seeds]
    return made + [_retrain(scale, other, seed, unbalanced) for other in others for seed in seeds]


def read_name(model: str, seed: int) -> str:
    """Returns the name of a cell that scores every scheme under a reading of the model."""
    return f"read.{model}.{seed}"


def retrain_name(scheme: str, seed: int, *, unbalanced: bool = False) -> str:
    """Returns the name of a cell of the retraining test."""
    return f"{'unbalanced' if unbalanced else 'retrain'}.{scheme}.{seed}"


PRBENCH = "prbench.standard.0"
"""The name of the cell of PRBench's row."""


def _config(scale: Scale, model: str, seed: int) -> Config:
    config = rpr_mnist.get_config()
    config.seed, config.num_epochs = seed, scale.num_epochs
    config.dataset.name = scale.dataset
    config.dataset.max_train_examples = scale.max_train_examples
    MODELS[model][1](config)
    return config


def _read(scale: Scale, model: str, seed: int) -> Cell:
    options = {
        "schemes": list(scale.base_schemes if model == "base" else scale.schemes),
        "num_images": scale.scanned,
        "max_steps": scale.max_steps,
    }
    passes = _passes(2 * len(options["schemes"]) * scale.max_steps, scale.scanned)
    return Cell(read_name(model, seed), _config(scale, model, seed), cells.read, options, passes)


def _retrain(scale: Scale, scheme: str, seed: int, unbalanced: bool) -> Cell:
    options = {
        "scheme": scheme,
        "num_test": scale.num_test,
        "num_train": scale.num_train,
        "max_steps": scale.max_steps,
        "per_class": scale.per_class,
        "balanced": not unbalanced,
    }
    name = retrain_name(scheme, seed, unbalanced=unbalanced)
    passes = _passes(7 * scale.max_steps, scale.num_test)
    passes += _passes(scale.max_steps, scale.num_train, all_of=60_000)
    # Three more trainings of as many updates; a training step is three passes an image.
    passes += _passes(3 * 3 * scale.num_epochs, scale.max_train_examples, all_of=60_000)
    return Cell(name, _config(scale, "base", seed), cells.retrain, options, passes)


def _prbench(scale: Scale) -> Cell:
    """PRBench's recipe: SGD 0.1, momentum 0.9, decay 5e-4, batches of 256, falls at 75 and 90 %."""
    config = schema.default()
    config.task, config.batch_size, config.num_epochs = "score", 256, scale.prbench_epochs
    config.dataset.name = scale.dataset
    config.model.name, config.model.normalize = f"{NETWORKS}:MNISTNet", False
    config.optimizer.update(name="sgd", momentum=0.9, weight_decay=5e-4)
    config.schedule.update(name="step", learning_rate=0.1)
    config.schedule.milestones = [share * scale.prbench_epochs for share in (0.75, 0.9)]
    config.dataset.max_train_examples = scale.prbench_train
    options = {"radii": list(scale.radii), "num_images": scale.prbench_test, "num_draws": 100}
    passes = _passes(2 * len(scale.radii) * 100, scale.prbench_test)
    return Cell(PRBENCH, config, cells.prbench, options, passes)


def _passes(each: int, num_images: int | None, *, all_of: int = 10_000) -> int:
    """Returns the forward passes of so many an image, at most: images that fail stop earlier."""
    return each * (num_images or all_of)
