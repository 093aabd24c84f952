"""From a resolved config to its attacks: what each is, whom it attacks, and that it can be made."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rbjax import attacks, data, prng
from rbjax import config as schema
from rbjax.attacks import suite
from rbjax.config import Config
from rbjax.data import Dataset, DatasetInfo
from rbjax.options import cached_options
from rbjax.progress import Progress, Tell
from rbjax.tables import reason
from rbjax.training import run_directory, setup
from rbjax.typing import Array, Key


class Suite(NamedTuple):
    """What `run_attacks` takes, by the labels of the config."""

    attacks: dict[str, suite.Entry]
    targets: dict[str, np.ndarray]
    counted: dict[str, np.ndarray]


def create(
    config: Config, train: Dataset | None, test: Dataset, validation: Dataset | None = None
) -> Suite:
    """Returns the attacks of a config.

    Args:
        config: a resolved config.
        train: what universal perturbations are crafted on, whole or a balanced part of it; None
            where there is none.
        test: what is attacked.
        validation: what they are crafted on where the config says so; None where there is none.

    Returns:
        The attacks, and whom they attack.

    Raises:
        ValueError: for an attack that cannot be made, naming it.
    """
    made = Suite({}, {}, {})
    for label, group in config.attacks.items():
        try:
            attack = _compile(group)
            if isinstance(attack, attacks.Crafting):
                options = (*attack.options, ("batch_size", config.batch_size))
                some, aim = _crafted_on(group, train, validation), group.get("target_class")
                attack = Universal(
                    attack.craft, tuple(sorted(options)), aim, some, _WORDS[group.craft_on]
                )
            elif group.get("source") is not None:
                run = _read_source(group.source, setup.info(config))
                attack = attacks.transfer(attack, setup.trained_logits_fn(run, group.source))
            made.attacks[label] = attack
        except ValueError as error:
            raise ValueError(f"attacks.{label}: {error}") from None
        if group.get("only_class") is not None:
            made.counted[label] = test.labels == group.only_class
        if group.get("target_class") is not None:
            made.targets[label] = np.full(test.num_examples, group.target_class, np.int32)
    return made


_WORDS = {
    "balanced": "balanced training images",
    "train": "training images",
    "validation": "validation images",
}
"""What each choice of `craft_on` is called in reports."""


def _crafted_on(group: Config, train: Dataset | None, validation: Dataset | None) -> Dataset:
    """Returns the images that a universal perturbation is crafted on.

    Balanced are as many of each class as the smallest class has: on a long tail a perturbation of
    the whole set would be one against the head, and spare the tail.  Groups, which keep
    images alike in one split, have no part in it: whole ones would make the classes uneven.
    """
    if train is None:
        raise ValueError(_NO_TRAIN)
    if group.craft_on == "balanced":
        counts = train.class_counts
        each = int(counts[counts > 0].min())
        if group.max_examples is not None:
            each = min(each, group.max_examples // np.count_nonzero(counts))
        train = dataclasses.replace(train, groups=None)
        return data.subsample(train, lambda counts: np.where(counts > 0, each, 0))
    dataset = train if group.craft_on == "train" else validation
    if dataset is None:
        raise ValueError(_NO_VALIDATION)
    return setup.first(dataclasses.replace(dataset, groups=None), group.max_examples)


_NO_VALIDATION = (
    "craft_on is 'validation', and no image is held out; train with dataset.validation_fraction "
    "above 0, or craft on 'balanced' or 'train'"
)


_NO_TRAIN = (
    "a universal perturbation is crafted on training images, and this dataset has test images alone"
)


def check(group: Config, info: DatasetInfo, *, has_validation: bool = True) -> None:
    """Makes an attack without data or weights, and traces it on a small model.

    Args:
        group: a resolved attack of a config.
        info: of the dataset.
        has_validation: whether a part of the training images is held out.

    Raises:
        ValueError: for what is wrong with it.
    """
    for field in ("only_class", "target_class"):
        value, last = group.get(field), info.num_classes - 1
        if value is not None and value > last:
            raise ValueError(
                f"{field} is {value}; allowed: 0 to {last}, the classes of {info.name}"
            )
    if group.get("target_class") is not None and group.only_class == group.target_class:
        raise ValueError("only_class and target_class are the same: no image is left to attack")
    craft_on, most = group.get("craft_on"), group.get("max_examples")
    if craft_on == "validation" and not has_validation:
        raise ValueError(_NO_VALIDATION)
    if craft_on == "balanced" and most is not None and most < info.num_classes:
        raise ValueError(
            f"max_examples is {most}, with craft_on 'balanced' of {info.num_classes} classes; it "
            f"must be at least {info.num_classes}, or craft on 'train'"
        )
    attack = _compile(group)
    if isinstance(attack, attacks.AutoAttack) and attack.version == "rand":
        raise ValueError("version 'rand' is for randomised classifiers; a run's model is none")
    if isinstance(attack, attacks.Crafting) and "train" not in info.num_examples:
        raise ValueError(_NO_TRAIN)
    if isinstance(attack, attacks.Crafting | suite.Driver):
        return
    if group.get("source") is not None:
        _read_source(group.source, info)
    images = jax.ShapeDtypeStruct((1, *info.image_shape), jnp.float32)
    one = jax.ShapeDtypeStruct((1,), jnp.int32)

    def linear(images: Array) -> Array:
        return images.reshape(len(images), -1) @ jnp.ones((images[0].size, info.num_classes))

    def call(images: Array, labels: Array) -> Any:
        targets = None if group.get("target_class") is None else labels
        return attack(linear, prng.key(0), images, labels, targets=targets)

    try:
        result = jax.eval_shape(call, images, one)
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"attack {group.name!r} fails: {reason(error)}") from error
    missing = [field for field in ("images", "fooled", "predictions") if not hasattr(result, field)]
    if missing:
        raise ValueError(
            f"attack {group.name!r} returns {result!r}; it must return an rbjax.typing.AttackResult"
        )


def _compile(group: Config) -> Any:
    """Returns what an attack's maker makes of its options."""
    options = schema.makers_options("attacks", group.to_dict())
    made = attacks.create(group.name, **options)
    if dataclasses.is_dataclass(made) or isinstance(made, suite.Driver):
        return made
    return Known(made, group.name, tuple(options.items()))


@dataclasses.dataclass(frozen=True)
class Known:
    """A plain function as an attack, known to a journal by its maker's name and options."""

    function: Callable[..., Any] = dataclasses.field(repr=False)
    name: str
    options: tuple[tuple[str, Any], ...]

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        """Returns what the function does."""
        return self.function(*args, **keywords)


def _read_source(workdir: str, info: DatasetInfo) -> Config:
    """Returns the config of another run, whose model must fit the dataset."""
    try:
        run = schema.stored(run_directory.read_config(workdir))
    except ValueError as error:
        raise ValueError(f"source: {error}") from None
    theirs = setup.info(run)
    setup.check_alike(theirs, info, f"source = {workdir!r}, a run on {theirs.name}")
    return run


class Perturbed(NamedTuple):
    """What a universal perturbation did to a dataset it was not crafted on."""

    predictions: np.ndarray
    probability: np.ndarray
    fooling_rate: float
    """Share of the images whose class changed, labels aside."""
    dominant_label: int
    """The class that most of the perturbed images are taken for."""
    dominant_share: float
    entropy: float
    """Of the predictions, in nats."""
    crafted_on: str
    """What it was crafted on, such as "1,240 balanced training images"."""
    num_crafted: int
    """How many these were."""
    forwards: int | None
    """Passes of one image forwards, those that craft and those that evaluate; None: not known."""
    backwards: int | None
    """And backwards."""
    kept: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Universal:
    """A universal perturbation as an entry of `run_attacks`: crafted on some images, put on all."""

    craft: Callable[..., Any]
    options: tuple[tuple[str, Any], ...]
    target_class: int | None
    images: Dataset
    """What it is crafted on."""
    words: str
    """What these are called."""

    def run(
        self,
        logits_fn: Any,
        key: Key,
        images: np.ndarray,
        labels: np.ndarray,
        *,
        example_ids: np.ndarray,
        batch_size: int | None,
        devices: Sequence[Any] | None,
        progress: Tell | None,
        targets: np.ndarray | None = None,
    ) -> Perturbed:
        """Crafts the perturbation and classifies the images with it; see `suite.Driver`."""
        del example_ids, targets  # it is crafted for the targets, and nothing is drawn
        some, given = self.images, dict(self.options)
        if self.target_class is not None:
            given["targets"] = np.full(some.num_examples, self.target_class, np.int32)

        def tell(state: Progress) -> None:
            if progress is not None:
                progress(state._replace(task="crafting"))

        known = (some.labels,) if "labels" in cached_options(self.craft) else ()
        ids = some.example_ids
        given |= {"devices": devices, "progress": tell}
        crafted = self.craft(logits_fn, key, some.images, *known, example_ids=ids, **given)
        delta, made = crafted.delta, getattr(crafted, "forwards", None)
        evaluation = attacks.evaluate_universal(
            logits_fn, images, labels, delta, batch_size=batch_size or 256, devices=devices
        )
        return Perturbed(
            predictions=evaluation.predictions,
            probability=evaluation.probability,
            fooling_rate=evaluation.fooling_rate,
            dominant_label=evaluation.dominant_label,
            dominant_share=evaluation.dominant_share,
            entropy=evaluation.entropy,
            crafted_on=f"{some.num_examples:,} {self.words}",
            num_crafted=some.num_examples,
            forwards=None if made is None else made + 2 * len(images),
            backwards=getattr(crafted, "backwards", None),
            kept={"perturbation": np.asarray(delta)},
        )
