"""Trains the three small models that rbjax and its peers attack, and exports their weights.

    python -m experiments.parity.train [MODEL ...] [--workdir=runs/parity]

MODEL is mnist_pgd, cifar10_pgd or mnist_standard; without one, all are trained. Each is the simple
CNN of widths 32 and 32 under Adam. Rerun the same command to resume after a stop. The weights go
to tests/peers/fixtures/MODEL.npz.

On two CPU cores, beside other work, mnist_pgd took 8 minutes, cifar10_pgd 12 and mnist_standard
one. Other machines round differently and train other weights; run the peers again on them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.parity import weights
from rbjax import atomic, command_line, console, data
from rbjax import config as schema
from rbjax.models import Model
from rbjax.train import train
from rbjax.training import setup


def mnist_pgd() -> schema.Config:
    """Returns adversarial training on MNIST: linf 0.2, 10 steps of 0.05."""
    config = _simple_cnn("mnist", num_epochs=2)
    config.method.name = "pgd"
    config.method.epsilon = 0.2
    config.method.step_size = 0.05
    config.method.num_steps = 10
    return config


def cifar10_pgd() -> schema.Config:
    """Returns adversarial training on CIFAR-10: linf 8/255, 7 steps of 2/255."""
    config = _simple_cnn("cifar10", num_epochs=4)
    config.schedule.learning_rate = 5e-4  # at 2e-3 all ReLUs die and the loss stays at log 10
    config.dataset.flip_horizontal = True
    config.method.name = "pgd"
    config.method.epsilon = 8 / 255
    config.method.step_size = 2 / 255
    config.method.num_steps = 7
    return config


def mnist_standard() -> schema.Config:
    """Returns standard training on MNIST."""
    return _simple_cnn("mnist", num_epochs=2)


CONFIGS = {
    "mnist_pgd": mnist_pgd,
    "cifar10_pgd": cifar10_pgd,
    "mnist_standard": mnist_standard,
}
"""The models by name."""


@console.steady()
def main(argv: Sequence[str] | None = None) -> None:
    """Trains the models that are named and writes their weights."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(CONFIGS))
    parser.add_argument("--workdir", default="runs/parity", help="holds the run directories")
    arguments = parser.parse_args(argv)
    unknown = set(arguments.models) - set(CONFIGS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; allowed: {', '.join(CONFIGS)}")
    for name in arguments.models or CONFIGS:
        _make(name, f"{arguments.workdir}/{name}")


def _make(name: str, workdir: str) -> None:
    """Trains one model and writes its weights."""
    config = command_line.resolve(CONFIGS[name](), workdir)
    train(config, workdir)
    info = data.info(config.dataset.name)
    model = setup.create_model(config, info)
    _, variables = setup.trained_variables(config, workdir, model)
    path = weights.path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_npz(path, **_arrays(model, variables, info))
    print(f"written: {path}")


def _simple_cnn(dataset: str, *, num_epochs: int) -> schema.Config:
    """Returns what the three have in common."""
    config = schema.default()
    config.batch_size = 128
    config.num_epochs = num_epochs
    config.dataset.name = dataset
    config.model.name = "simple_cnn"
    config.model.widths = (32, 32)
    config.optimizer.name = "adam"
    config.schedule.name = "cosine"
    config.schedule.learning_rate = 2e-3
    config.score.max_steps = 0
    return config


def _arrays(model: Model, variables: dict[str, Any], info: data.DatasetInfo) -> dict[str, Any]:
    """Returns weights as plain float32 arrays, in the names that both sides read."""
    params = variables["params"]
    arrays: dict[str, Any] = {"mean": info.mean, "std": info.std}
    for number in (0, 1):
        for part in ("kernel", "bias"):
            arrays[f"conv{number}_{part}"] = params["backbone"][f"Conv_{number}"][part]
    for part in ("kernel", "bias"):
        arrays[f"head_{part}"] = params["head"][part]
    arrays = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
    return {**arrays, "image_shape": np.asarray(model.image_shape)}


if __name__ == "__main__":
    main()
