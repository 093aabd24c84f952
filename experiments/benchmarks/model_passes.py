"""The networks that `models` times, and our side's passes of one."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rbjax import cost, losses, methods, models, prng
from rbjax.convolution import loop_safe
from rbjax.models import torch_layouts
from rbjax.training.state import create_state, place
from rbjax.training.step import Recipe, make_train_step
from rbjax.typing import Array

TASKS = ("forward", "gradient", "train")
MEAN, STD = 0.5, 0.25


class Case(NamedTuple):
    """One network at one size."""

    model: str
    batch: int
    shape: tuple[int, int, int] = (32, 32, 3)
    num_classes: int = 10
    options: dict[str, Any] = {}  # noqa: RUF012 - read only


_DIGITS, _PHOTOS = (28, 28, 1), (224, 224, 3)


def _imagenet(model: str, batch: int, *, size: int = 224, **options: Any) -> Case:
    return Case(model, batch, (size, size, 3), 1000, {"form": "imagenet", **options})


CASES = {
    "simple_cnn": Case("simple_cnn", 128, _DIGITS),
    "mlp": Case("mlp", 128, _DIGITS),
    "lenet5": Case("lenet5", 128, _DIGITS),
    "lenet_modern": Case("lenet_modern", 128, _DIGITS),
    "lenet_conv_pool": Case("lenet_conv_pool", 128, _DIGITS),
    "lenet_average_pool": Case("lenet_average_pool", 128, _DIGITS),
    "vgg_p5": Case("vgg_p5", 128),
    "vgg16_bn": Case("vgg16_bn", 64),
    "resnet18": Case("resnet18", 32),
    "resnet50": Case("resnet50", 16),
    "resnet32": Case("resnet32", 128),
    "preact_resnet18": Case("preact_resnet18", 32),
    "wide_resnet_40_2": Case("wide_resnet", 64, options={"depth": 40, "widen_factor": 2}),
    "wide_resnet_28_10": Case("wide_resnet_28_10", 8),
    "densenet121": Case("densenet121", 16),
    "googlenet": Case("googlenet", 16),
    "inception_v3": Case("inception_v3", 8),
    "squeezenet": Case("squeezenet", 64),
    "resnet50, ImageNet": _imagenet("resnet50", 8),
    "vgg16_bn, ImageNet": _imagenet("vgg16_bn", 4),
    "densenet121, ImageNet": _imagenet("densenet121", 8),
    "inception_v3, ImageNet": _imagenet("inception_v3", 8, size=299),
    "squeezenet1_0, ImageNet": _imagenet("squeezenet", 32),
    "squeezenet1_1, ImageNet": _imagenet("squeezenet", 64, version="1.1"),
    "vgg16, ImageNet": _imagenet("vgg16", 4),
    "resnet34": Case("resnet34", 32),
    "vgg19_bn": Case("vgg19_bn", 64),
    "densenet169": Case("densenet169", 16),
    "wide_resnet_34_10": Case("wide_resnet_34_10", 8),
    "densenet169, ImageNet": _imagenet("densenet169", 8),
}
"""Name -> network; those that differ from another in depth alone come last."""

_OWN_NAMES = {
    "head": "head",
    r"backbone/(\w+)": r"\1",
    r"backbone/(\w+)/(\w+)": r"\1.\2",
}
"""Path of a module -> its name in `torch_models`, where no implementation's names are known."""
for _name in ("simple_cnn", "mlp", "lenet5", "vgg_p5", "squeezenet"):
    _layout = functools.partial(torch_layouts.renamed, rules=_OWN_NAMES)
    torch_layouts.LAYOUTS[_name] = (*torch_layouts.LAYOUTS.get(_name, ()), _layout)


class Passes:
    """Our side: a network with its images, and the passes that are timed."""

    def __init__(self, case: Case, batch: int, dtype: str) -> None:
        """Compiles the passes, on shapes alone.

        Args:
            case: the network.
            batch: images.
            dtype: what it computes in.
        """
        self.model = models.create(
            case.model,
            num_classes=case.num_classes,
            image_shape=case.shape,
            mean=[MEAN] * case.shape[2],
            std=[STD] * case.shape[2],
            dtype=dtype,
            **case.options,
        )
        self.method = methods.create("standard")
        self.optimizer = optax.sgd(1e-4, momentum=0.9)
        self.rows = np.arange(batch, dtype=np.int32)
        generator = np.random.default_rng(0)
        self.images = generator.integers(0, 256, (batch, *case.shape), np.uint8)
        self.labels = generator.integers(0, case.num_classes, batch).astype(np.int32)
        self.floats = jnp.asarray(self.images, jnp.float32) / 255
        arrays = (self.images, self.labels, self.rows, self.rows.reshape(1, 1, -1))
        self._on_device = tuple(map(jnp.asarray, arrays))
        self.variables: Any = None
        self.state: Any = None
        shapes = jax.eval_shape(self.model.init, prng.key(0), self.floats)
        self.num_parameters = sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
        self.flops: dict[str, float] = {}
        self._forward = self._compiled("forward", self._logits, shapes)
        self._gradient = self._compiled("gradient", self._image_gradient, shapes)
        self._train = self._compiled_step(shapes)

    def _logits(self, variables: Any, images: Array) -> Array:
        return loop_safe(self.model.apply)(variables, images)

    def _image_gradient(self, variables: Any, images: Array) -> Array:
        def loss(images: Array) -> Array:
            losses = optax.softmax_cross_entropy_with_integer_labels
            return jnp.sum(losses(self._logits(variables, images), self.labels))

        return jax.grad(loss)(images)

    def _compiled(self, task: str, function: Callable, shapes: Any) -> Any:
        traced = jax.jit(function).trace(shapes, self.floats)
        self.flops[task] = cost.count_flops(traced.jaxpr.jaxpr) / len(self.rows)
        return traced.lower().compile()

    def _compiled_step(self, shapes: Any) -> Any:
        recipe = Recipe(
            model=self.model,
            method=self.method,
            loss_fn=losses.create("cross_entropy"),
            optimizer=self.optimizer,
            augment=lambda key, image: image,
            steps_per_epoch=10,
        )
        device = jax.local_devices()[:1]
        step: Any = make_train_step(recipe, prng.key(1), devices=device)
        state = jax.eval_shape(self._made, shapes)
        began, busy = time.perf_counter(), time.process_time()
        compiled = step.lower(state, *self._on_device).compile()
        self.compile_seconds = time.perf_counter() - began
        self.compile_cpu_seconds = time.process_time() - busy
        jaxpr = jax.make_jaxpr(step)(state, *self._on_device).jaxpr
        self.flops["train"] = cost.count_flops(jaxpr) / len(self.rows)
        return compiled

    def _made(self, weights: Any) -> Any:
        """Returns the state before the first step."""
        rows, key = len(self.rows), prng.key(0)
        return create_state(
            key, self.model, self.method, self.optimizer, num_rows=rows, variables=weights
        )

    def load(self, path: Path) -> None:
        """Reads weights that PyTorch wrote."""
        self.variables = models.from_torch(self.model, path)

    def begin(self) -> None:
        """Makes the training state, in which the weights are from now on."""
        state = jax.device_get(self._made(self.variables))
        self.variables = None
        self.state = place(state, jax.local_devices()[:1])

    def call(self, task: str) -> Any:
        """Makes one pass."""
        if task == "train":
            self.state, metrics = self._train(self.state, *self._on_device)
            return metrics
        variables = self.variables if self.state is None else self.state.variables
        passes = {"forward": self._forward, "gradient": self._gradient}
        return passes[task](variables, self.floats)

    def turn(self, task: str, calls: int, clock: Callable[[], float]) -> float:
        """Returns the seconds of some calls of a pass."""
        began = clock()
        for _ in range(calls):
            result = jax.block_until_ready(self.call(task))
        del result
        return clock() - began
