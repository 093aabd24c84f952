"""What is trained: dataset x network x level of bias x method x remedy, for each seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from experiments.rendezvous import levels
from experiments.rendezvous.measure import measure
from experiments.rows import REMEDIES, Row, method
from rbjax import config as schema
from rbjax.config import Config
from rbjax.errors import nearest
from rbjax.sweep import Cell

PLAIN = "cross_entropy"
"""The loss without a remedy."""


class Source(NamedTuple):
    """A dataset, and what its images allow."""

    options: Mapping[str, Any]
    """Of `config.dataset`."""
    epsilon: float
    """Of universal perturbations, in linf."""
    corruptions: str
    levels: tuple[str, ...]
    """Of `levels.TITLES`; the last is the long tail that is compared at equal size."""
    flips: bool = True
    """Whether an image's mirror images are of its class."""


_ALL = ("balanced", "linear", "balanced_equal", "linear_equal", "long_tailed")
_BY_NATURE = (
    "natural",
    *("balanced", "linear", "long_tailed"),
    *("balanced_equal", "linear_equal", "long_tailed_equal"),
)
"""Where classes differ by nature, the long-tailed level is not the smallest."""
SOURCES: dict[str, Source] = {
    "cifar100": Source({"name": "cifar100"}, 8 / 255, "common", _ALL),
    "droughtwatch": Source(
        {"name": "droughtwatch", "bands": "B4,B3,B2"}, 8 / 255, "common", _BY_NATURE
    ),
    "cifar100_superclasses": Source({"name": "cifar100_superclasses"}, 8 / 255, "common", _ALL),
    "cifar10": Source({"name": "cifar10"}, 8 / 255, "common", _ALL),
    "mnist": Source({"name": "mnist"}, 0.2, "mnist_c", _ALL, flips=False),
    "gtsrb": Source(
        {"name": "npz", "path": "~/tensorflow_datasets/gtsrb.npz"},
        8 / 255,
        "common",
        _BY_NATURE,
        flips=False,
    ),
    "digits": Source({"name": "digits"}, 0.1, "impulse_noise+translate", _ALL, flips=False),
}


class Scale(NamedTuple):
    """How much is trained and measured."""

    datasets: tuple[str, ...]
    """Without `--dataset`."""
    networks: Mapping[str, Mapping[str, Any]]
    """Options of `config.model` by name."""
    levels: Mapping[str, tuple[str, ...]]
    """By dataset, those of its source that are run; a dataset that is not here has all."""
    seeds: Mapping[str, int]
    per_class: Mapping[str, int]
    """Training images of a class before a level; a dataset that is not here has all its own."""
    epochs: Mapping[str, int]
    batch_size: int
    rates: tuple[float, float]
    """Between which the learning rate goes up and down, each over `half_cycle` epochs."""
    half_cycle: float
    deepaugment: str
    """What distorts the images: "networks", as published, or "noise2net"."""
    restart_steps: int
    """Of ANT's generator, after each epoch."""
    crossed: tuple[str, ...]
    """Methods that remedies are crossed with, at the long-tailed level."""
    remedies: tuple[str, ...]
    test: int | None
    """Test images at most; None: all."""
    corrupted: int
    """Of them, alike from each class, under corruptions."""
    severities: tuple[int, ...] | None
    """None: those that are published."""
    crafted: int
    """Training images, alike from each class, that a universal perturbation is crafted on."""
    floors: Mapping[str, float]
    """Least balanced accuracy of a standard network on balanced data, by dataset."""
    ratio: float = 100.0

    def of(self, field: str, dataset: str, default: Any = None) -> Any:
        """Returns a dataset's entry of a field, or that of "others", or the default."""
        entries = getattr(self, field)
        return entries.get(dataset, entries.get("others", default))


_METHODS = ("none", "augmix", "deepaugment_augmix", "ant", "universal", "shared")
_TWO_SIZES = ("balanced", "balanced_equal", "long_tailed")
SMOKE = Scale(
    datasets=("digits",),
    networks={"simple_cnn": {"widths": (2, 4)}},
    levels={"digits": _TWO_SIZES},
    seeds={"others": 1},
    per_class={"digits": 40},
    epochs={"others": 2},
    batch_size=32,
    rates=(1e-3, 1e-2),
    half_cycle=1.0,
    deepaugment="noise2net",
    restart_steps=2,
    crossed=("none", "universal"),
    remedies=("ldam_drw",),
    test=100,
    corrupted=20,
    severities=None,
    crafted=40,
    floors={},
    ratio=4.0,
)
CPU = Scale(
    datasets=("cifar100_superclasses", "mnist", "cifar10", "gtsrb"),
    networks={"simple_cnn": {"widths": (8, 16)}},
    levels={
        "mnist": _TWO_SIZES,
        "cifar10": _TWO_SIZES,
        "gtsrb": ("natural", "balanced_equal", "long_tailed_equal"),
    },
    seeds={"mnist": 3, "cifar100_superclasses": 3, "others": 1},
    per_class={"mnist": 700, "cifar100_superclasses": 500, "cifar10": 1000},
    epochs={"gtsrb": 3, "others": 6},
    batch_size=64,
    rates=(1e-4, 3e-3),
    half_cycle=1.5,
    deepaugment="noise2net",
    restart_steps=50,
    crossed=("none", "augmix", "universal", "shared"),
    remedies=tuple(REMEDIES),
    test=5000,
    corrupted=1000,
    severities=(1, 3, 5),
    crafted=1000,
    # A pilot's networks reach 97.9, 32.3, 51.3 and 81.6 % (seed 0).
    floors={"mnist": 0.97, "cifar100_superclasses": 0.28, "cifar10": 0.46, "gtsrb": 0.75},
)
PAPER = Scale(
    datasets=("cifar100", "droughtwatch"),
    networks={"simple_cnn": {"widths": (32, 64)}, "resnet50": {}, "squeezenet": {}},
    levels={},
    seeds={"others": 3},
    per_class={"mnist": 5421},
    epochs={"others": 40},
    batch_size=32,
    rates=(1e-5, 1e-4),
    half_cycle=2.0,
    deepaugment="networks",
    restart_steps=1000,
    crossed=_METHODS,
    remedies=tuple(REMEDIES),
    test=None,
    corrupted=2000,
    severities=None,
    crafted=5000,
    floors={"mnist": 0.97},
)
SCALES = {"smoke": SMOKE, "cpu": CPU, "paper": PAPER}


class Key(NamedTuple):
    """One network of the grid."""

    dataset: str
    network: str
    level: str
    method: str
    remedy: str
    seed: int

    @property
    def name(self) -> str:
        """Of its cell."""
        how = self.method if self.remedy == PLAIN else f"{self.method}-{self.remedy}"
        return f"{self.dataset}.{self.network}.{self.level}.{how}.{self.seed}"


def methods(scale: Scale, epsilon: float) -> dict[str, Row]:
    """Returns P1's methods by name, "none" first.

    Args:
        scale: of the grid.
        epsilon: of universal perturbations.
    """
    rows = {
        "none": method("standard"),
        "augmix": method("augmix"),
        "deepaugment_augmix": method("deepaugment", augmix=True, source=scale.deepaugment),
        "ant": method("ant", restart_steps=scale.restart_steps),
        "universal": method("universal", epsilon=epsilon),
        "shared": method("shared", epsilon=epsilon),
    }
    return {name: rows[name] for name in _METHODS}


def chosen(scale: Scale, dataset: str | None) -> list[str]:
    """Returns the datasets of a grid.

    Args:
        scale: of the grid.
        dataset: what was typed: names in SOURCES, joined by commas; None: the scale's own.

    Raises:
        ValueError: for an unknown one.
    """
    if dataset is None:
        return list(scale.datasets)
    names = list(dict.fromkeys(dataset.split(",")))
    for name in names:
        if name not in SOURCES:
            allowed = f"{', '.join(SOURCES)}{nearest(name, SOURCES)}"
            raise ValueError(f"--dataset={dataset}: {name!r} is unknown; allowed: {allowed}")
    return names


def levels_of(scale: Scale, dataset: str) -> tuple[str, ...]:
    """Returns a dataset's levels; remedies are crossed in at the last one, a long tail."""
    return scale.of("levels", dataset, SOURCES[dataset].levels)


def keys(scale: Scale, dataset: str | None = None) -> list[Key]:
    """Returns all networks, dataset by dataset and seed by seed.

    Args:
        scale: one of SCALES.
        dataset: as for `chosen`.
    """
    return [
        Key(name, network, level, method, remedy, seed)
        for name in chosen(scale, dataset)
        for seed in range(scale.of("seeds", name))
        for network in scale.networks
        for level in levels_of(scale, name)
        for method in _METHODS
        for remedy in (PLAIN, *_remedies(scale, name, level, method))
    ]


def _remedies(scale: Scale, dataset: str, level: str, method: str) -> tuple[str, ...]:
    crosses = level == levels_of(scale, dataset)[-1] and method in scale.crossed
    return scale.remedies if crosses else ()


def cells(scale: Scale, *, dataset: str | None = None) -> list[Cell]:
    """Returns the grid.

    Args:
        scale: one of SCALES.
        dataset: as for `chosen`.
    """
    return [_cell(scale, key) for key in keys(scale, dataset)]


def _cell(scale: Scale, key: Key) -> Cell:
    config = make_config(scale, key)
    epsilon, epochs = SOURCES[key.dataset].epsilon, 5
    options = {
        "epsilon": epsilon,
        "crafted": scale.crafted,
        "craft_epochs": epochs,
        "corrupted": scale.corrupted,
    }
    # A gradient is three passes; at most 15 corruptions at 5 severities.
    passes = 3 * epochs * scale.crafted + 2 * (scale.test or 10_000)
    passes += 15 * len(scale.severities or (1, 2, 3, 4, 5)) * scale.corrupted
    return Cell(key.name, config, measure, options, passes)


def make_config(scale: Scale, key: Key) -> Config:
    """Returns the training of a network.

    P1: Adam, cross-entropy, horizontal and vertical flips and rotations after normalising, so that
    what comes from outside is the mean colour, and cyclical learning rates.

    Args:
        scale: of the grid.
        key: which one.
    """
    config, source = schema.default(), SOURCES[key.dataset]
    config.seed = config.imbalance.seed = key.seed
    config.batch_size, config.num_epochs = scale.batch_size, scale.of("epochs", key.dataset)
    config.score.max_steps = config.diagnostics = 0
    config.dataset.update(**source.options, rotation_degrees=15.0, fill="mean")
    config.dataset.update(flip_horizontal=source.flips, flip_vertical=source.flips)
    config.dataset.max_test_examples = scale.test
    per_class = scale.of("per_class", key.dataset)
    config.imbalance.update(levels.profile(key.level, ratio=scale.ratio, per_class=per_class))
    config.model.update(name=key.network, **scale.networks[key.network])
    config.optimizer.update(name="adam", gradient_clip=1.0)
    low, high = scale.rates
    config.schedule.update(name="triangular", learning_rate=low, max_learning_rate=high)
    config.schedule.half_cycle_epochs = scale.half_cycle
    config.corruptions.update(name=source.corruptions, severities=scale.severities)
    if source.corruptions != "common":  # MNIST-C has one severity each
        config.corruptions.severities = None
    config.checkpoint.every_epochs = max(config.num_epochs // 4, 1)
    methods(scale, source.epsilon)[key.method](config)
    if key.remedy != PLAIN:
        REMEDIES[key.remedy](config)
    return config
