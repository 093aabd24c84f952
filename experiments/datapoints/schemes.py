"""A picture of every random perturbation, on a digit of MNIST and an image of CIFAR-10.

Command: python -m experiments.datapoints.schemes --out=schemes.png
Each row is a scheme with its default options: the image as it is, and draws 1 to 5 of it. The last
two rows are chains.
"""

from __future__ import annotations

import argparse
import io

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from rbjax import atomic, data, perturbations, prng
from rbjax.typing import Perturbation

DATASETS = {"mnist": 2, "cifar10": 3}
"""The dataset's name, and which image of its test set by example id."""

NUM_DRAWS = 5
CHAINS = ("rotation+gaussian_noise", "fog+random_pixels")


def draws(perturbation: Perturbation, image: np.ndarray) -> np.ndarray:
    """Returns the image and its first draws, one beside the other.

    Args:
        perturbation: (key, image) -> image.
        image: (H, W, C) uint8.

    Returns:
        (H, (1 + NUM_DRAWS) (W + 1) - 1, 3) uint8, a white line between two.
    """
    clean = jnp.asarray(image, jnp.float32) / 255
    keys = prng.per_example(prng.key(0), jnp.arange(NUM_DRAWS))
    drawn = jax.vmap(perturbation, (0, None))(keys, clean)
    row = jnp.concatenate([clean[None], drawn])
    row = jnp.pad(row, ((0, 0), (0, 0), (0, 1), (0, 0)), constant_values=1.0)
    row = jnp.concatenate(list(row), axis=1)[:, :-1]
    return np.asarray(jnp.round(255 * jnp.broadcast_to(row, (*row.shape[:2], 3))), np.uint8)


def draw(path: str, *, data_dir: str | None) -> None:
    """Writes the picture of every scheme and a few chains as PNG."""
    names = [*perturbations.PERTURBATIONS, *CHAINS]
    figure = Figure(figsize=(8.0, 0.81 * len(names)), layout="constrained")
    grid = figure.subplots(len(names), len(DATASETS))
    for column, (dataset, number) in enumerate(DATASETS.items()):
        image = data.load(dataset, "test", data_dir=data_dir).images[number]
        for axes, name in zip(grid[:, column], names, strict=True):
            axes.imshow(draws(perturbations.create(name), image), interpolation="nearest")
            axes.set_axis_off()
            axes.set_title(name, fontsize=7, loc="left", pad=2)
    drawn = io.BytesIO()
    FigureCanvasAgg(figure).print_png(drawn, metadata={"Software": None})
    # 256 colours are enough for a picture to look at, at a third of the size.
    small = Image.open(drawn).convert("RGB").quantize(256)
    with atomic.replace(path) as file:
        small.save(file, "png", optimize=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A picture of every random perturbation.")
    parser.add_argument("--out", default="schemes.png", help="the PNG")
    parser.add_argument("--data_dir", help="where TFDS keeps its datasets; TFDS's default")
    return parser.parse_args()


if __name__ == "__main__":
    arguments = _arguments()
    draw(arguments.out, data_dir=arguments.data_dir)
    print(f"{arguments.out}: {len(perturbations.PERTURBATIONS)} schemes and {len(CHAINS)} chains")
