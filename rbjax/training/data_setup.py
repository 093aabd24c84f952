"""From a resolved config to its data: the training, validation and test sets."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from rbjax import data
from rbjax.config import Config, affecting, makers_options
from rbjax.data import (
    Dataset,
    DatasetInfo,
    custom,
    groups,
    images,
    imbalance,
    looks,
    order,
    own_images,
    subset,
)
from rbjax.tables import lookup


@looks.once()
def load(config: Config, split: str) -> Dataset:
    """Returns a whole split, one's own or one that is known by name.

    Raises:
        ValueError: if one's own is not there, or is not what the config belongs to.
    """
    own = own_data(config)
    if own is not None:
        check_unchanged(config, own)
        return custom.load(own, split)
    return data.load(config.dataset.name, split, data_dir=config.data_dir, bands=_bands(config))


def info(config: Config) -> DatasetInfo:
    """Returns what is known of the dataset; one's own is read for that."""
    own = own_data(config)
    if own is not None:
        return custom.info(own)
    return data.with_bands(data.info(config.dataset.name), _bands(config))


def _bands(config: Config) -> tuple[str, ...]:
    return tuple(given.split(",")) if (given := config.dataset.get("bands")) else ()


def own_data(config: Config) -> custom.Source | None:
    """Returns where one's own data are; None for a dataset that is known by name.

    Raises:
        ValueError: for an option out of range, or if bands are named.
    """
    fields = config.dataset
    if isinstance(data.DATASETS.get(fields.name.partition("/")[0]), DatasetInfo):
        return None
    if fields.get("bands"):
        raise ValueError(f"dataset.bands = {fields.bands!r}: only for droughtwatch")
    return custom.source(fields.name, options(config, "dataset"), path=fields.get("path"))


def check_unchanged(config: Config, own: custom.Source) -> str:
    """Refuses other data of one's own than a config belongs to, and returns their fingerprint.

    Raises:
        ValueError: if they differ, or are not there.
    """
    found, expected = custom.fingerprint(own), config.dataset.get("fingerprint")
    if expected not in (None, found):
        raise ValueError(
            f"dataset.path = {own.path!r}: holds other data than the run was trained on, "
            f"fingerprint {found}, not dataset.fingerprint = {expected}; restore them, or train "
            "into another workdir"
        )
    return found


def load_train(config: Config) -> tuple[Dataset, Dataset | None]:
    """Returns the training set, after imbalance and subset, and the validation set or None."""
    fraction, source = config.dataset.validation_fraction, config.dataset.get("validation_from")
    train, validation = data.divide_train(
        load(config, "train"),
        validation_fraction=0.0 if source in ("last", "test") else fraction,
        imbalance=_profile(config),
        apply_to_validation=config.imbalance.apply_to_test,
        seed=config.imbalance.seed,
    )
    if config.dataset.subset is not None:
        train = subset.keep(train, config.dataset.subset, expected=config.dataset.subset_digest)
    if source == "last":
        train, validation = data.hold_out_last(train, fraction)
    validation = load(config, "test") if source == "test" else validation
    try:
        return first(train, config.dataset.max_train_examples), validation
    except ValueError as error:
        raise ValueError(f"dataset.max_train_examples: {error}") from None


def load_test(config: Config) -> Dataset:
    """Returns the test set; it follows the imbalance profile only where the config says so."""
    other = other_test(config)
    if other is None:
        test = load(config, "test")
    elif isinstance(other, custom.Source):
        test = own_images.load_other(other, info(config), trained_on=own_data(config))
    else:  # described as what the model was trained on is
        test = data.load(*other, data_dir=config.data_dir)
        test = dataclasses.replace(test, info=info(config), split=" ".join(other))
    if config.imbalance.apply_to_test:
        test = data.subsample(test, _profile(config), seed=config.imbalance.seed)
    return data.in_memory(first(test, config.dataset.max_test_examples))


def other_test(config: Config) -> tuple[str, str] | custom.Source | None:
    """Returns what `dataset.test_on` names; None where a run is tested on its own test set.

    Returns:
        Name and split of a dataset that is known; or where one's own images are, made to fit the
        model's.

    Raises:
        ValueError: if there is no such test set, or it has other classes or images.
    """
    given = config.dataset.get("test_on")
    if given is None:
        return None
    name, _, split = given.partition(":")
    ours, where = info(config), f"dataset.test_on = {given!r}"
    if name in own_images.ENCODED:
        if not split:
            raise ValueError(f"{where}: names no folder; write {name}:PATH")
        return own_images.elsewhere(name, split, ours, labels=config.dataset.get("labels"))
    split = split or "test"
    try:
        theirs = data.info(name)
    except ValueError as error:
        own = " or ".join(f"{kind}:PATH" for kind in own_images.ENCODED)
        raise ValueError(f"{where}: {error}; or one's own images, {own}") from None
    lookup(theirs.num_examples, split, what=f"{name} split")
    check_alike(theirs, ours, where)
    return name, split


def test_identity(config: Config) -> dict[str, Any]:
    """Returns what tells one test set from another, for the name of what was measured on it."""
    said, other = dict(affecting("evaluation", "dataset", config.dataset)), other_test(config)
    if isinstance(other, custom.Source):
        said["test_fingerprint"] = own_images.fingerprint_of_other(other)
    return said


def fingerprint_of_other_test(config: Config) -> str | None:
    """Returns a fingerprint of the images that `dataset.test_on` names; None of none of one's own.

    The training data are not read.

    Raises:
        ValueError: if they cannot be read.
    """
    name, _, path = (config.dataset.get("test_on") or "").partition(":")
    if name not in own_images.ENCODED or not path:
        return None
    source = own_images.elsewhere(name, path, None, labels=config.dataset.get("labels"))
    return own_images.fingerprint_of_other(source)


def check_alike(theirs: DatasetInfo, ours: DatasetInfo, what: str) -> None:
    """Refuses a dataset whose images or classes a model for ours does not fit.

    Raises:
        ValueError: beginning with `what`, for another shape, number or order of classes, or other
            names; those of arrays that have none, "0", "1", ..., fit any.
    """
    for field in ("image_shape", "num_classes"):
        here, there = getattr(ours, field), getattr(theirs, field)
        if here != there:
            raise ValueError(
                f"{what} with {field} {there}; it must have that of {ours.name}, {here}"
            )
    if not (_is_nameless(ours) or _is_nameless(theirs)):
        for number, (here, there) in enumerate(
            zip(ours.class_names, theirs.class_names, strict=True)
        ):
            if not _is_same(here, there):
                raise ValueError(
                    f"{what} whose class {number} is {there}; it must have the classes of "
                    f"{ours.name} in their order, whose class {number} is {here}"
                )


def _is_nameless(described: DatasetInfo) -> bool:
    """Returns whether classes are arrays' numbers; of MNIST, which is described, they are names."""
    numbers = tuple(map(str, range(described.num_classes)))
    return described.name not in data.DATASETS and described.class_names == numbers


def _is_same(one: str, other: str) -> bool:
    """Returns whether names are of one class; ImageNet's may say more, "n01440764 tench"."""
    short, long = sorted((one.casefold(), other.casefold()), key=len)
    return long == short or long.startswith(f"{short} ")


def first(dataset: Dataset, num_examples: int | None) -> Dataset:
    """Returns the first examples of a random order, by id; all of them for None.

    Groups stay whole: there may be fewer.  What is not in memory may lie class by class.
    """
    if num_examples is None or num_examples >= dataset.num_examples:
        return dataset
    if dataset.groups is not None:
        return dataset.take(groups.first(dataset.groups, num_examples, name="first"))
    if images.is_resident(dataset.images):
        return dataset.take(np.arange(num_examples))
    numbers = order.priorities(dataset.example_ids, seed=0, name="first")
    return dataset.take(np.sort(np.argsort(numbers, kind="stable")[:num_examples]))


def options(config: Config, group: str) -> dict[str, Any]:
    """Returns the options of what a group names, as keywords, without what is absent."""
    return makers_options(group, config[group].to_dict())


def _profile(config: Config) -> Callable[[np.ndarray], np.ndarray]:
    keywords = options(config, "imbalance")
    if imbalance.PROFILES.accepts(config.imbalance.name, "seed"):  # of one outside
        keywords["seed"] = config.imbalance.seed
    return lambda counts: imbalance.create(config.imbalance.name, class_counts=counts, **keywords)
