"""How much of P4's experiment each scale does, and the paper's numbers."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from experiments.datapoints import scales
from rbjax.tables import lookup


class Paper(NamedTuple):
    """P4's numbers, all of MNIST."""

    accuracy: float = 0.9885
    """Of M on test."""
    test_ratio: float = 0.2957
    """Robust test images under M."""
    train_ratio: float = 0.7128
    """Robust training images under M."""
    robust_accuracy: float = 0.9692
    """Of M_R, trained on robust images alone, on test."""
    robust_test_ratio: float = 0.5101
    """Robust test images under M_R."""
    draw: int = 47
    """The first draw that fools in the paper's figure 2."""


PAPER = Paper()


@dataclasses.dataclass(frozen=True)
class Plan:
    """One scale. Images are the first so many by example id, which is a random order."""

    readings: int | None
    """Readings that are followed further, those nearest to the paper's test ratio; None: all."""
    num_seeds: int
    """Trainings, and streams of draws, of the readings that are followed."""
    num_test: int | None
    """Test images scored; None: all."""
    num_train: int | None
    """Training images scored, of which the robust ones are kept; None: all."""
    per_class: int = 1500
    """Robust training images kept of each class."""
    max_steps: int = 250
    """Draws of an image."""
    num_epochs: int | None = None
    """None: those of configs/rpr_mnist.py."""
    max_train_examples: int | None = None
    """Images that M is trained on; None: all."""
    dataset: str = "mnist"


SCALES = {
    "smoke": Plan(
        readings=1,
        num_seeds=1,
        num_test=100,
        num_train=600,
        per_class=30,
        max_steps=50,
        num_epochs=2,
        max_train_examples=6400,
    ),
    "cpu": Plan(readings=2, num_seeds=3, num_test=2000, num_train=16000),
    "paper": Plan(readings=None, num_seeds=5, num_test=None, num_train=None),
}
"""Every other reading is scored with the first seed on test alone.

`cpu` trains 3 models on 60,000 images and 12 on 15,000 at most, 4 epochs each (1.4 million images),
and draws some 33 million times for 168,000 images scored: 34 minutes on two cores.
"""


def scale(name: str) -> Plan:
    """Returns a scale by name."""
    return lookup(SCALES, name, what="scale")


def cuts(plan: Plan) -> list[str]:
    """Returns what a plan leaves out of the largest one, a line each."""
    meanings = {
        "readings": "readings followed with all seeds and on train (the rest: one seed, test)",
        "num_seeds": "seeds",
        "num_test": "test images scored",
        "num_train": "training images scored",
        "per_class": "robust training images kept of each class",
        "max_steps": "draws of an image",
        "num_epochs": "epochs",
        "max_train_examples": "images that M is trained on",
        "dataset": "dataset",
    }
    return scales.cuts(plan, SCALES["paper"], meanings)
