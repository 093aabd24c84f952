"""Does it matter which images a universal perturbation is crafted on?

    python -m experiments.universal.craft_on [--ratio=30] [--epsilon=0.1] [--num-epochs=60]

Fits a linear model to a long tail of scikit-learn's digits (exponential; the largest class has
--ratio times as many images as the smallest) by 300 steps of Adam, crafts a perturbation in linf on
each choice of `attacks.<label>.craft_on` (--num-epochs epochs; 10 % of the training images are
held out), and prints the accuracy on the test images of the head, the five largest
classes, and of the tail, the five smallest.  The table is in results.md beside this file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.benchmarks import machine
from rbjax import attack_setup, command_line, prng
from rbjax import config as schema
from rbjax.classifier import predicted
from rbjax.data import Dataset
from rbjax.inputs import to_float
from rbjax.losses.adversarial import cross_entropy
from rbjax.training import setup
from rbjax.typing import Array, LogitsFn

CHOICES = ("train", "balanced", "validation")


def make_config(ratio: float, epsilon: float, num_epochs: int) -> schema.Config:
    """Returns a config with the data and the attacks."""
    config = schema.default()
    config.dataset.name = "digits"
    config.dataset.validation_fraction = 0.1
    config.imbalance.name = "exponential"
    config.imbalance.imbalance_ratio = ratio
    config.imbalance.num_max = 124  # what the scarcest class has: classes differ by nature
    for choice in CHOICES:
        config.attacks[choice] = schema.attack(
            "universal", epsilon=epsilon, num_epochs=num_epochs, craft_on=choice
        )
    return config


def fit(train: Dataset) -> LogitsFn:
    """Returns a linear model of the training images, fitted to all of them at once."""
    images = jnp.asarray(train.images[:], jnp.float32).reshape(train.num_examples, -1) / 255
    labels = jnp.asarray(train.labels)
    optimizer, params = optax.adam(1e-2), (jnp.zeros((images.shape[1], 10)), jnp.zeros(10))

    def loss(params: tuple[Array, Array]) -> Array:
        return jnp.mean(cross_entropy(images @ params[0] + params[1], labels))

    def step(carry: Any, _: None) -> tuple[Any, None]:
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return (optax.apply_updates(params, updates), state), None

    carry = (params, optimizer.init(params))
    (weights, bias), _ = jax.jit(lambda c: jax.lax.scan(step, c, length=300)[0])(carry)

    def logits(weights: Array, bias: Array, images: Array) -> Array:
        return images.reshape(len(images), -1) @ weights + bias

    return jax.tree_util.Partial(logits, weights, bias)


def measure(config: schema.Config) -> dict[str, tuple[float, float, float]]:
    """Returns the accuracy of head, tail and all, by what the perturbation was crafted on."""
    train, validation = setup.load_train(config)
    test, logits_fn = setup.load_test(config), fit(train)
    predictions = {"nothing": np.asarray(predicted(logits_fn(to_float(test.images))))}
    for attack in attack_setup.create(config, train, test, validation).attacks.values():
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
        predictions[perturbed.crafted_on] = perturbed.predictions
    is_head, shares = test.labels < 5, {}
    for crafted_on, classes in predictions.items():
        right = classes == test.labels
        shares[crafted_on] = tuple(
            float(np.mean(x)) for x in (right[is_head], right[~is_head], right)
        )
    return shares


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
    parser.add_argument("--num-epochs", type=int, default=60, help="passes of the crafting")
    given = parser.parse_args(arguments)
    try:
        config = make_config(given.ratio, given.epsilon, given.num_epochs)
        config = command_line.resolve(config, "unused")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(machine.describe())
    print(f"{'crafted on':<34}{'head':>7}{'tail':>7}{'all':>7}")
    for crafted_on, shares in measure(config).items():
        print(f"{crafted_on:<34}" + "".join(f"{share:7.3f}" for share in shares))
    return 0


if __name__ == "__main__":
    sys.exit(main())
