"""What is trained: groups of rows that share data, network, length and attacks, for each seed."""

from __future__ import annotations

from typing import NamedTuple

from experiments.rows import REMEDIES, Row, loss, method
from rbjax import config as schema
from rbjax.config import Config
from rbjax.sweep import Cell


class Scale(NamedTuple):
    """How much is trained and tested."""

    seeds: int
    train: int
    """Training images of MNIST, and of CIFAR-10 in the group "classes"."""
    test: int
    """Test images, but for "classes"."""
    class_test: int
    """Test images of the group "classes", whose worst class is compared."""
    epochs: int
    class_epochs: int
    tail_epochs: int
    gtsrb_epochs: int
    """Of all of GTSRB: with a part of its tracks some classes have no image."""
    tail_max: int | None
    """Images of the largest class on a long tail; None: as many as all classes have."""


SMOKE = Scale(
    seeds=1,
    train=256,
    test=100,
    class_test=100,
    epochs=2,
    class_epochs=2,
    tail_epochs=2,
    gtsrb_epochs=1,
    tail_max=100,
)
CPU = Scale(
    seeds=3,
    train=10_000,
    test=2_000,
    class_test=5_000,
    epochs=5,
    class_epochs=10,
    tail_epochs=10,
    gtsrb_epochs=4,
    tail_max=None,
)

MNIST_EPSILON, CLASS_EPSILON = 0.2, 4 / 255
IMBALANCE_RATIO = 100
WIDTHS = (16, 32)


def _warmed_up(name: str, share: float, **options: object) -> Row:
    """Returns a row of a method that begins to care after a share of the epochs."""

    def row(config: Config) -> None:
        epochs = max(round(share * config.num_epochs), 1)
        config.method.update(name=name, warmup_epochs=epochs, **options)

    return row


def _corrupted(name: str, **options: object) -> Row:
    def row(config: Config) -> None:
        config.method.update(name=name, **options)
        config.corruptions.name = "mnist_c"

    return row


def _robal(config: Config) -> None:
    """RoBal's loss with the head that its authors train CIFAR's long tails with."""
    config.model.update(head="cosine", head_scale=10.0, head_gamma=1 / 32)
    config.loss.name = "robal"


_IN_BALL = {"epsilon": MNIST_EPSILON, "step_size": MNIST_EPSILON / 4}
_CLASS_BALL = {"epsilon": CLASS_EPSILON, "step_size": CLASS_EPSILON / 4, "num_steps": 5}
_PROVOKED = {"epsilon": MNIST_EPSILON, "step_size": MNIST_EPSILON, "noise": 0.0}
"""One step from the image itself, which overfits to that step."""
_LOSSES: dict[str, Row] = {
    "cross_entropy": loss("cross_entropy"),
    **{name: REMEDIES[name] for name in ("ldam_drw", "balanced_softmax", "logit_adjustment")},
}

_MORE_LOSSES: dict[str, Row] = {
    "focal": loss("focal"),
    "class_balanced": REMEDIES["class_balanced"],
    "inverse_frequency": loss("cross_entropy", class_weights="inverse_frequency"),
    "class_aware_sampler": lambda config: config.sampler.update(name="class_aware"),
    "robal": _robal,
    "post_hoc_adjustment": lambda config: config.model.update(logit_adjustment=1.0),
    "tau_norm": lambda config: config.model.update(tau_norm=1.0),
}

ROWS: dict[str, dict[str, Row]] = {
    "mnist": {
        "standard": _corrupted("standard"),
        "pgd": method("pgd", **_IN_BALL),
        "trades": method("trades", **_IN_BALL),
        "mart": method("mart", **_IN_BALL),
        "free": method("free", epsilon=MNIST_EPSILON, num_replays=4),
        "fast": method("fast", epsilon=MNIST_EPSILON),
        "targeted": method("targeted", **_IN_BALL),
        "universal": method("universal", epsilon=MNIST_EPSILON),
        "classwise_universal": method("classwise_universal", epsilon=MNIST_EPSILON),
        "shared": method("shared", epsilon=MNIST_EPSILON),
        "augmix": _corrupted("augmix"),
        "ant": _corrupted("ant", restart_steps=200),
        "deepaugment": _corrupted("deepaugment"),
    },
    "tail_mnist": {**_LOSSES, **_MORE_LOSSES},
    "tail_cifar10": _LOSSES,
    "gtsrb": _LOSSES,
    "collapse": {
        "unguarded": method("fast", guard=1.0, **_PROVOKED),
        "guarded": method("fast", **_PROVOKED),
    },
    "classes": {
        "pgd": method("pgd", **_CLASS_BALL),
        "trades": method("trades", **_CLASS_BALL),
        # Without CFA's average of epochs, of which there are too few; the base of its radii is 1
        # less the mean accuracy under attack, which is 0.27 here and about the paper's 0.5 there.
        "cfa": _warmed_up("cfa", 0.2, lambda_1=0.73, **_CLASS_BALL),
        "dafa": _warmed_up("dafa", 0.3, form="pgd", **_CLASS_BALL),
        "frl": method("frl", **_CLASS_BALL),
        "cfol": method("cfol", **_CLASS_BALL),
        "classwise_pgd": method("classwise_pgd", **_CLASS_BALL),
    },
}


MORE_SEEDS = {
    "mnist.standard": 2,
    "mnist.ant": 2,
    "collapse.unguarded": 5,
    "collapse.guarded": 5,
}
"""Beyond the scale's, where networks of three seeds differ by more than what is compared."""


def num_seeds(scale: Scale, group: str, row: str) -> int:
    """Returns how many seeds a row is trained with."""
    return scale.seeds + (MORE_SEEDS.get(f"{group}.{row}", 0) if scale.seeds > 1 else 0)


def cells(scale: Scale) -> list[Cell]:
    """Returns the grid, seed by seed, so that a first table is there after a third of the time."""
    return [
        Cell(cell_name(group, row, seed), _config(scale, group, row, seed))
        for seed in range(scale.seeds + max(MORE_SEEDS.values()))
        for group, rows in ROWS.items()
        for row in rows
        if seed < num_seeds(scale, group, row)
    ]


def describe(scale: Scale, group: str) -> str:
    """Returns what the rows of a group have in common: data, network, length, attacks."""
    config = schema.default()
    _GROUPS[group](config, scale)
    data = config.dataset
    train = f"{data.max_train_examples:,} training images" if data.max_train_examples else "train"
    if config.imbalance.name != "balanced":
        train = f"a long tail, ratio {IMBALANCE_RATIO}"
    path = f" {data.path}" if data.get("path") else ""
    parts = [f"{data.name}{path}: {train}, at most {data.max_test_examples:,} of test"]
    parts.append(f"simple_cnn {WIDTHS}, {config.num_epochs} epochs, batches of {config.batch_size}")
    for label, attack in config.attacks.items():
        steps = f", {attack.num_steps} steps of {attack.step_size:.4g}" if attack.step_size else ""
        parts.append(f"{label}: {attack.norm}, epsilon {attack.epsilon:.4g}{steps}")
    return "; ".join(parts)


def options(scale: Scale, group: str, row: str) -> str:
    """Returns what a row's config says beyond its group's: "cfa (method: epsilon 0.0157, ...)"."""
    plain = schema.default()
    _GROUPS[group](plain, scale)
    usual, own = (
        dict(schema.flat(config.to_dict()))
        for config in (plain, _config(scale, group, row, plain.seed))
    )
    shared = ("seed", "score.", "diagnostics", "model.name", "model.widths", "optimizer.", "sched")
    said = [
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in own.items()
        if value != usual.get(name) and not name.startswith(shared)
    ]
    return f"{row} ({', '.join(said) or 'as the group'})"


def cell_name(group: str, row: str, seed: int) -> str:
    """Returns the name of a cell."""
    return f"{group}.{row}.{seed}"


def _config(scale: Scale, group: str, row: str, seed: int) -> Config:
    config = schema.default()
    config.seed = seed
    config.score.max_steps = config.diagnostics = 0
    config.model.name, config.model.widths = "simple_cnn", WIDTHS
    config.optimizer.name, config.schedule.name = "adam", "cosine"
    config.schedule.learning_rate = 1e-3
    _GROUPS[group](config, scale)
    ROWS[group][row](config)
    return config


def _mnist(config: Config, scale: Scale) -> None:
    config.num_epochs = scale.epochs
    config.dataset.update(name="mnist", validation_fraction=0.1)
    config.dataset.update(max_train_examples=scale.train, max_test_examples=scale.test)
    ball = {"epsilon": MNIST_EPSILON, "norm": "linf"}
    config.attacks.pgd20 = schema.attack("pgd", num_steps=20, step_size=MNIST_EPSILON / 10, **ball)
    config.attacks.universal = schema.attack("universal", max_examples=scale.train, **ball)


def _tail(config: Config, scale: Scale) -> None:
    config.num_epochs = scale.tail_epochs
    config.imbalance.update(name="exponential", imbalance_ratio=IMBALANCE_RATIO)
    if scale.tail_max is not None:
        config.imbalance.num_max = scale.tail_max
    config.dataset.max_test_examples = scale.class_test


def _tail_mnist(config: Config, scale: Scale) -> None:
    config.dataset.name = "mnist"
    config.imbalance.num_max = 5421  # of the scarcest class, so that the ratio is one
    _tail(config, scale)


def _tail_cifar10(config: Config, scale: Scale) -> None:
    config.dataset.update(name="cifar10", flip_horizontal=True, crop_padding=4)
    _tail(config, scale)


def _gtsrb(config: Config, scale: Scale) -> None:
    """Imbalanced by nature, 43 classes of 210 to 2,250 images."""
    config.num_epochs = scale.gtsrb_epochs
    config.dataset.update(name="npz", path="~/tensorflow_datasets/gtsrb.npz", groups="train_tracks")
    config.dataset.max_test_examples = scale.class_test


def _classes(config: Config, scale: Scale) -> None:
    config.num_epochs = scale.class_epochs
    config.dataset.update(name="cifar10", flip_horizontal=True, crop_padding=4)
    config.dataset.update(max_train_examples=scale.train, max_test_examples=scale.class_test)
    config.dataset.validation_fraction = 0.1
    config.attacks.pgd20 = schema.attack(
        "pgd", num_steps=20, step_size=CLASS_EPSILON / 8, epsilon=CLASS_EPSILON, norm="linf"
    )


def _collapse(config: Config, scale: Scale) -> None:
    _mnist(config, scale)
    del config.attacks.universal
    config.num_epochs = 2 * scale.epochs
    config.schedule.learning_rate = 3e-3
    config.checkpoint.which = "last"  # the best epoch would hide the collapse


_GROUPS = {
    "mnist": _mnist,
    "tail_mnist": _tail_mnist,
    "tail_cifar10": _tail_cifar10,
    "gtsrb": _gtsrb,
    "classes": _classes,
    "collapse": _collapse,
}
