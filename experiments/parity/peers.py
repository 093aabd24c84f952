"""Has the peers attack rbjax's weights, and keeps what they found in tests/peers/fixtures.

    python -m experiments.parity.peers --torch-python=PATH [MODEL ...]

PATH is a Python that has PyTorch, foolbox and torchattacks; it need not have rbjax:

    python -m venv peers && peers/bin/pip install torch foolbox scipy tqdm
    peers/bin/pip install --no-deps torchattacks

The models that were trained adversarially are attacked by everything, the other one by PGD and
APGD alone. On two shared CPU cores cifar10_pgd took 6 minutes without the whole AutoAttack,
mnist_pgd 25.
"""

from __future__ import annotations

import argparse
import functools
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from experiments.parity import weights
from experiments.parity.train import CONFIGS
from rbjax import console, data
from rbjax.config import Config
from rbjax.inputs import to_float
from rbjax.typing import Array

NUM_IMAGES = 1000
"""The first test images by id, a random order; single attacks of AutoAttack take the first 200."""

EPSILON = {"mnist_pgd": 0.2, "cifar10_pgd": 8 / 255, "mnist_standard": 0.1}
"""Radius of the linf ball in which each model is attacked."""


def images(name: str, number: int = NUM_IMAGES) -> data.Dataset:
    """Returns the test images that a model is attacked on."""
    config: Config = CONFIGS[name]()
    return _load(config.dataset.name).take(np.arange(number))


def attacks(name: str) -> list[str]:
    """Returns the peers' attacks on a model; none: all there are."""
    if CONFIGS[name]().method.name == "standard":
        return ["foolbox_pgd", "torchattacks_pgd", "apgd"]
    return []


@functools.lru_cache(maxsize=2)
def _load(dataset: str) -> data.Dataset:
    return data.load(dataset, "test")


def pixels(dataset: data.Dataset) -> Array:
    """Returns a dataset's images, float32 in [0, 1]."""
    return to_float(jnp.asarray(dataset.images))


def export_images(name: str, path: Path, number: int = NUM_IMAGES) -> None:
    """Writes the images of a model with rbjax's logits."""
    test = images(name, number)
    np.savez(
        path,
        images=np.asarray(pixels(test)),
        labels=test.labels.astype(np.int64),
        logits=np.asarray(weights.load(name)(pixels(test))),
    )


@console.steady()
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the peers on the models that are named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(CONFIGS))
    parser.add_argument("--torch-python", required=True, help="a Python that has the peers")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch")
    arguments = parser.parse_args(argv)
    root = Path(__file__).resolve().parents[2]
    for name in arguments.models or CONFIGS:
        print(f"{name}:", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "images.npz"
            export_images(name, path)
            command = [arguments.torch_python, "-m", "experiments.parity.torch_side"]
            command += [str(weights.path(name)), str(path), repr(EPSILON[name])]
            command += [str(weights.FOLDER / f"{name}_peers"), f"--threads={arguments.threads}"]
            chosen = attacks(name)
            command += ["--attacks", *chosen] if chosen else []
            subprocess.run(command, check=True, cwd=root)


if __name__ == "__main__":
    main()
