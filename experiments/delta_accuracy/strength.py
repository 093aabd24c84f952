"""How strong must our AlignMNIST be?  P3's network on MNIST and on its deformed images.

    python -m experiments.delta_accuracy.strength [--epochs=3] [--weights=100] [--scales=0.5,0.75,1]

Trains P3's modern LeNet on MNIST and prints its accuracy on the training images, and how many
points it loses on the same images deformed: for each weight of the prior and each scale on the
first --num-images of them, then for the recipe that `alignmnist_generated` has on all of them, mean
of the first --blocks blocks, which is P3's delta-accuracy.  P3's six networks lose 1.03 to 1.52
points on the published blocks; the strength of those is the one thing that is not published.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np

from experiments.benchmarks import machine
from rbjax import command_line, console, data
from rbjax import config as schema
from rbjax.data import alignmnist
from rbjax.data.alignmnist import generated
from rbjax.train import train
from rbjax.training import setup
from rbjax.training.predict import predict
from rbjax.typing import LogitsFn

BATCH_SIZE = 128


def make_config(num_epochs: int, data_dir: str | None) -> schema.Config:
    """Returns P3's training, shortened: Adam of 1e-3, times 0.7 after each epoch."""
    config = schema.default()
    config.batch_size, config.num_epochs, config.data_dir = BATCH_SIZE, num_epochs, data_dir
    config.dataset.name = "mnist"
    config.model.name = "lenet_modern"
    config.optimizer.name = "adam"
    config.schedule.name = "step"
    config.schedule.learning_rate = 1e-3
    config.schedule.gamma = 0.7
    config.schedule.epochs_per_step = 1.0
    return config


def accuracy(logits_fn: LogitsFn, dataset: data.Dataset, images: np.ndarray) -> float:
    """Returns the accuracy on a dataset's images after they were replaced, in per cent."""
    replaced = data.from_arrays(dataset.info, "deformed", images, dataset.labels)
    return 100 * float(np.mean(predict(logits_fn, replaced) == replaced.labels))


def drop(
    logits_fn: LogitsFn,
    dataset: data.Dataset,
    recipe: alignmnist.Recipe,
    *,
    block: int,
    data_dir: str | None,
) -> float:
    """Returns the points of accuracy that are lost on a block of deformed images.

    Args:
        logits_fn: the network.
        dataset: the images as they are.
        recipe: how they are deformed.
        block: which draw, from 1.
        data_dir: where MNIST is.

    Returns:
        Positive where the deformed images are harder.
    """
    deformed = generated.deform(
        dataset.images,
        dataset.labels,
        dataset.example_ids,
        alignmnist.gaussians(data_dir, recipe=recipe),
        block=block,
        recipe=recipe,
    )
    clean = accuracy(logits_fn, dataset, dataset.images)
    return clean - accuracy(logits_fn, dataset, deformed)


@console.steady()
def main(arguments: Sequence[str] | None = None) -> int:
    """Trains, deforms and prints.

    Args:
        arguments: of the command line; `sys.argv[1:]`.

    Returns:
        The exit code: 0, or 2 for a wrong value.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3, help="of training; P3 has 20")
    parser.add_argument("--weights", default="100", help="of the prior, such as 20,100,400")
    parser.add_argument("--scales", default="0.5,0.75,1", help="of the deformations")
    parser.add_argument("--num-images", type=int, default=10000, help="for each of the scales")
    parser.add_argument("--blocks", type=int, default=5, help="of the recipe in use; P3 has 5")
    parser.add_argument("--workdir", default="runs/strength", help="the run directory")
    parser.add_argument("--data_dir", help="where TFDS keeps MNIST")
    given = parser.parse_args(arguments)
    try:
        config = command_line.resolve(make_config(given.epochs, given.data_dir), given.workdir)
        weights, scales = (list(map(float, x.split(","))) for x in (given.weights, given.scales))
        train(config, given.workdir)
        _measure(config, given, weights, scales)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _measure(
    config: schema.Config, given: argparse.Namespace, weights: list[float], scales: list[float]
) -> None:
    mnist = data.load("mnist", "train", data_dir=given.data_dir)
    logits_fn = setup.trained_logits_fn(config, given.workdir)
    some = setup.first(mnist, given.num_images)
    print(machine.describe())
    clean = accuracy(logits_fn, mnist, mnist.images)
    print(f"{config.model.name}, {given.epochs} epochs: {clean:.2f} % of MNIST's training images")
    print(f"points lost on {some.num_examples:,} of them, block 1, by the deformations' scale")
    print(f"{'prior weight':>12}" + "".join(f"{scale:>8g}" for scale in scales))
    for weight in weights:
        alignment = alignmnist.DEFAULT.alignment._replace(prior_weight=weight)
        recipes = [alignmnist.Recipe(alignment, scale) for scale in scales]
        lost = [drop(logits_fn, some, r, block=1, data_dir=given.data_dir) for r in recipes]
        print(f"{weight:>12g}" + "".join(f"{points:>8.2f}" for points in lost), flush=True)
    used, blocks = alignmnist.DEFAULT, range(1, given.blocks + 1)
    points = [drop(logits_fn, mnist, used, block=b, data_dir=given.data_dir) for b in blocks]
    print(
        f"alignmnist_generated (weight {used.alignment.prior_weight:g}, scale {used.scale:g}), "
        f"{mnist.num_examples:,} images, blocks 1 to {given.blocks}: delta-accuracy "
        f"{-np.mean(points):.2f} (each {', '.join(f'{-p:.2f}' for p in points)})"
    )


if __name__ == "__main__":
    sys.exit(main())
