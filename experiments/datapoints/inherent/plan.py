"""How much each scale of "is robustness a property of the datapoint?" does."""

from __future__ import annotations

import dataclasses

from experiments.datapoints import scales
from rbjax.tables import lookup

FAMILIES = ("simple_cnn", "lenet5", "mlp", "extra_trees")
"""P4's CNN, LeNet-5, a multilayer perceptron, and scikit-learn's extremely randomised trees."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """One scale. Images are the first so many by example id, which is a random order."""

    num_test: int | None
    """Test images scored; None: all."""
    repetitions: int
    """Repetitions of an image's draws."""
    max_steps: int
    """Draws of a repetition at most."""
    num_resamples: int
    """Of the bootstrap."""
    num_epochs: int | None = None
    """Of the networks; None: those of configs/rpr_mnist.py."""
    max_train_examples: int | None = None
    """Images that every model is trained on; None: all."""
    num_trees: int = 100
    """Of each forest."""
    num_seeds: int = 3
    """Trainings of each family."""
    dataset: str = "mnist"


SCALES = {
    "smoke": Plan(
        num_test=100,
        repetitions=3,
        max_steps=30,
        num_resamples=199,
        num_epochs=4,
        num_trees=30,
        dataset="digits",
    ),
    "cpu": Plan(
        num_test=1000,
        repetitions=4,
        max_steps=100,
        num_resamples=999,
        num_epochs=3,
        max_train_examples=20_000,
    ),
    "paper": Plan(num_test=None, repetitions=10, max_steps=250, num_resamples=999),
}


def scale(name: str) -> Plan:
    """Returns a scale by name."""
    return lookup(SCALES, name, what="scale")


def cuts(plan: Plan) -> list[str]:
    """Returns what a plan leaves out of the largest one, a line each."""
    meanings = {
        "dataset": "dataset",
        "num_seeds": "seeds of each family",
        "num_epochs": "epochs",
        "max_train_examples": "training images",
        "num_trees": "trees of a forest",
        "num_test": "test images scored",
        "repetitions": "repetitions of the draws",
        "max_steps": "draws of a repetition at most",
        "num_resamples": "resamples of the bootstrap",
    }
    return scales.cuts(plan, SCALES["paper"], meanings)
