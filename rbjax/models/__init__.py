"""Architectures, each as pure functions; `create` makes them by name."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from rbjax.models.lenet5 import LeNet5
from rbjax.models.lenet_modern import LeNetModern
from rbjax.models.mlp import MLP
from rbjax.models.model import Classifier, Model, Variables, from_module
from rbjax.models.resnet18 import ResNet18
from rbjax.models.simple_cnn import SimpleCNN
from rbjax.models.vgg_p5 import VGGP5
from rbjax.tables import lookup, nearest

__all__ = ["DTYPES", "MODELS", "Model", "Variables", "create", "options_of"]

MODELS: dict[str, Callable[..., nn.Module]] = {
    "simple_cnn": SimpleCNN,
    "mlp": MLP,
    "lenet5": LeNet5,
    "lenet_modern": LeNetModern,
    "lenet_no_batch_norm": functools.partial(LeNetModern, batch_norm=False),
    "lenet_no_dropout": functools.partial(LeNetModern, pool_dropout=False),
    "lenet_conv_pool": functools.partial(LeNetModern, pooling="conv"),
    "lenet_average_pool": functools.partial(LeNetModern, pooling="average"),
    "vgg_p5": VGGP5,
    "resnet18": ResNet18,
}
"""Name -> constructor of the backbone."""

DTYPES = ("float32", "bfloat16")

_OF_CREATE = ("dtype", "axis_name", "parent", "name")


def create(
    name: str,
    *,
    num_classes: int,
    image_shape: Sequence[int],
    mean: Sequence[float],
    std: Sequence[float],
    dtype: str = "float32",
    axis_name: str | None = None,
    **options: Any,
) -> Model:
    """Returns a model by name, the same object for the same arguments.

    Args:
        name: a name in `MODELS`.
        num_classes: K, at least 2.
        image_shape: (H, W, C).
        mean: C values in [0, 1] units, subtracted inside the model.
        std: C positive values in [0, 1] units, divided by inside the model.
        dtype: what the backbone computes in, "float32" or "bfloat16"; parameters, normalisation,
            head and logits are float32.
        axis_name: the mapped axis over which batch norm averages its statistics in training; None
            for each device its own. Ignored while initialising.
        **options: the architecture's own fields, such as `widths` of simple_cnn.

    Returns:
        The model.

    Raises:
        ValueError: for an unknown name or option, or a value out of its range.
    """
    lookup(MODELS, name, what="model")
    defaults = options_of(name)
    for option in options:
        if option not in defaults:
            allowed = (", ".join(defaults) or "none") + nearest(option, defaults)
            raise ValueError(f"model {name!r} has no option {option!r}; allowed: {allowed}")
    _check(num_classes, image_shape, mean, std, dtype)
    values = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in {**defaults, **options}.items()
    }
    height, width, channels = (int(size) for size in image_shape)
    return _create(
        name,
        int(num_classes),
        (height, width, channels),
        tuple(float(value) for value in mean),
        tuple(float(value) for value in std),
        dtype,
        axis_name,
        tuple(values.items()),
    )


def options_of(name: str) -> dict[str, Any]:
    """Returns an architecture's own options and their defaults.

    Args:
        name: a name in `MODELS`.

    Returns:
        Option -> default; what the name itself settles is left out.
    """
    constructor = MODELS[name]
    settled = constructor.keywords if isinstance(constructor, functools.partial) else {}
    return {
        parameter.name: parameter.default
        for parameter in inspect.signature(constructor).parameters.values()
        if parameter.name not in _OF_CREATE and parameter.name not in settled
    }


@functools.cache
def _create(
    name: str,
    num_classes: int,
    image_shape: tuple[int, int, int],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    dtype: str,
    axis_name: str | None,
    options: tuple[tuple[str, Any], ...],
) -> Model:
    constructor = MODELS[name]
    keywords = dict(options)
    if "axis_name" in inspect.signature(constructor).parameters:
        keywords["axis_name"] = axis_name
    backbone = constructor(dtype=jnp.dtype(dtype), **keywords)
    size = backbone.min_size
    if min(image_shape[:2]) < size:
        raise ValueError(
            f"image_shape is {image_shape}; model {name} needs {size} x {size} or more"
        )
    module = Classifier(backbone, num_classes, mean, std, jnp.dtype(dtype))
    return from_module(name, module, image_shape)


def _check(
    num_classes: int,
    image_shape: Sequence[int],
    mean: Sequence[float],
    std: Sequence[float],
    dtype: str,
) -> None:
    if num_classes < 2:
        raise ValueError(f"num_classes is {num_classes}; allowed: 2 or more")
    if len(image_shape) != 3 or min(image_shape) < 1:
        raise ValueError(f"image_shape is {tuple(image_shape)}; allowed: (height, width, channels)")
    for field, values in (("mean", mean), ("std", std)):
        if len(values) != image_shape[2]:
            raise ValueError(
                f"{field} has {len(values)} values; allowed: one per channel, {image_shape[2]}"
            )
        if not all(math.isfinite(value) for value in values):
            raise ValueError(f"{field} is {tuple(values)}; allowed: finite numbers")
    if min(std) <= 0:
        raise ValueError(f"std is {tuple(std)}; allowed: positive numbers")
    if dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype!r}; allowed: {', '.join(DTYPES)}")
