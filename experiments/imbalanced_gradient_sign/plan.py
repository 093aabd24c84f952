"""What is trained: balanced, under-sampled and over-sampled networks, and how each is attacked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from configs import standard_cifar10
from experiments.imbalanced_gradient_sign.measure import CURVE, measure
from rbjax.config import Config
from rbjax.data import order
from rbjax.sweep import Cell
from rbjax.sweep.grid import said
from rbjax.training import setup

RATIO = 5
"""Images of a class over those of the others, P5's 5,000 over 1,000."""
DEGREES = (1 / 25, 1 / 2, 2.0)
"""Further ratios of one class to the others; 1/5, 1 and 5 are those of the other networks."""
TAIL_RATIO = 10
NUM_STEPS = 5
"""Of the iterative attack; P5 does not say."""


class Scale(NamedTuple):
    """How much is trained and attacked."""

    seeds: int
    """Of the networks as the paper or its code trains them."""
    matched_seeds: int
    """Of those without confounds; 0: there are none."""
    width: int
    """Channels of the VGG's first block; P5 has 32."""
    per_class: int | None
    """Training images of a class where there is no imbalance; None: all."""
    learning_rate: float
    num_epochs: int
    """At most, where training stops by itself."""
    patience: int
    matched_epochs: int
    test: int | None
    """Test images of a class that are attacked; None: all."""
    strong: int | None
    """Of them under PGD-20 and AutoAttack; None: all."""
    autoattack: bool
    classes: int
    """How many classes are under- and over-sampled in turn; 10 are P5's."""
    floors: Mapping[str, float]
    """Least mean of the classes' clean accuracies, by what is trained; below it a network does not
    count."""
    dataset: str = "cifar10"


SMOKE = Scale(
    seeds=1,
    matched_seeds=1,
    width=2,
    per_class=60,
    learning_rate=1e-2,
    num_epochs=2,
    patience=2,
    matched_epochs=2,
    test=8,
    strong=2,
    autoattack=False,
    classes=2,
    floors={"balanced": 0.0, "under": 0.0, "over": 0.0},
    dataset="digits",
)
CPU = Scale(
    seeds=1,
    matched_seeds=3,
    width=8,
    per_class=2_000,
    learning_rate=1e-3,
    num_epochs=15,
    patience=4,
    matched_epochs=12,
    test=300,
    strong=20,
    autoattack=True,
    classes=10,
    floors={"balanced": 0.5, "under": 0.5, "over": 0.35},
)
PAPER = Scale(
    seeds=3,
    matched_seeds=3,
    width=32,
    per_class=None,
    learning_rate=1e-4,
    num_epochs=200,
    patience=20,
    matched_epochs=100,
    test=None,
    strong=None,
    autoattack=True,
    classes=10,
    floors={"balanced": 0.75, "under": 0.7, "over": 0.5},
)
SCALES = {"smoke": SMOKE, "cpu": CPU, "paper": PAPER}


def base(
    scale: Scale,
    *,
    as_published: bool = False,
    dataset: str | None = None,
    path: str | None = None,
    image_size: str | None = None,
) -> Config:
    """Returns what all trainings of a grid have in common.

    Args:
        scale: how much.
        as_published: whether it is P5's code's.
        dataset: in place of the scale's, a name as the config takes it.
        path: of one's own data.
        image_size: of a folder, "height,width".

    Raises:
        ValueError: for an image_size that is none, or one's own data without a path.
    """
    plain = standard_cifar10.get_config("as_published" if as_published else "")
    plain.dataset.update(name=dataset or scale.dataset)
    if dataset in ("npz", "folder") and path is None:
        raise ValueError(f"--dataset={dataset}: needs --path, where it is")
    if path is not None:
        plain.dataset.path = path
    if image_size is not None:
        if not re.fullmatch(r"\d+,\d+", image_size):
            raise ValueError(f"--image_size={image_size}: must be height,width, such as 32,32")
        plain.dataset.image_size = tuple(map(int, image_size.split(",")))
    return plain


def cells(
    scale: Scale,
    *,
    as_published: bool = False,
    **data: str | None,
) -> list[Cell]:
    """Returns the grid, seed by seed, the balanced network first, whose gradients others need.

    Args:
        scale: how much.
        as_published: whether networks are trained as P5's code does, and those alone.
        **data: another dataset, see `base`.
    """
    plain = base(scale, as_published=as_published, **data)
    chosen = classes(setup.info(plain).num_classes, scale.classes)
    made, variant = list[Cell](), "published" if as_published else "written"
    for seed in range(scale.seeds):
        made += _group(scale, plain, variant, seed, chosen)
    for seed in range(0 if as_published else scale.matched_seeds):
        made += _group(scale, plain, "matched", seed, chosen)
    return made


def classes(num_classes: int, number: int) -> list[int]:
    """Returns the classes that are under- and over-sampled in turn, evenly spaced by number.

    P5's two pairs are among two classes of ten: cat, dog.
    """
    if number == 2 and num_classes == 10:
        return [3, 5]
    return (
        np.unique(np.linspace(0, num_classes - 1, min(number, num_classes)).round())
        .astype(int)
        .tolist()
    )


def cell_name(variant: str, kind: str, target: int | None, seed: int) -> str:
    """Returns the name of a cell."""
    return ".".join([variant, kind, *([] if target is None else [f"{target}"]), f"{seed}"])


def degree(ratio: float) -> str:
    """Returns the kind of a network with so many times as many images of one class."""
    return f"x{ratio:g}".replace(".", "_")


def counts(num_classes: int, each: int, kind: str, target: int, *, matched: bool) -> np.ndarray:
    """Returns the training images of each class.

    Args:
        num_classes: K.
        each: images of a class without imbalance, n.
        kind: "balanced", "under", "over", or of `degree`.
        target: the class that has more or fewer.
        matched: whether all kinds have the same sum, n + (K - 1) floor(n / RATIO), that of "over".

    Returns:
        (K,) int64.
    """
    ratio = {"balanced": 1.0, "under": 1 / RATIO, "over": float(RATIO)}.get(kind)
    ratio = float(kind[1:].replace("_", ".")) if ratio is None else ratio
    if not matched:
        others = each // RATIO if kind == "over" else each
        own = each // RATIO if kind == "under" else each
        return np.where(np.arange(num_classes) == target, own, others).astype(np.int64)
    total = each + (num_classes - 1) * (each // RATIO)
    others = round(total / (num_classes - 1 + ratio))
    made = np.full(num_classes, others, np.int64)
    if kind == "balanced":
        made[:] = total // num_classes
        made[: total - made.sum()] += 1
    else:
        made[target] = total - made.sum() + others
    return made


def tail(num_classes: int, each: int, seed: int, *, is_reversed: bool) -> np.ndarray:
    """Returns the class counts of a long tail whose order of classes is drawn, (K,) int64.

    Their sum is that of all matched networks. The reversed one has the same counts, the head's for
    the tail's, so that over the two no class has the advantage.
    """
    total = each + (num_classes - 1) * (each // RATIO)
    shares = TAIL_RATIO ** -(np.arange(num_classes) / (num_classes - 1))
    sizes = np.floor(total * shares / shares.sum() + 0.5).astype(np.int64)
    sizes[0] += total - sizes.sum()
    ranks = np.argsort(order.priorities(np.arange(num_classes), seed=seed, name="tail"))
    made = np.empty(num_classes, np.int64)
    made[ranks[::-1] if is_reversed else ranks] = sizes
    return made


def _scarcest(config: Config, variant: str, most: int | None) -> int:
    """Returns the images that every class has to train on, at most so many."""
    fraction = config.dataset.validation_fraction if variant == "written" else 0.0
    known = setup.info(config).class_counts.get("train")
    train = np.asarray(known or setup.load(config, "train").class_counts)
    held_out = np.floor(train * fraction + 0.5).astype(np.int64)
    least = int((train - held_out).min())
    return least if most is None else min(least, most)


def _group(
    scale: Scale, plain: Config, variant: str, seed: int, chosen: Sequence[int]
) -> list[Cell]:
    """Returns the cells of one variant and seed."""
    info = setup.info(plain)
    num_classes, in_test = info.num_classes, info.num_examples.get("test", 0)
    each, is_matched = _scarcest(plain, variant, scale.per_class), variant == "matched"

    def cell(kind: str, target: int | None = None, **source: Any) -> Cell:
        if kind.startswith("tail"):
            sizes = tail(num_classes, each, seed, is_reversed=kind == "tail_reversed")
        else:
            sizes = counts(num_classes, each, kind, target or 0, matched=is_matched)
        config = _config(scale, plain, variant, kind, seed, int(sizes.sum()))
        select: dict[str, Any] = {"counts": sizes.tolist()}
        if variant == "published":
            select = {"stored": kind, "target": target, "each": each}
        several = list(range(num_classes)) if kind.startswith("tail") else list(chosen)
        options = {
            "select": select,
            "attacked": several if target is None else [target],
            "unclipped": variant == "published",
            "num_steps": NUM_STEPS,
            "test": scale.test,
            "strong": scale.strong,
            "autoattack": scale.autoattack,
            **source,
        }
        passes = _passes(scale, len(options["attacked"]), num_classes, in_test)
        return Cell(cell_name(variant, kind, target, seed), config, measure, options, passes=passes)

    made = [balanced := cell("balanced")]
    select = balanced.options["select"]
    source = {"name": balanced.name, "config": said(balanced), "select": select}
    made += [cell(kind, c, source=source) for c in chosen for kind in ("under", "over")]
    if is_matched:
        made += [cell(degree(ratio), c) for c in chosen[:2] for ratio in DEGREES]
        made += [cell("tail"), cell("tail_reversed")]
    return made


def _passes(scale: Scale, number: int, num_classes: int, in_test: int) -> int:
    """Returns how many images go through the network after training; AutoAttack's are not counted.

    A gradient is three passes: forward, and twice as much backward.
    """
    each = in_test // num_classes or scale.test or 0  # of one's own data it is not known
    each = each if scale.test is None else min(each, scale.test)
    strong = each if scale.strong is None else min(each, scale.strong)
    steps = 2 * (2 + 2 * NUM_STEPS) + 12 + len(CURVE) + 2
    return in_test + 3 * number * (each * steps + 20 * strong)


def _config(
    scale: Scale, plain: Config, variant: str, kind: str, seed: int, num_train: int
) -> Config:
    """Returns a training; which images it uses is chosen when it begins."""
    config = plain.copy_and_resolve_references()
    config.seed = config.imbalance.seed = seed
    for label in list(config.attacks):
        del config.attacks[label]
    config.diagnostics = 0
    config.validation.attack = "none"
    config.model.width = scale.width
    config.schedule.learning_rate = scale.learning_rate
    config.num_epochs, config.schedule.early_stop_patience = scale.num_epochs, scale.patience
    config.dataset.max_train_examples = num_train
    if variant == "matched":
        config.num_epochs, config.schedule.early_stop = scale.matched_epochs, "none"
        config.dataset.update(flip_horizontal=True, validation_fraction=0.0)
    if variant == "published" and kind != "balanced":
        config.dataset.update(validation_fraction=0.2, validation_from="last")
        config.dataset.flip_horizontal = False
    return config
