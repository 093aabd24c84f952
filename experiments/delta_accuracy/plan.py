"""What is trained and measured: P3's network and its five versions, for each seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from experiments.delta_accuracy import measure
from rbjax import config as schema
from rbjax import corruptions
from rbjax.config import Config
from rbjax.data import alignmnist
from rbjax.sweep import Cell

BATCH_SIZE, LEARNING_RATE, GAMMA, FALLS = 64, 1e-3, 0.7, 20
"""P3's training: Adam of 1e-3, which StepLR multiplies by 0.7 after each of 20 epochs."""

Version = Callable[[Config], None]
"""Changes the original network's config, in place."""


class Scale(NamedTuple):
    """How much is trained and measured."""

    seeds: int
    epochs: int
    train: int | None
    """Training images, on which a network is measured too; None: all."""
    test: int | None
    corrupted: int
    """Test images under each corruption."""
    corruptions: tuple[str, ...]
    scored: int
    """Test images whose RPR is measured."""
    draws: int
    """Of each of those, at most."""
    stable: int
    """Training images that the original network, first seed, classifies in 75 deformed copies."""
    shown: int
    """Test images among whose copies figure 5 is chosen."""
    floor: float
    """Clean test accuracy below which a network is not trained, and enters no conclusion."""
    alignment: alignmnist.Settings = alignmnist.DEFAULT.alignment
    """How deformations are learnt, where the published ones are not at hand."""
    dataset: str = "mnist"
    path: str | None = None
    """Of images of one's own (dataset npz)."""


SMOKE = Scale(
    seeds=1,
    epochs=1,
    train=256,
    test=96,
    corrupted=32,
    corruptions=("translate", "impulse_noise"),
    scored=16,
    draws=10,
    stable=16,
    shown=32,
    floor=0.0,
    alignment=alignmnist.Settings(num_pairs=2, num_updates=2),
)
CPU = Scale(
    seeds=3,
    epochs=8,
    train=20_000,
    test=10_000,
    corrupted=1_000,
    corruptions=corruptions.MNIST_C,
    scored=300,
    draws=100,
    stable=2_000,
    shown=2_000,
    floor=0.98,
)
PAPER = CPU._replace(
    seeds=5,
    epochs=FALLS,
    train=None,
    test=None,
    corrupted=10_000,
    scored=2_000,
    draws=250,
    stable=10_000,
)


def _no_step(config: Config) -> None:
    config.schedule = schema.default().schedule
    config.schedule.update(name="constant", learning_rate=LEARNING_RATE)


def _model(name: str) -> Version:
    def version(config: Config) -> None:
        config.model.name = name

    return version


VERSIONS: dict[str, Version] = {
    "original": _model("lenet_modern"),
    "no_step": _no_step,
    "no_batch_norm": _model("lenet_no_batch_norm"),
    "no_dropout": _model("lenet_no_dropout"),
    "conv_pool": _model("lenet_conv_pool"),
    "average_pool": _model("lenet_average_pool"),
}
NAMES = {
    "original": "original",
    "no_step": "StepLR",
    "no_batch_norm": "BatchNorm",
    "no_dropout": "Dropout",
    "conv_pool": "ConvPool",
    "average_pool": "AveragePool",
}
"""What the paper calls a version: by what it lacks, or has in place of max pooling."""


def cells(scale: Scale, *, as_published: bool) -> list[Cell]:
    """Returns the grid, seed by seed, so that a first table is there after the first seed."""
    return [
        _cell(scale, version, seed, as_published=as_published)
        for seed in range(scale.seeds)
        for version in VERSIONS
    ]


def cell_name(version: str, seed: int) -> str:
    """Returns the name of a cell."""
    return f"{version}.{seed}"


def make_config(scale: Scale, version: str, seed: int, *, as_published: bool = False) -> Config:
    """Returns the training of a version.

    Args:
        scale: how much of it. The rate has all its falls whatever the number of epochs.
        version: one of VERSIONS.
        seed: of the initial weights, the order and the dropout.
        as_published: as the author's code does it (`quirks`), where the paper says otherwise.
    """
    config = schema.default()
    config.seed, config.batch_size, config.num_epochs = seed, BATCH_SIZE, scale.epochs
    config.score.max_steps = config.diagnostics = 0
    config.dataset.update(name=scale.dataset, path=scale.path)
    config.dataset.update(max_train_examples=scale.train, max_test_examples=scale.test)
    config.model.name = "lenet_modern"
    config.optimizer.name, config.checkpoint.which = "adam", "last"
    config.schedule.update(name="step", learning_rate=LEARNING_RATE, gamma=GAMMA)
    config.schedule.epochs_per_step = scale.epochs / FALLS
    VERSIONS[version](config)
    if as_published:
        config.loss.name = "experiments.delta_accuracy.quirks:softmax_twice"
        config.sampler.name = "experiments.delta_accuracy.quirks:in_order"
        if version == "no_dropout":  # the one before the last layer is still there
            config.model.update(name="lenet_modern", pool_dropout=False)
    return config


def describe(scale: Scale, *, as_published: bool) -> str:
    """Returns what all cells have in common, in a sentence or two."""
    data, falls = scale.dataset.upper(), f"times {GAMMA} {FALLS} times over the training"
    images = f"{scale.train:,} training images" if scale.train else "all training images"
    test = f"{scale.test:,}" if scale.test else "all"
    how = (
        "as in the author's code: a second softmax inside of the loss, no shuffling, the last "
        "dropout kept in Dropout"
        if as_published
        else "as in the paper"
    )
    return (
        f"{data}, {images}, {scale.epochs} epochs in batches of {BATCH_SIZE} (what is left over is "
        f"dropped), Adam of {LEARNING_RATE:g}, {falls}; {how}. Measured on the images trained on, "
        f"as P3 did, and on {test} test images."
    )


def _cell(scale: Scale, version: str, seed: int, *, as_published: bool) -> Cell:
    options = {
        "corrupted": scale.corrupted,
        "corruption_names": scale.corruptions,
        "scored": scale.scored,
        "draws": scale.draws,
        "stable": scale.stable if cell_name(version, seed) == "original.0" else 0,
        "shown": scale.shown if seed == 0 else 0,
        "recipe": {
            "scale": alignmnist.DEFAULT.scale,
            "prior_weight": scale.alignment.prior_weight,
            "num_pairs": scale.alignment.num_pairs,
            "num_updates": scale.alignment.num_updates,
        },
    }
    train, test = scale.train or 60_000, scale.test or 10_000
    passes = (1 + measure.COPIES) * (train + test) + scale.corrupted * len(scale.corruptions)
    passes += scale.scored * scale.draws + options["stable"] * measure.BLOCKS
    config = make_config(scale, version, seed, as_published=as_published)
    return Cell(cell_name(version, seed), config, measure.measure, options, passes)
