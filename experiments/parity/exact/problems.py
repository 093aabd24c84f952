"""The models and images that attacks are measured on, drawn with a seed, and solved."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.parity.exact import solve
from experiments.parity.exact.solve import NORMS, Net

SHAPE = (10, 10, 1)
NUM_HIDDEN = 8
KINDS = ("grey", "uniform", "black and white", "dark")
MODELS = ("linear, 2 classes", "linear, 10 classes", "ReLU, 2 classes", "ReLU, 10 classes")
"""Each of width 100, a layer of 8 ReLUs in the last two."""
NEAREST = 1 / 255
"""Images nearer to the boundary, in l-inf, are drawn anew: there rounding counts."""


class Problem(NamedTuple):
    """A model and the images that it is attacked on."""

    net: Net
    """Its weights are float32 numbers."""
    images: np.ndarray
    """(N, 10, 10, 1) float32 in [0, 1], the kinds in turn."""
    labels: np.ndarray
    """(N,) int64, what the model says of them."""
    exact: dict[str, np.ndarray]
    """norm: (N,), the least size of an adversarial perturbation."""


def make_net(name: str, rng: np.random.Generator) -> Net:
    """Returns a model with random weights.

    Args:
        name: of `MODELS`.
        rng: what is drawn from.
    """

    def draw(*shape: int, scale: float) -> np.ndarray:
        return (scale * rng.standard_normal(shape)).astype(np.float32).astype(np.float64)

    num_classes, width = 10 if "10" in name else 2, int(np.prod(SHAPE))
    if name.startswith("linear"):
        return Net(draw(width, num_classes, scale=0.3), draw(num_classes, scale=0.3))
    return Net(
        draw(NUM_HIDDEN, num_classes, scale=1.0),
        draw(num_classes, scale=0.3),
        draw(width, NUM_HIDDEN, scale=0.3),
        draw(NUM_HIDDEN, scale=0.3),
    )


def draw_image(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Returns an image (10, 10, 1) float32 of a kind: in [0.3, 0.7], [0, 1], {0, 1} or [0, 0.1]."""
    values = rng.random(SHAPE)
    made = {
        "grey": 0.3 + 0.4 * values,
        "uniform": values,
        "black and white": np.round(values),
        "dark": 0.1 * values,
    }
    return made[kind].astype(np.float32)


def make(name: str, num_images: int, seed: int) -> Problem:
    """Returns a problem, solved.

    Args:
        name: of `MODELS`.
        num_images: of each kind.
        seed: of model and images.
    """
    rng = np.random.default_rng([seed, MODELS.index(name)])
    net, images, labels = make_net(name, rng), [], []
    for kind in KINDS:
        left = num_images
        while left:
            image = draw_image(kind, rng)
            label = int(net.logits(image[None]).argmax())
            if solve.distance(net, image, label, "linf") >= NEAREST:
                images.append(image)
                labels.append(label)
                left -= 1
    norms = NORMS if net.first is None else NORMS[:-1]
    pairs = list(zip(images, labels, strict=True))
    exact = {norm: np.array([solve.distance(net, *pair, norm) for pair in pairs]) for norm in norms}
    return Problem(net, np.array(images), np.array(labels), exact)


def export(made: dict[str, Problem], path: Path) -> None:
    """Writes problems for the peers' side: arrays "MODEL/last", "MODEL/exact/linf" and so on."""
    arrays = {}
    for name, problem in made.items():
        parts = problem.net._asdict() | {"images": problem.images, "labels": problem.labels}
        parts |= {f"exact/{norm}": values for norm, values in problem.exact.items()}
        parts["logits"] = problem.net.logits(problem.images)
        arrays |= {f"{name}/{part}": value for part, value in parts.items() if value is not None}
    np.savez(path, **arrays)
