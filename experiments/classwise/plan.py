"""What is trained: standard and robust networks by dataset, architecture, optimizer and remedy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from experiments.classwise.features import measure_taught
from experiments.classwise.measure import measure
from experiments.rows import Row, method
from rbjax import config as schema
from rbjax.config import Config
from rbjax.sweep import Cell
from rbjax.sweep.grid import said

STANDARD, ROBUST = "standard", "pgd"
BASE = "cifar10"
"""The dataset on which architectures, optimizers and remedies are compared."""
SHARES = {"pgd_8": 1 / 8, "pgd_4": 1 / 4, "pgd_2": 1 / 2, "pgd": 1.0}
"""Radii of the attacks by label, over the radius that is trained against."""
AFTER_TRAINING = "pgd"
"""The attack of the radius that is trained against."""
L2_RADII = {"l2_0.25": 0.25, "l2_0.5": 0.5}
"""Of the attacks on what features teach, by label; the last is trained against."""
L2_ROBUST = "pgd_l2"
TAUGHT = {"d_robust": L2_ROBUST, "d_non_robust": STANDARD, "d_rand": STANDARD, "d_det": STANDARD}
"""Datasets of robust and non-robust features, each with the network that makes it."""
CRITICAL = 3
"""The class that matters most in P2's second scenario: cat, which it calls vulnerable."""


class Source(NamedTuple):
    """A dataset, and what its images allow."""

    options: Mapping[str, Any]
    """Of `config.dataset`."""
    epsilon: float
    """That is trained against, in linf, at `paper` scale."""
    corruptions: str
    flips: bool = True
    """Whether an image's mirror image is of its class, and so is a shifted one."""


SOURCES: dict[str, Source] = {
    "mnist": Source({"name": "mnist"}, 0.3, "mnist_c", flips=False),
    "svhn": Source({"name": "svhn_cropped"}, 8 / 255, "common", flips=False),
    "cifar10": Source({"name": "cifar10"}, 8 / 255, "common"),
    "cifar100": Source({"name": "cifar100"}, 8 / 255, "common"),
    "cifar100_superclasses": Source({"name": "cifar100_superclasses"}, 8 / 255, "common"),
    "tiny_imagenet": Source({"name": "tiny_imagenet"}, 8 / 255, "common"),
    "digits": Source({"name": "digits"}, 0.1, "impulse_noise+translate", flips=False),
}


class Scale(NamedTuple):
    """How much is trained and measured."""

    datasets: tuple[str, ...]
    base: str
    """On which architectures, optimizers and remedies are compared: BASE, or a smaller one."""
    network: str
    """Of the datasets, optimizers and remedies."""
    networks: Mapping[str, Mapping[str, Any]]
    """Options of `config.model` by name; `network` is among them."""
    seeds: Mapping[str, int]
    """By dataset, or "others"; the base dataset's are the remedies' too."""
    more_seeds: int
    """Of other architectures and optimizers."""
    train: int | None
    """Training images; None: all. Of CIFAR-100's 100 classes always all."""
    epochs: int
    optimizer: str
    """Of OPTIMIZERS, where they are not compared."""
    batch_size: int
    epsilons: Mapping[str, float]
    """That are trained against, by dataset; a dataset that is not here has its source's."""
    craft_steps: int
    """Of the attack in training."""
    attack_steps: int
    test: int | None
    """Test images at most; None: all."""
    corrupted: int
    """Of them, alike from each class, under corruptions."""
    severities: tuple[int, ...] | None
    """None: those that are published."""
    taught: tuple[str, ...]
    """Of TAUGHT, that are made of the base dataset."""
    match: tuple[int, float]
    """Steps, and their length in l2, that move images until their features are another's."""
    push: tuple[int, float]
    """Those that move them, within 0.5, until they are taken for another class."""
    cfa_base: float
    """CFA's lambda_1: 1 less the mean accuracy under attack, which the paper takes for a half."""
    floors: Mapping[str, float]
    """Least balanced accuracy of a standard network, by dataset."""
    optimizers: tuple[str, ...] | None = None
    """That are compared, of OPTIMIZERS; None: all."""
    remedies: tuple[str, ...] | None = None
    """Of `remedies`; None: all."""


SMOKE = Scale(
    datasets=("digits",),
    base="digits",
    network="simple_cnn",
    networks={"simple_cnn": {"widths": (2, 4)}, "mlp": {"widths": (8,)}},
    seeds={"others": 1},
    more_seeds=1,
    optimizers=("adam", "sgd_cyclic"),
    remedies=("weighted", "critical_2"),
    train=200,
    epochs=2,
    optimizer="adam",
    batch_size=32,
    epsilons={},
    craft_steps=1,
    attack_steps=1,
    test=60,
    corrupted=20,
    severities=None,
    taught=("d_robust", "d_det"),
    match=(2, 0.3),
    push=(2, 0.3),
    cfa_base=0.5,
    floors={},
)
CPU = Scale(
    datasets=("cifar10", "mnist", "cifar100_superclasses", "cifar100"),
    base=BASE,
    network="simple_cnn",
    networks={"simple_cnn": {"widths": (16, 32)}, "lenet5": {}, "resnet18": {"width": 4}},
    seeds={"cifar10": 3, "mnist": 3, "cifar100_superclasses": 3, "cifar100": 1},
    more_seeds=1,
    train=10_000,
    epochs=8,
    optimizer="adam",
    batch_size=128,
    epsilons={
        "mnist": 0.2,
        "cifar10": 4 / 255,
        "cifar100_superclasses": 4 / 255,
        "cifar100": 4 / 255,
    },
    craft_steps=5,
    attack_steps=20,
    test=5_000,
    corrupted=1_000,
    severities=(3,),
    taught=tuple(TAUGHT),
    match=(60, 0.3),
    push=(20, 0.1),
    cfa_base=0.73,
    floors={"mnist": 0.97, "cifar10": 0.5, "cifar100_superclasses": 0.3, "cifar100": 0.2},
)
PAPER = Scale(
    datasets=("cifar10", "mnist", "svhn", "cifar100", "tiny_imagenet"),
    base=BASE,
    network="resnet18",
    networks={
        name: {}
        for name in (
            *("resnet18", "lenet5", "vgg16_bn", "vgg19_bn", "resnet50"),
            *("densenet121", "densenet169", "googlenet", "inception_v3"),
        )
    },
    seeds={"others": 3},
    more_seeds=1,
    train=None,
    epochs=100,
    optimizer="sgd_step",
    batch_size=128,
    epsilons={},
    craft_steps=10,
    attack_steps=20,
    test=None,
    corrupted=2_000,
    severities=None,
    taught=tuple(TAUGHT),
    match=(1000, 0.1),
    push=(100, 0.1),
    cfa_base=0.5,
    floors={"mnist": 0.99, "cifar10": 0.92, "svhn": 0.94, "cifar100": 0.7, "tiny_imagenet": 0.5},
)
SCALES = {"smoke": SMOKE, "cpu": CPU, "paper": PAPER}


def _optimizer(name: str, schedule: str, rate: float, decay: float = 0.0) -> Row:
    def row(config: Config) -> None:
        config.optimizer.update(name=name, weight_decay=decay)
        config.schedule.name = schedule
        epochs = config.num_epochs
        if schedule == "step":  # by 10 at half and three quarters
            config.schedule.update(learning_rate=rate)
            config.schedule.milestones = tuple(
                dict.fromkeys((max(epochs // 2, 1), max(3 * epochs // 4, 2)))
            )
        elif schedule == "triangular":
            config.schedule.update(learning_rate=rate / 100, max_learning_rate=rate)
            config.schedule.half_cycle_epochs = epochs / 4  # up and down twice
        else:
            config.schedule.update(learning_rate=rate)

    return row


OPTIMIZERS: dict[str, Row] = {
    "adam": _optimizer("adam", "cosine", 1e-3),
    "sgd_step": _optimizer("sgd", "step", 0.05, 5e-4),
    "sgd_cyclic": _optimizer("sgd", "triangular", 0.05, 5e-4),
    "sgd_no_decay": _optimizer("sgd", "step", 0.05),
    "sgd_more_decay": _optimizer("sgd", "step", 0.05, 5e-3),
}
"""P2's optimization factors: optimizer, schedule and weight decay."""


def remedies(scale: Scale) -> dict[str, Row]:
    """Returns adversarial training that cares for classes, by name: P2's, then later work's.

    Args:
        scale: of the grid; its base dataset has ten classes.
    """
    ball = _ball(scale, scale.base)
    plain = {**ball, "reweighting": 0.0}
    wider = tuple(ball["epsilon"] * (1.5 if label == CRITICAL else 1.0) for label in range(10))
    warm, late = (max(round(share * scale.epochs), 1) for share in (0.2, 0.3))
    return {
        "weighted": method("classwise_pgd", **ball),
        "similarity": method("classwise_pgd", **plain, similarity_weight=0.5),
        "targeted": method("targeted", **ball),
        **{
            f"critical_{weight:g}": method(
                "classwise_pgd", **plain, critical_class=CRITICAL, critical_weight=weight
            )
            for weight in (2.0, 4.0, 8.0)
        },
        "critical_epsilon": method("classwise_pgd", **plain, class_epsilons=wider),
        "critical_targeted": method("targeted", **ball, target_class=CRITICAL),
        "frl": method("frl", **ball),
        "cfa": method("cfa", **ball, warmup_epochs=warm, lambda_1=scale.cfa_base),
        "dafa": method("dafa", **ball, form="pgd", warmup_epochs=late),
        "cfol": method("cfol", **ball),
    }


class Key(NamedTuple):
    """One network of the grid."""

    group: str
    """"datasets", "networks", "optimizers", "remedies" or "features"."""
    dataset: str
    network: str
    optimizer: str
    method: str
    """"standard", "pgd", a remedy, or what TAUGHT has and needs."""
    seed: int

    @property
    def name(self) -> str:
        """Of its cell."""
        what = {"datasets": self.dataset, "networks": self.network, "optimizers": self.optimizer}
        return f"{self.group}.{what.get(self.group, self.dataset)}.{self.method}.{self.seed}"


def keys(scale: Scale) -> list[Key]:
    """Returns all networks, group by group and seed by seed.

    The base dataset's networks of the scale's architecture and optimizer stand for these in their
    groups, and its robust ones for training without a remedy.
    """
    both = (STANDARD, ROBUST)
    made = [
        Key("datasets", name, scale.network, scale.optimizer, how, seed)
        for name in scale.datasets
        for seed in range(seeds(scale, name))
        for how in both
    ]
    made += [
        Key("networks", scale.base, network, scale.optimizer, how, seed)
        for seed in range(scale.more_seeds)
        for network in scale.networks
        for how in both
        if network != scale.network
    ]
    made += [
        Key("optimizers", scale.base, scale.network, optimizer, how, seed)
        for seed in range(scale.more_seeds)
        for optimizer in scale.optimizers or OPTIMIZERS
        for how in both
        if optimizer != scale.optimizer
    ]
    made += [
        Key("remedies", scale.base, scale.network, scale.optimizer, how, seed)
        for seed in range(seeds(scale, scale.base))
        for how in scale.remedies or remedies(scale)
    ]
    robust = (L2_ROBUST,) if L2_ROBUST in map(TAUGHT.get, scale.taught) else ()
    return made + [
        Key("features", scale.base, scale.network, scale.optimizer, how, seed)
        for seed in range(scale.more_seeds)
        for how in (*robust, *scale.taught)
    ]


def seeds(scale: Scale, dataset: str) -> int:
    """Returns how many networks of a dataset are trained that differ in their seed alone."""
    return scale.seeds.get(dataset, scale.seeds.get("others", 1))


def seeds_of(scale: Scale, key: Key) -> int:
    """Returns how many networks there are to be that differ from a key's in their seed alone."""
    is_more = key.group in ("networks", "optimizers", "features")
    return scale.more_seeds if is_more else seeds(scale, key.dataset)


def epsilon(scale: Scale, dataset: str) -> float:
    """Returns the radius, in linf, that a dataset's robust networks are trained against."""
    return scale.epsilons.get(dataset, SOURCES[dataset].epsilon)


def _ball(scale: Scale, dataset: str) -> dict[str, Any]:
    """Returns the options of PGD training: steps of a quarter, or of more where they are few."""
    radius, steps = epsilon(scale, dataset), scale.craft_steps
    length = radius / min(4, max(steps - 1, 1))
    return {"epsilon": radius, "step_size": length, "num_steps": steps}


def cells(scale: Scale) -> list[Cell]:
    """Returns the grid of one of SCALES."""
    return [_cell(scale, key) for key in keys(scale)]


def _cell(scale: Scale, key: Key) -> Cell:
    if key.method in TAUGHT:
        return _taught(scale, key)
    corrupted = scale.corrupted if key.group == "datasets" else 0
    radii = {label: share * epsilon(scale, key.dataset) for label, share in SHARES.items()}
    options = {"radii": radii, "num_steps": scale.attack_steps, "corrupted": corrupted}
    if key.method == L2_ROBUST:
        options |= {"radii": L2_RADII, "norm": "l2"}
    passes = _passes(scale, len(options["radii"]))
    passes += corrupted * 15 * len(scale.severities or (1, 2, 3, 4, 5))
    return Cell(key.name, make_config(scale, key), measure, options, passes)


def _taught(scale: Scale, key: Key) -> Cell:
    group = "features" if TAUGHT[key.method] == L2_ROBUST else "datasets"
    source = _cell(scale, key._replace(group=group, method=TAUGHT[key.method]))
    steps, length = scale.push if key.method in ("d_rand", "d_det") else scale.match
    options = {
        "kind": key.method,
        "source": {"name": source.name, "config": said(source)},
        "step_size": length,
        "num_steps": steps,
        "radii": L2_RADII,
        "attack_steps": scale.attack_steps,
    }
    passes = _passes(scale, len(L2_RADII)) + 3 * steps * (scale.train or 50_000)
    return Cell(key.name, make_config(scale, key), measure_taught, options, passes)


def _passes(scale: Scale, radii: int) -> int:
    """Returns the passes of the images as they are, for their logits, and of PGD: three a step."""
    return (scale.test or 10_000) * (2 + 3 * radii * scale.attack_steps)


def make_config(scale: Scale, key: Key) -> Config:
    """Returns the training of a network.

    Args:
        scale: of the grid.
        key: which one.
    """
    config, source = schema.default(), SOURCES[key.dataset]
    config.seed, config.batch_size, config.num_epochs = key.seed, scale.batch_size, scale.epochs
    config.score.max_steps = config.diagnostics = 0
    config.dataset.update(**source.options, validation_fraction=0.1)
    config.dataset.max_test_examples = scale.test
    if key.dataset != "cifar100":
        config.dataset.max_train_examples = scale.train
    if source.flips:
        config.dataset.update(flip_horizontal=True, crop_padding=4)
    config.model.update(name=key.network, **scale.networks[key.network])
    OPTIMIZERS[key.optimizer](config)
    rows = {
        STANDARD: method("standard"),
        ROBUST: method("pgd", **_ball(scale, key.dataset)),
        L2_ROBUST: method("pgd", norm="l2", epsilon=0.5, num_steps=scale.craft_steps),
        **remedies(scale),
    }
    rows[STANDARD if key.method in TAUGHT else key.method](config)
    if key.method == "d_det":  # as its authors do
        config.dataset.update(flip_horizontal=False, crop_padding=0)
    config.corruptions.update(name=source.corruptions, severities=scale.severities)
    if source.corruptions != "common":  # MNIST-C has one severity each
        config.corruptions.severities = None
    return config
