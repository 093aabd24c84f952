"""How right a network is on each class of a dataset, as it is and under attack."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np

from rbjax import metrics, prng
from rbjax.attacks import CompiledAttack
from rbjax.data import Dataset
from rbjax.models import Model
from rbjax.training import setup
from rbjax.training.method import Epoch
from rbjax.training.predict import predict, predict_attacked
from rbjax.typing import Key


class Accuracy(NamedTuple):
    """Of each class, and of all examples together."""

    clean: np.ndarray
    """(K,)."""
    robust: np.ndarray
    """(K,) under the attack."""
    clean_of_all: float
    robust_of_all: float


def class_accuracy(
    key: Key, model: Model, variables: Any, dataset: Dataset, attack: CompiledAttack
) -> Accuracy:
    """Returns the accuracy of each class of a dataset, 1 for one without examples.

    Args:
        key: what the attack draws from, with each example's id.
        model: the network.
        variables: its weights.
        dataset: what is measured on.
        attack: what every example is attacked with.
    """
    logits_fn = jax.tree_util.Partial(model.apply, variables)
    clean, clean_of_all = _shares(dataset, predict(logits_fn, dataset))
    robust, robust_of_all = robust_accuracy(key, model, variables, dataset, attack)
    return Accuracy(clean, robust, clean_of_all, robust_of_all)


def robust_accuracy(
    key: Key, model: Model, variables: Any, dataset: Dataset, attack: CompiledAttack
) -> tuple[np.ndarray, float]:
    """Returns the accuracy under attack of each class, (K,), and of all; no image goes without it.

    A class without examples has 1.  The arguments are those of `class_accuracy`.
    """
    logits_fn = jax.tree_util.Partial(model.apply, variables)
    attacked = predict_attacked(attack, logits_fn, dataset, key=prng.named(key, "attack"))
    return _shares(dataset, attacked)


def _shares(dataset: Dataset, predictions: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns the share that is right of each class, (K,), and of all examples."""
    matrix = metrics.confusion_matrix(dataset.labels, predictions, dataset.info.num_classes)
    classes = metrics.from_confusion(np.asarray(matrix))
    of_classes = np.where(classes.count > 0, classes.recall, 1.0)
    return of_classes, float(classes.correct.sum() / classes.count.sum())


def validation_set(epoch: Epoch) -> Dataset:
    """Returns the validation split.

    Raises:
        ValueError: if there is none.
    """
    if epoch.validation_set is None:
        raise ValueError("the method measures on a validation set, and there is none")
    return epoch.validation_set


def measuring_set(epoch: Epoch, num_examples: int) -> Dataset:
    """Returns held-out images, or training images where there is no validation split.

    Args:
        epoch: what `after_epoch` is told.
        num_examples: at most so many, the first of a random order, each time the same.
    """
    whole = epoch.train_set if epoch.validation_set is None else epoch.validation_set
    # Groups have done their work: whole ones would leave fewer images, or none.
    return setup.first(dataclasses.replace(whole, groups=None), num_examples)
