"""What OpenCV and scikit-image make of the same noise and pictures, for the tests of corruptions.

    python -m experiments.parity.spatter_side tests/peers/fixtures

Run from the repository's root in a Python of its own that has opencv-python and scikit-image and
not rbjax. Writes two files:

spatter.npz: for the constants of CIFAR-10-C and ImageNet-C (water at severities 1 to 3, mud at 4
and 5), noise and the mask of the liquid that the published steps give; for pictures of random
levels, OpenCV's Canny edges, distances to them and equalised histograms.

mnist_shapes.npz: pictures of strokes, scikit-image's Canny edges of them and its warps of the first
by the matrices of MNIST-C's shears, turns and scales, at every severity.

The files kept were made by OpenCV 4.5.5 and scikit-image 0.26.0.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import cv2  # pyright: ignore[reportMissingImports]
import numpy as np
import skimage.feature  # pyright: ignore[reportMissingImports]
import skimage.filters  # pyright: ignore[reportMissingImports]
import skimage.transform  # pyright: ignore[reportMissingImports]

WATER = {
    "cifar 1": (0.62, 0.1, 0.7, 0.7, 0.5),
    "cifar 2": (0.65, 0.1, 0.8, 0.7, 0.5),
    "cifar 3": (0.65, 0.3, 1, 0.69, 0.5),
    "imagenet 1": (0.65, 0.3, 4, 0.69, 0.6),
    "imagenet 2": (0.65, 0.3, 3, 0.68, 0.6),
    "imagenet 3": (0.65, 0.3, 2, 0.68, 0.5),
}
MUD = {
    "cifar 4": (0.65, 0.1, 0.7, 0.69, 0.6),
    "cifar 5": (0.65, 0.1, 0.5, 0.68, 0.6),
    "imagenet 4": (0.65, 0.3, 1, 0.65, 1.5),
    "imagenet 5": (0.67, 0.4, 1, 0.65, 1.5),
}
EMBOSS = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
NUM_IMAGES = 3


def liquid_of(noise: np.ndarray, mean: float, std: float, sigma: float, low: float) -> np.ndarray:
    """Returns the liquid: noise blurred, without what is below a threshold."""
    liquid = skimage.filters.gaussian(mean + std * noise.astype(np.float64), sigma=sigma)
    return np.where(liquid < low, 0, liquid)


def distance_to(edges: np.ndarray) -> np.ndarray:
    """Returns OpenCV's distances to edges that are 255."""
    return cv2.distanceTransform(255 - edges, cv2.DIST_L2, 5)


def water(noise: np.ndarray, constants: tuple[float, ...]) -> np.ndarray:
    """Returns the mask of water."""
    liquid = (liquid_of(noise, *constants[:4]) * 255).astype(np.uint8)
    distance = distance_to(cv2.Canny(liquid, 50, 150))
    _, distance = cv2.threshold(distance, 20, 20, cv2.THRESH_TRUNC)
    relief = cv2.equalizeHist(cv2.blur(distance, (3, 3)).astype(np.uint8))
    light = cv2.blur(cv2.filter2D(relief, cv2.CV_8U, EMBOSS), (3, 3)).astype(np.float32)
    mask = liquid * light
    return constants[4] * mask / mask.max()


def mud(noise: np.ndarray, constants: tuple[float, ...]) -> np.ndarray:
    """Returns the mask of mud."""
    covered = (liquid_of(noise, *constants[:4]) > constants[3]).astype(np.float32)
    covered = skimage.filters.gaussian(covered, sigma=constants[4])
    return np.where(covered < 0.8, 0, covered)


def spatter(random: np.random.Generator) -> dict[str, np.ndarray]:
    """Returns what spatter.npz holds."""
    kept = {}
    for name, constants in (WATER | MUD).items():
        noise = random.normal(size=(NUM_IMAGES, 24, 28)).astype(np.float16)
        make = water if name in WATER else mud
        kept[f"{name} noise"] = noise
        kept[f"{name} mask"] = np.stack([make(n, constants) for n in noise]).astype(np.float32)
    levels = random.integers(0, 256, (4, 17, 22)).astype(np.uint8)
    levels[2:] //= 3
    levels[3] = cv2.GaussianBlur(levels[3], (5, 5), 0)
    edges = np.stack([cv2.Canny(picture, 200, 500) for picture in levels[:2]])
    edges = np.concatenate([edges, [cv2.Canny(picture, 50, 150) for picture in levels[2:]]])
    sparse = np.where(random.random((4, 17, 22)) < 0.01, 255, 0).astype(np.uint8)
    return kept | {
        "levels": levels,
        "edges": edges,
        "equalized": np.stack([cv2.equalizeHist(picture) for picture in levels]),
        "sparse": sparse,
        "distances": np.stack([distance_to(picture) for picture in sparse]),
    }


def strokes(random: np.random.Generator) -> np.ndarray:
    """Returns a picture (28, 28) uint8 of a thick crooked line, as a digit is."""
    corners = random.integers(5, 23, (4, 1, 2)).astype(np.int32)
    picture = np.zeros((28, 28), np.uint8)
    cv2.polylines(picture, [corners], False, 255, 2)
    return cv2.GaussianBlur(picture, (3, 3), 0)


def warped(picture: np.ndarray, matrix: list[list[float]]) -> np.ndarray:
    """Returns a picture read at matrix (x, y), both from its centre."""
    whole = np.eye(3)
    whole[:2, :2] = matrix
    whole[:2, 2] = 13.5 - 13.5 * whole[:2, :2].sum(1)
    warp = skimage.transform.AffineTransform(matrix=whole)
    return skimage.transform.warp(picture / 255, inverse_map=warp)


def mnist_shapes(random: np.random.Generator) -> dict[str, np.ndarray]:
    """Returns what mnist_shapes.npz holds."""
    pictures = np.stack([strokes(random) for _ in range(24)])
    matrices = {"shear": [], "rotate": [], "scale": []}
    for angle in (0.2, 0.4, 0.6, 0.8, 1.0):
        for a in (-angle, angle):
            sin, cos = math.sin(a), math.cos(a)
            matrices["shear"].append([[1, -sin], [0, cos]])
            matrices["rotate"].append([[cos, -sin], [sin, cos]])
    matrices["scale"] = [[[1 / s, 0], [0, 1 / s]] for s in (0.9, 0.8, 0.7, 0.6, 0.5)]
    return {
        "pictures": pictures,
        "edges": np.stack([skimage.feature.canny(picture / 255) for picture in pictures]),
    } | {
        name: np.stack([warped(pictures[0], m) for m in of_name]).astype(np.float32)
        for name, of_name in matrices.items()
    }


def main() -> None:
    """Writes both files into the folder given."""
    folder = Path(sys.argv[1])
    np.savez_compressed(
        folder / "spatter.npz", allow_pickle=False, **spatter(np.random.default_rng(0))
    )
    shapes = mnist_shapes(np.random.default_rng(1))
    np.savez_compressed(folder / "mnist_shapes.npz", allow_pickle=False, **shapes)


if __name__ == "__main__":
    main()
