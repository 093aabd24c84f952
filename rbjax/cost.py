"""What a run will cost: operations counted on shapes, time from two measured steps."""

from __future__ import annotations

import functools
import math
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rbjax import attack_setup, attacks, methods, prng
from rbjax.attacks import suite
from rbjax.config import Config
from rbjax.data import Dataset
from rbjax.models import Model
from rbjax.sheet import Sheet
from rbjax.training import beginning, setup
from rbjax.training.state import TrainState, place
from rbjax.training.step import Recipe, make_train_step
from rbjax.typing import LogitsFn


class Cost(NamedTuple):
    """What a training and its evaluation take."""

    steps: int
    """Training steps."""
    train_flops: float
    """Of all training steps, over all devices."""
    evaluation_flops: float
    """Of the attacks on the test set that are counted."""
    seconds: float
    """Of both, at the rate of two training steps on this machine; without compiling."""
    uncounted: tuple[str, ...]
    """What is left out: attacks whose work depends on the data, validation, RPR, ..."""


def estimate(config: Config, *, passes: int | None = None) -> Cost:
    """Counts the operations of a config's training and evaluation, and times two steps.

    Args:
        config: a resolved config.
        passes: forward passes of one image, in place of the config's evaluation; None: that.

    Returns:
        Its cost.  Operations are those of matrix products and convolutions, 2 for each product of
        two numbers, which are nearly all.

    Raises:
        ValueError: if a part of the config cannot be made.
    """
    if config.task != "train" and passes is None:
        return Cost(0, 0.0, 0.0, 0.0, (f"what task = {config.task} does",))
    train_set, validation_set = setup.load_train(config)
    model = setup.create_model(config, train_set.info)
    method = methods.create(config.method.name, **setup.options(config, "method"))
    devices = jax.local_devices()
    recipe, state = beginning.begin(config, model, method, len(devices), train_set)
    steps = recipe.steps_per_epoch * config.num_epochs
    step_flops, step_seconds = measure_step(config, recipe, state, train_set)
    evaluation_flops, unknown = 0.0, []
    if passes is not None:
        evaluation_flops = passes * _forward(config, model, state, batch_size=1)
    elif config.task == "train":
        evaluation_flops, unknown = _evaluation(config, model, state, train_set)
    left_out = {
        "what the method prepares": method.prepare is not None,
        "what it does between epochs": method.after_epoch or method.average or method.guard,
        "validation": validation_set is not None,
        "corruptions": config.corruptions.name != "none",
        "RPR": config.score.max_steps > 0,
    }
    # In one training step forward, backward and attack passes mix as they do in an attack.
    rate = step_flops / step_seconds
    return Cost(
        steps,
        steps * step_flops,
        evaluation_flops,
        steps * step_seconds + evaluation_flops / rate,
        (*unknown, *(name for name, is_there in left_out.items() if is_there)),
    )


def _forward(config: Config, model: Model, state: TrainState, batch_size: int) -> float:
    """Returns the operations of classifying one batch."""
    logits_fn = jax.tree_util.Partial(model.apply, state.variables)
    shape = (batch_size, *setup.info(config).image_shape)
    return count_flops(jax.make_jaxpr(logits_fn)(jax.ShapeDtypeStruct(shape, jnp.float32)).jaxpr)


def measure_step(
    config: Config, recipe: Recipe, state: TrainState, train_set: Dataset
) -> tuple[float, float]:
    """Returns the operations of one training step, and the seconds that each of two takes.

    Args:
        config: a resolved config.
        recipe: of `beginning.begin`, as is the state.
        state: before the first step, on the host.
        train_set: what is trained on.
    """
    devices = jax.local_devices()
    step = make_train_step(recipe, prng.key(config.seed), devices=devices)
    some = train_set.take(np.arange(config.batch_size))
    images = np.asarray(some.images)
    rows = np.arange(config.batch_size, dtype=np.int32).reshape(len(devices), 1, -1)
    batch = (images, some.labels, some.example_ids, rows)
    placed = place(state, devices)
    flops = len(devices) * count_flops(jax.make_jaxpr(step)(placed, *batch).jaxpr)
    seconds: list[float] = []
    for _ in range(4):  # the first compiles, and the second warms up
        started = time.perf_counter()
        placed, metrics = step(placed, *batch)
        jax.block_until_ready((placed, metrics))
        seconds.append(time.perf_counter() - started)
    return flops, sum(seconds[2:]) / 2


def _evaluation(
    config: Config, model: Model, state: TrainState, train_set: Dataset
) -> tuple[float, list[str]]:
    """Returns the operations of the clean test set and of its compiled attacks, and the others."""
    test = setup.load_test(config)
    logits_fn = jax.tree_util.Partial(model.apply, state.variables)
    images = jax.ShapeDtypeStruct((config.batch_size, *test.info.image_shape), jnp.float32)
    labels = jax.ShapeDtypeStruct((config.batch_size,), jnp.int32)
    flops, uncounted = _forward(config, model, state, config.batch_size), []
    # Nothing is crafted here, on whatever images.
    made = attack_setup.create(config, train_set, test, validation=train_set)
    for label, attack in made.attacks.items():
        if isinstance(attack, suite.Driver):
            uncounted.append(label)
            continue
        targets = labels if label in made.targets else None
        call = functools.partial(attack, logits_fn, prng.key(0), targets=targets)
        flops += count_flops(jax.make_jaxpr(call)(images, labels).jaxpr)
    return math.ceil(test.num_examples / config.batch_size) * flops, uncounted


class Rates(NamedTuple):
    """Seconds of a pass of one image through a model, in blocks, on this machine."""

    forward: float
    backward: float

    def seconds(self, passes: attacks.Passes) -> float:
        """Returns what some passes take."""
        return passes.forwards * self.forward + passes.backwards * self.backward


def measure_passes(logits_fn: LogitsFn, dataset: Dataset, *, batch_size: int) -> Rates:
    """Times two blocks that are classified, and two that PGD attacks with a few steps.

    Args:
        logits_fn: images -> logits.
        dataset: images of which there are enough for a block, or all of them are one.
        batch_size: images of a block.
    """
    size = min(batch_size, dataset.num_examples)
    shape, num_classes = dataset.info.image_shape, dataset.info.num_classes
    entry = attacks.pgd(epsilon=8 / 255, norm="linf", num_steps=_STEPS)
    made = attacks.count_passes(entry, image_shape=shape, num_classes=num_classes)
    assert made is not None

    def seconds(entries: dict[str, Any], num_blocks: int) -> float:
        some = dataset.take(np.arange(num_blocks * size) % dataset.num_examples)
        started = time.perf_counter()
        attacks.run_attacks(
            logits_fn,
            prng.key(0),
            np.asarray(some.images),
            some.labels,
            attacks=entries,
            batch_size=size,
        )
        return time.perf_counter() - started

    seconds({"pgd": entry}, 1)  # compiles
    forward = seconds({}, 2) / (2 * size)
    attacked = seconds({"pgd": entry}, 2) / (2 * size) - forward
    backward = (attacked - made.forwards * forward) / made.backwards
    return Rates(forward, max(backward, 0.0))


_STEPS = 4


def count_flops(jaxpr: Any) -> float:
    """Counts the floating-point operations of the products and convolutions of a traced program.

    A scan counts as often as it runs, a `while_loop` whose end depends on the data once, and of the
    branches of a `cond` the dearest.  (XLA's own cost analysis counts the body of a loop once.)

    Args:
        jaxpr: `jax.make_jaxpr(fn)(*args).jaxpr`; under `pmap`, what one device does.

    Returns:
        2 for each product of two numbers that is added up.
    """
    total = 0.0
    for equation in jaxpr.eqns:
        name, parameters = equation.primitive.name, equation.params
        if name == "dot_general":
            (contracted, _), _ = parameters["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            depth = math.prod(shape[axis] for axis in contracted)
            total += 2.0 * math.prod(equation.outvars[0].aval.shape) * depth
        elif name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            features = kernel[parameters["dimension_numbers"].rhs_spec[0]]
            total += 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) / features
        elif name in _LOOP_SAFE:
            outputs, kernel = (_side(equation, which).aval.shape for which in _LOOP_SAFE[name])
            total += 2.0 * math.prod(outputs[:3]) * math.prod(kernel)
        elif name == "cond":
            total += max(count_flops(branch.jaxpr) for branch in parameters["branches"])
        else:
            times = parameters["length"] if name == "scan" else 1
            total += times * sum(count_flops(inner) for inner in _inner(parameters))
    return total


_LOOP_SAFE = {
    "loop_safe_conv": (-1, 1),
    "loop_safe_conv_image_gradient": (0, 1),
    "loop_safe_conv_kernel_gradient": (1, -1),
}
"""Of the primitives of `rbjax.convolution`, which operand (-1: the result) is, or is the gradient
of, the convolution's result, and which its kernel."""


def _side(equation: Any, which: int) -> Any:
    return equation.outvars[0] if which < 0 else equation.invars[which]


def _inner(parameters: dict[str, Any]) -> Iterator[Any]:
    """Yields the programs that an equation calls."""
    for value in parameters.values():
        inner = getattr(value, "jaxpr", value)
        if hasattr(inner, "eqns"):
            yield inner


# ------------------------------------------------------------------ what parts come to


class Part(NamedTuple):
    """A part of a job."""

    name: str
    size: str
    """How much of it there is: "600 steps of 64 images"."""
    seconds: float | None
    """None: not known beforehand."""
    is_most: bool = False
    """Whether it may end earlier."""


def times(parts: Sequence[Part]) -> str:
    """Returns a table of the parts of a job, and what they come to.

    Args:
        parts: that were measured here.
    """
    known = [part for part in parts if part.seconds is not None]
    unknown = [part.name for part in parts if part.seconds is None]
    columns = {
        "part": [part.name for part in parts],
        "how much": [part.size for part in parts],
        "time": [
            "not known"
            if part.seconds is None
            else f"{'at most ' if part.is_most else ''}{spoken(part.seconds)}"
            for part in parts
        ],
    }
    total = spoken(sum(part.seconds or 0.0 for part in known))
    most = "at most " if any(part.is_most for part in known) else ""
    devices = jax.local_devices()
    where = f"{len(devices)} x {devices[0].device_kind}"
    title = f"time on {where}, from two measured steps or blocks of each; without compiling"
    left_out = f", and what is not known: {', '.join(unknown)}" if unknown else ""
    return f"{Sheet(title, columns)}\nin all {most}{total}{left_out}"


def memory() -> str:
    """Returns the largest memory that was in use, which the job itself will need too."""
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    stats = jax.local_devices()[0].memory_stats() or {}
    on_device = ""
    if "peak_bytes_in_use" in stats:
        limit = f" of {size_of(stats['bytes_limit'])}" if "bytes_limit" in stats else ""
        on_device = f"; {size_of(stats['peak_bytes_in_use'])}{limit} on the device"
    return f"memory: {size_of(peak)} at most so far, with these steps and blocks{on_device}"


def spoken(seconds: float) -> str:
    """Returns a time as people say it: "7.2 s", "12 min"."""
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 90:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 5400 else f"{seconds / 3600:.3g} h"


def size_of(num_bytes: float) -> str:
    """Returns a number of bytes as people say it: "1.2 GiB"."""
    for unit in ("bytes", "KiB", "MiB"):
        if num_bytes < 1024:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.3g} GiB"
