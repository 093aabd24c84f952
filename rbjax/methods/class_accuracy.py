"""How right a network is on each class of the validation set, as it is and under attack."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from rbjax import attacks
from rbjax.attacks import CompiledAttack
from rbjax.training import setup
from rbjax.training.method import Epoch
from rbjax.typing import Key


class Accuracy(NamedTuple):
    """Of each class, and of all examples together."""

    clean: np.ndarray
    """(K,)."""
    robust: np.ndarray
    """(K,) under the attack."""
    clean_of_all: float
    robust_of_all: float


def class_accuracy(key: Key, epoch: Epoch, variables: Any, attack: CompiledAttack) -> Accuracy:
    """Returns the accuracy of each class of the validation set, 1 for one without examples.

    Args:
        key: what the attack draws from, with each example's id.
        epoch: what `after_epoch` is told.
        variables: the weights.
        attack: what every example is attacked with.

    Raises:
        ValueError: if there is no validation set.
    """
    model, dataset = epoch.model, epoch.validation_set
    if dataset is None:
        raise ValueError("the method measures on a validation set, and there is none")
    results = attacks.run_attacks(
        jax.tree_util.Partial(model.apply, variables),
        key,
        dataset.images,
        dataset.labels,
        attacks={"attack": attack},
        example_ids=dataset.example_ids,
        batch_size=256,
    )
    labels = np.asarray(dataset.labels)
    count = np.bincount(labels, minlength=model.num_classes)

    def of_classes(predictions: np.ndarray) -> np.ndarray:
        right = np.bincount(labels, predictions == labels, model.num_classes)
        return np.where(count > 0, right / np.maximum(count, 1), 1.0)

    clean, attacked = results.clean, results.outcomes["attack"].predictions
    return Accuracy(
        of_classes(clean),
        of_classes(attacked),
        float(np.mean(clean == labels)),
        float(np.mean(attacked == labels)),
    )


def on_a_part(epoch: Epoch, num_examples: int) -> Epoch:
    """Returns an epoch whose validation set has at most so many examples, each time the same.

    Without a validation set they are training examples.

    Args:
        epoch: what `after_epoch` is told.
        num_examples: the first of a random order.
    """
    whole = epoch.train_set if epoch.validation_set is None else epoch.validation_set
    return epoch._replace(validation_set=setup.first(whole, num_examples))
