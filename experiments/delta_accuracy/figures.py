"""P3's figures 1 to 5, from our runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from experiments.delta_accuracy import claims, copies, measure, plan
from experiments.delta_accuracy.compare import Cohort, cohort, estimate, example
from experiments.delta_accuracy.plan import NAMES, Scale
from rbjax import command_line, models, prng
from rbjax.analysis.figures import save
from rbjax.analysis.plots import COLOURS
from rbjax.data import DatasetNotFoundError
from rbjax.sweep import Result
from rbjax.training import setup

_RIGHT, _WRONG = "#009E73", "#D55E00"


def draw(results: Mapping[str, Result], folder: Path, *, scale: Scale, as_published: bool) -> None:
    """Draws figures 1 to 5 of the results that are there into a folder.

    Args:
        results: of `sweep.read`.
        folder: of the pictures, figure1.png to figure5.png; what a picture needs and is missing,
            such as MNIST itself, leaves it out.
        scale: of the grid.
        as_published: whether the grid is that of the author's code.
    """
    found, _ = cohort(results, scale)
    _architecture(folder / "figure2.png", scale)
    if any(found.values()):
        _bars(folder / "figure3.png", found, ("accuracy", "transformed"))
        _bars(folder / "figure4.png", found, ("delta",))
    try:
        images = _Copies(scale, as_published=as_published)
    except DatasetNotFoundError as error:
        print(f"figures 1 and 5 are not drawn: {error}")
        return
    _transformations(folder / "figure1.png", images)
    chosen = example(found)
    if chosen is not None:
        _disagreement(folder / "figure5.png", images, *chosen)


class _Copies:
    """Test images, and copies of one of them."""

    def __init__(self, scale: Scale, *, as_published: bool) -> None:
        cell = plan.cells(scale, as_published=as_published)[0]
        config = command_line.resolve(cell.config, cell.name)
        recipe = measure.recipe_of(cell.options["recipe"])
        self._deformer = copies.deformer(config, recipe, Path())
        self.test = setup.load_test(config)

    def of(self, row: int) -> list[np.ndarray]:
        """Returns an image and its copies, (H, W, C) uint8 each."""
        one = self.test.take(np.array([row]))
        made = [self._deformer.deform(one, n + 1)[0] for n in range(measure.COPIES)]
        return [np.asarray(one.images[np.arange(1)])[0], *made]


def _transformations(path: Path, images: _Copies) -> None:
    """Figure 1: an image and its copies."""
    figure = Figure(figsize=(9, 1.9), layout="constrained")
    titles = ["original", *(f"copy {n + 1}" for n in range(measure.COPIES))]
    for axes, image, title in zip(
        figure.subplots(1, len(titles)), images.of(0), titles, strict=True
    ):
        _show(axes, image, title)
    save(figure, path)


def _disagreement(
    path: Path, images: _Copies, row: int, copy: int, classes: Mapping[str, int]
) -> None:
    """Figure 5: the copy that the networks disagree on, and what each says, green where right."""
    figure = Figure(figsize=(5.6, 2.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    label = int(images.test.labels[row])
    _show(left, images.of(row)[copy], f"copy {copy} of test image {row}, a {label}")
    right.axis("off")
    for line, (version, got) in enumerate(classes.items()):
        colour = _RIGHT if got == label else _WRONG
        right.text(0.05, 0.92 - 0.16 * line, f"{NAMES[version]}: {got}", color=colour, fontsize=12)
    save(figure, path)


def _bars(path: Path, found: Cohort, names: Sequence[str]) -> None:
    """Figures 3 and 4: measures of each version, ours with 95 % intervals and the paper's."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    axes = figure.add_subplot()
    versions = [version for version in found if found[version]]
    titles = {"accuracy": "original", "transformed": "transformed", "delta": "Δ accuracy"}
    width, low, high = 0.8 / (2 * len(names)), np.inf, -np.inf
    for number, name in enumerate(names):
        ours = [one for v in versions if (one := estimate(name, found[v])) is not None]
        theirs = [claims.published(name, version) or np.nan for version in versions]
        values = np.array([one.value for one in ours])
        ends = np.array([(one.value - one.low, one.high - one.value) for one in ours]).T
        for part, heights, errors, hatch in ((0, values, ends, ""), (1, theirs, None, "////")):
            places = np.arange(len(versions)) + (2 * number + part - len(names) + 0.5) * width
            whose = ("ours", "paper")[part]
            axes.bar(
                places,
                heights,
                width,
                yerr=errors,
                color=COLOURS[number] if not part else "none",
                edgecolor=COLOURS[number],
                hatch=hatch,
                label=f"{titles[name]}, {whose}",
            )
            low, high = min(low, np.nanmin(heights)), max(high, np.nanmax(heights))
    axes.set_xticks(range(len(versions)), [NAMES[version] for version in versions])
    axes.set(ylabel="points" if names == ("delta",) else "per cent")
    if names != ("delta",):
        room = max(high - low, 0.1)
        axes.set_ylim(low - 0.3 * room, min(high + 0.3 * room, 100))
    axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


class Layer(NamedTuple):
    """A step of a network, as its traced program has it."""

    kind: str
    """"conv", "pool" or "dense"."""
    window: tuple[int, int]
    shape: tuple[int, ...]
    """Of the result, without the batch."""
    then: tuple[str, ...]
    """What follows before the next: "ReLU", "batch norm"."""


def layers(model: models.Model) -> list[Layer]:
    """Returns the layers of a network that classifies, read from its program."""
    images = jax.ShapeDtypeStruct((1, *model.image_shape), jnp.float32)
    variables = jax.eval_shape(model.init, prng.key(0), images)
    found: list[Layer] = []
    for equation in _equations(jax.make_jaxpr(model.apply)(variables, images).jaxpr):
        name, shape = equation.primitive.name, equation.outvars[0].aval.shape[1:]
        if name.startswith("reduce_window"):
            window = equation.params["window_dimensions"][1:3]
            found.append(Layer("pool", window, shape, ()))
        elif name == "conv_general_dilated":
            found.append(Layer("conv", equation.invars[1].aval.shape[:2], shape, ()))
        elif name == "dot_general":
            found.append(Layer("dense", (1, 1), shape, ()))
        elif found and name in ("custom_jvp_call", "rsqrt"):
            word = "batch norm" if name == "rsqrt" else "ReLU"
            found[-1] = found[-1]._replace(then=(*found[-1].then, word))
    return found


def _equations(jaxpr: Any) -> Iterator[Any]:
    """Yields the equations of a program; of a ReLU its call alone."""
    for equation in jaxpr.eqns:
        yield equation
        if equation.primitive.name != "custom_jvp_call":
            for value in equation.params.values():
                inner = getattr(value, "jaxpr", value)
                if hasattr(inner, "eqns"):
                    yield from _equations(inner)


def _architecture(path: Path, scale: Scale) -> None:
    """Figure 2: the layers of the original network; heights are sides, widths go with channels."""
    config = plan.make_config(scale, "original", 0)
    model = models.create(
        config.model.name, num_classes=10, image_shape=(28, 28, 1), mean=(0.0,), std=(1.0,)
    )
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    axes = figure.add_subplot()
    boxes = [Layer("image", (1, 1), model.image_shape, ()), *layers(model)]
    for number, layer in enumerate(boxes):
        height, width, channels = layer.shape if len(layer.shape) == 3 else (1, 1, layer.shape[0])
        wide = 0.08 + 0.1 * np.log2(channels + 1) / 2
        corner = (number - wide / 2, -height / 2)
        colour = COLOURS[("image", "conv", "pool", "dense").index(layer.kind)]
        axes.add_patch(Rectangle(corner, wide, height, color=colour, alpha=0.6))
        size = f"{width}x{height}x{channels}" if len(layer.shape) == 3 else f"{channels}"
        axes.text(number, height / 2 + 0.6, size, ha="center", fontsize=8)
        windowed = layer.kind in ("conv", "pool")
        words = f"{layer.kind}{' {}x{}'.format(*layer.window) if windowed else ''}"
        below = "\n".join([words, *layer.then])
        axes.text(number, -15.5, below, ha="center", va="top", fontsize=8)
    axes.set(xlim=(-0.7, len(boxes) - 0.3), ylim=(-22, 17))
    axes.axis("off")
    save(figure, path)


def _show(axes: Axes, image: np.ndarray, title: str) -> None:
    axes.imshow(image[..., 0], cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_title(title, fontsize=9)
    axes.set(xticks=[], yticks=[])
