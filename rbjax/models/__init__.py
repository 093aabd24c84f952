"""Architectures, each as pure functions; `create` makes them by name."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from rbjax.inputs import is_channels_first
from rbjax.models import outside
from rbjax.models.densenet import DenseNet
from rbjax.models.googlenet import GoogLeNet
from rbjax.models.head import logit_scale
from rbjax.models.inception import InceptionV3
from rbjax.models.lenet5 import LeNet5
from rbjax.models.lenet_modern import LeNetModern
from rbjax.models.mlp import MLP
from rbjax.models.model import Classifier, Model, Variables, from_module
from rbjax.models.preact_resnet import PreActResNet
from rbjax.models.resnet import ResNet
from rbjax.models.simple_cnn import SimpleCNN
from rbjax.models.squeezenet import SqueezeNet
from rbjax.models.torch_weights import from_torch
from rbjax.models.vgg import VGG
from rbjax.models.vgg_p5 import VGGP5
from rbjax.models.wide_resnet import WideResNet
from rbjax.options import validate
from rbjax.tables import Table

__all__ = [
    "DTYPES",
    "MODELS",
    "Model",
    "Variables",
    "create",
    "from_torch",
    "logit_scale",
    "options_of",
]

MODELS: Table[nn.Module] = Table(
    "model",
    {
        "simple_cnn": SimpleCNN,
        "mlp": MLP,
        "lenet5": LeNet5,
        "lenet_modern": LeNetModern,
        "lenet_no_batch_norm": functools.partial(LeNetModern, has_batch_norm=False),
        "lenet_no_dropout": functools.partial(LeNetModern, pool_dropout=False, last_dropout=False),
        "lenet_conv_pool": functools.partial(LeNetModern, pooling="conv"),
        "lenet_average_pool": functools.partial(LeNetModern, pooling="average"),
        "vgg_p5": VGGP5,
        "vgg16": functools.partial(VGG, blocks=(2, 2, 3, 3, 3), has_batch_norm=False),
        "vgg16_bn": functools.partial(VGG, blocks=(2, 2, 3, 3, 3), has_batch_norm=True),
        "vgg19": functools.partial(VGG, blocks=(2, 2, 4, 4, 4), has_batch_norm=False),
        "vgg19_bn": functools.partial(VGG, blocks=(2, 2, 4, 4, 4), has_batch_norm=True),
        "resnet18": functools.partial(ResNet, blocks=(2, 2, 2, 2), block="basic"),
        "resnet34": functools.partial(ResNet, blocks=(3, 4, 6, 3), block="basic"),
        "resnet50": functools.partial(ResNet, blocks=(3, 4, 6, 3), block="bottleneck"),
        "resnet32": functools.partial(
            ResNet, form="cifar", width=16, blocks=(5, 5, 5), block="basic", shortcut="zeros"
        ),
        "preact_resnet18": functools.partial(PreActResNet, blocks=(2, 2, 2, 2)),
        "wide_resnet": WideResNet,
        "wide_resnet_28_10": functools.partial(WideResNet, depth=28, widen_factor=10),
        "wide_resnet_34_10": functools.partial(WideResNet, depth=34, widen_factor=10),
        "densenet121": functools.partial(DenseNet, blocks=(6, 12, 24, 16)),
        "densenet169": functools.partial(DenseNet, blocks=(6, 12, 32, 32)),
        "densenet201": functools.partial(DenseNet, blocks=(6, 12, 48, 32)),
        "googlenet": GoogLeNet,
        "inception_v3": InceptionV3,
        "squeezenet": SqueezeNet,
    },
    supplied=("num_classes", "image_shape", "dtype", "axis_name"),
)
"""Name -> constructor of the backbone."""

DTYPES = ("float32", "bfloat16")


def create(
    name: str | nn.Module | Callable[..., nn.Module],
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
        name: a name in `MODELS`, `package.module:Module`, or a class or module of one's own: any
            Flax Linen module, see `outside.adapt`.
        num_classes: K, at least 2.
        image_shape: (H, W, C).
        mean: C values in [0, 1] units, subtracted inside the model.
        std: C positive values in [0, 1] units, divided by inside the model.
        dtype: what the backbone computes in, "float32" or "bfloat16"; parameters, normalisation,
            head and logits are float32.
        axis_name: the mapped axis over which batch norm averages its statistics in training; None
            for each device its own. Ignored while initialising.
        **options: the architecture's own fields, such as `widths` of simple_cnn and `head` of all.

    Returns:
        The model.

    Raises:
        ValueError: for an unknown name or option, or a value out of its range.
    """
    if isinstance(name, nn.Module) and options:
        raise ValueError(f"a module that is made already has no options; got {options}")
    values: dict[str, Any] = {}
    if isinstance(name, str):
        own = MODELS.options(name)
        MODELS.check(name, own, options)
        values = {**options_of(name), **validate(own, options)}
    elif not isinstance(name, nn.Module):
        values = dict(options)
    try:
        hash((name, *values.values()))
    except TypeError:
        title = name if isinstance(name, str) else getattr(name, "__name__", type(name).__name__)
        raise ValueError(
            f"model {title!r} has a field that cannot be hashed, such as a list; make it a tuple"
        ) from None
    _check(num_classes, image_shape, mean, std, dtype)
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
        name: a name in `MODELS`, or `package.module:Module`.

    Returns:
        Option -> default; what the name itself settles, and what has no default, is left out.
    """
    options = MODELS.options(name)
    return {option: said.default for option, said in options.items() if not said.required}


@functools.cache
def _create(
    name: str | nn.Module | Callable[..., nn.Module],
    num_classes: int,
    image_shape: tuple[int, int, int],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    dtype: str,
    axis_name: str | None,
    options: tuple[tuple[str, Any], ...],
) -> Model:
    number, made = jnp.dtype(dtype), name
    if not isinstance(made, nn.Module):
        made = MODELS.create(
            made,
            dict(options),
            num_classes=num_classes,
            image_shape=image_shape,
            dtype=number,
            axis_name=axis_name,
        )
    title = name if isinstance(name, str) else getattr(name, "__name__", type(name).__name__)
    size: int | None = getattr(made, "min_size", None)
    if size is None:
        classifier = outside.adapt(made, title, num_classes, image_shape, mean, std, number)
        return from_module(title, classifier, image_shape)
    if min(image_shape[:2]) < size:
        raise ValueError(
            f"image_shape is {image_shape}; model {title} needs {size} x {size} or more"
        )
    return from_module(title, Classifier(made, num_classes, mean, std, number), image_shape)


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
    if is_channels_first(image_shape):
        raise ValueError(
            f"image_shape is {tuple(image_shape)}, channels first; channels come last: images "
            f"(N, {', '.join(map(str, image_shape))}) become (N, {image_shape[1]}, "
            f"{image_shape[2]}, {image_shape[0]}) by np.moveaxis(images, 1, -1)"
        )
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
