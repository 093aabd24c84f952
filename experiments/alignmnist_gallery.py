"""Draws digits and their deformations in AlignMNIST: a row per class, the image first.

    python -m experiments.alignmnist_gallery --out=docs/alignmnist.png [--columns=10]
    python -m experiments.alignmnist_gallery --out=published.png --path=alignmnist.npz

Without --path the deformations are rbjax's own (`alignmnist_generated`); with it the published
file's blocks are drawn instead.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from rbjax import atomic, console
from rbjax.data import alignmnist, order, storage
from rbjax.data.alignmnist import generated

_ENLARGED = 2
_GAP = 2


@console.steady()
def main() -> None:
    """Draws the picture."""
    parser = argparse.ArgumentParser(description="A grid of AlignMNIST's deformed digits.")
    parser.add_argument("--out", required=True, help="the .png file")
    parser.add_argument("--path", help="the published alignmnist.npz; without it, made here")
    parser.add_argument("--columns", type=int, default=10, help="deformed images a class, 1 to 75")
    parser.add_argument("--scale", type=float, help="of the deformations made here")
    parser.add_argument("--data_dir", help="where TFDS keeps MNIST")
    options = parser.parse_args()
    if not 1 <= options.columns <= 75:
        parser.error(f"--columns is {options.columns}; allowed: 1 to 75")
    try:
        if options.path:
            rows = published(options.path, options.columns, options.data_dir)
        else:
            recipe = alignmnist.DEFAULT
            if options.scale is not None:
                recipe = recipe._replace(scale=options.scale)
            rows = made(options.columns, options.data_dir, recipe)
    except ValueError as error:
        parser.error(str(error))
    with atomic.replace(options.out) as file:
        Image.fromarray(grid(rows)).save(file, format="png", optimize=True)
    print(options.out)


def published(path: str, columns: int, data_dir: str | None) -> np.ndarray:
    """Returns the first image of each class and its deformed ones in the published file.

    Args:
        path: alignmnist.npz.
        columns: how many blocks.
        data_dir: where rbjax's own folder is.

    Returns:
        (10, 1 + columns, 28, 28) uint8.
    """
    splits = list(alignmnist.SPLITS)[: columns + 1]
    _, labels = alignmnist.load_split("train", data_dir, path=path)
    first = [int(np.flatnonzero(labels == label)[0]) for label in range(10)]
    blocks = [alignmnist.load_split(split, data_dir, path=path)[0] for split in splits]
    return np.stack([block[first, ..., 0] for block in blocks], axis=1)


def made(columns: int, data_dir: str | None, recipe: alignmnist.Recipe) -> np.ndarray:
    """Returns the image of each class with the lowest id and its deformed ones, made here.

    Only these images are deformed, as they are in the blocks.

    Args:
        columns: how many blocks.
        data_dir: where TFDS keeps MNIST.
        recipe: how they are deformed.

    Returns:
        (10, 1 + columns, 28, 28) uint8.
    """
    folder = storage.default_data_dir() if data_dir is None else Path(data_dir)
    images, labels = storage.read("mnist", "train", folder)
    ids = order.example_ids(images, labels)
    by_id = np.argsort(ids)
    first = np.array([by_id[labels[by_id] == label][0] for label in range(10)])
    covariances = alignmnist.gaussians(folder, recipe=recipe)
    chosen = images[first], labels[first], ids[first]
    blocks = [
        generated.deform(*chosen, covariances, block=block, recipe=recipe)
        for block in range(1, columns + 1)
    ]
    return np.stack([images[first], *blocks], axis=1)[..., 0]


def grid(rows: np.ndarray) -> np.ndarray:
    """Lays images out, white lines between them and a wider one after the first column.

    Args:
        rows: (R, C, H, W) uint8.

    Returns:
        (height, width) uint8, each pixel drawn twice as large.
    """
    framed = np.pad(rows, ((0, 0), (0, 0), (0, _GAP), (0, _GAP)), constant_values=255)
    lines = []
    for row in framed:
        rule = np.full((row.shape[1], _GAP), 255, np.uint8)
        lines.append(np.concatenate([row[0], rule, *row[1:]], axis=1))
    return np.concatenate(lines).repeat(_ENLARGED, axis=0).repeat(_ENLARGED, axis=1)


if __name__ == "__main__":
    main()
