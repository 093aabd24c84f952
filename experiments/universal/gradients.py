"""Which gradient of a clipped image makes the strongest universal perturbation, in each norm?

    python -m experiments.universal.gradients [--workdir=runs/gradients] [--num-images=2000]

Trains two small networks on MNIST and one on scikit-learn's digits, crafts a perturbation of each
norm by each of `universal.gradient.SLOPES` on the first --num-images training images (10 epochs,
step epsilon / 4, no random start), and prints the share of the test images that are still
correctly classified, in per cent: the lower, the stronger. The table is in results.md beside this
file.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from unittest import mock

from experiments.benchmarks import machine
from rbjax import command_line, prng
from rbjax import config as schema
from rbjax.attacks import universal
from rbjax.attacks.universal import gradient
from rbjax.train import train
from rbjax.training import setup

NETWORKS = {
    "mnist, mlp": ("mnist", "mlp", 2),
    "mnist, lenet5": ("mnist", "lenet5", 2),
    "digits, simple_cnn": ("digits", "simple_cnn", 30),
}
"""Name -> dataset, model, epochs."""
EPSILONS = {
    "mnist": {"linf": (0.1, 0.2), "l2": (2.0, 4.0), "l1": (20.0, 40.0)},
    "digits": {"linf": (0.1, 0.2), "l2": (0.6, 1.0), "l1": (2.0, 4.0)},
}


def make_config(network: str, data_dir: str | None) -> schema.Config:
    """Returns the training of a network, with Adam and nothing against attacks."""
    config = schema.default()
    config.dataset.name, config.model.name, config.num_epochs = NETWORKS[network]
    config.batch_size, config.data_dir = 64, data_dir
    config.optimizer.name = "adam"
    config.schedule.name = "constant"
    config.schedule.learning_rate = 1e-3
    return config


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains, crafts and prints.

    Args:
        arguments: of the command line; `sys.argv[1:]`.

    Returns:
        The exit code: 0, or 2 for a wrong value.
    """
    norms = ("linf", "l2", "l1")
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--num-images", type=int, default=2000, help="that a delta is crafted on")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--norms", nargs="+", choices=norms, default=norms)
    parser.add_argument("--workdir", default="runs/gradients", help="of the networks' runs")
    parser.add_argument("--data_dir", help="where TFDS keeps MNIST")
    given = parser.parse_args(arguments)
    print(machine.describe())
    slopes = "".join(f"{slope:>12}" for slope in gradient.SLOPES)
    print(f"{'network':<20}{'norm':>6}{'epsilon':>9}{slopes}")
    try:
        for network in given.networks:
            _measure(network, given)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _measure(network: str, given: argparse.Namespace) -> None:
    workdir = os.path.join(given.workdir, network.replace(", ", "_"))
    config = command_line.resolve(make_config(network, given.data_dir), workdir)
    train(config, workdir)
    logits_fn = setup.trained_logits_fn(config, workdir)
    crafted_on = setup.first(setup.load(config, "train"), given.num_images)
    test = setup.load(config, "test")
    for norm in given.norms:
        for epsilon in EPSILONS[config.dataset.name][norm]:
            shares = []
            for slope in gradient.SLOPES:
                with mock.patch.dict(gradient.SLOPE_OF, {norm: slope}):
                    crafted = universal.craft_universal(
                        logits_fn,
                        prng.key(0),
                        crafted_on.images,
                        crafted_on.labels,
                        epsilon=epsilon,
                        norm=norm,
                    )
                measured = universal.evaluate_universal(
                    logits_fn, test.images, test.labels, crafted.delta
                )
                shares.append(100 * measured.accuracy)
            row = "".join(f"{share:>12.1f}" for share in shares)
            print(f"{network:<20}{norm:>6}{epsilon:>9g}{row}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
