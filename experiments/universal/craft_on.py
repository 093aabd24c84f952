"""Does it matter which images a universal perturbation is crafted on?

    python -m experiments.universal.craft_on [--ratio=30] [--epsilon=0.1]

Fits a linear model to a long tail of scikit-learn's digits (exponential; the largest class has
--ratio times as many images as the smallest), crafts a perturbation in linf on each choice of
`attacks.<label>.craft_on` (10 % of the training images are held out), and prints the accuracy on
the test images of the head, the five largest classes, and of the tail, the five smallest.  The
table is in results.md beside this file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.linear_model import LogisticRegression

from experiments.benchmarks import machine
from rbjax import attack_setup, command_line, prng
from rbjax import config as schema
from rbjax.data import Dataset
from rbjax.training import setup
from rbjax.typing import Array, LogitsFn

CHOICES = ("train", "balanced", "validation")


def make_config(ratio: float, epsilon: float) -> schema.Config:
    """Returns a config with the data and the attacks."""
    config = schema.default()
    config.dataset.name = "digits"
    config.dataset.validation_fraction = 0.1
    config.imbalance.name = "exponential"
    config.imbalance.imbalance_ratio = ratio
    for choice in CHOICES:
        config.attacks[choice] = schema.attack("universal", epsilon=epsilon, craft_on=choice)
    return config


def fit(train: Dataset) -> LogitsFn:
    """Returns a linear model of the training images."""
    images = np.asarray(train.images[:]).reshape(train.num_examples, -1) / 255.0
    model = LogisticRegression(max_iter=1000).fit(images, train.labels)
    weights, bias = (jnp.asarray(x, jnp.float32) for x in (model.coef_.T, model.intercept_))

    def logits(weights: Array, bias: Array, images: Array) -> Array:
        return images.reshape(len(images), -1) @ weights + bias

    return jax.tree_util.Partial(logits, weights, bias)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fits, crafts and prints.

    Args:
        arguments: of the command line; `sys.argv[1:]`.

    Returns:
        The exit code: 0, or 2 for a wrong value.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ratio", type=float, default=30.0, help="largest class over smallest")
    parser.add_argument("--epsilon", type=float, default=0.1, help="radius in linf")
    given = parser.parse_args(arguments)
    try:
        config = command_line.resolve(make_config(given.ratio, given.epsilon), "unused")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(machine.describe())
    train, validation = setup.load_train(config)
    test, logits_fn = setup.load_test(config), fit(train)
    attacks = attack_setup.create(config, train, test, validation).attacks
    print(f"{'crafted on':<34}{'head':>7}{'tail':>7}{'all':>7}")
    for choice in CHOICES:
        attack = attacks[choice]
        assert isinstance(attack, attack_setup.Universal)
        perturbed = attack.run(
            logits_fn,
            prng.key(0),
            test.images,
            test.labels,
            example_ids=test.example_ids,
            batch_size=None,
            devices=None,
            progress=None,
        )
        correct, is_head = perturbed.predictions == test.labels, test.labels < 5
        shares = (correct[is_head].mean(), correct[~is_head].mean(), correct.mean())
        print(f"{perturbed.crafted_on:<34}" + "".join(f"{share:7.3f}" for share in shares))
    return 0


if __name__ == "__main__":
    sys.exit(main())
