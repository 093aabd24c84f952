"""What a run will cost: time from two measured steps or blocks, operations counted on shapes."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from rbjax import attacks, prng
from rbjax.config import Config
from rbjax.data import Dataset
from rbjax.sheet import Sheet
from rbjax.training.state import TrainState, place
from rbjax.training.step import Recipe, make_train_step
from rbjax.typing import LogitsFn


class Step(NamedTuple):
    """What one training step takes."""

    seconds: float
    flops: float
    """Of matrix products and convolutions, over all devices."""


def measure_step(config: Config, recipe: Recipe, state: TrainState, train_set: Dataset) -> Step:
    """Returns what a training step takes, by two that are timed and the traced program.

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
    placed, seconds = place(state, devices), list[float]()
    flops = len(devices) * count_flops(jax.make_jaxpr(step)(placed, *batch).jaxpr)
    for _ in range(4):  # the first compiles, and the second warms up
        started = time.perf_counter()
        placed, metrics = step(placed, *batch)
        jax.block_until_ready((placed, metrics))
        seconds.append(time.perf_counter() - started)
    return Step(sum(seconds[2:]) / 2, flops)


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
    steps: int = 0
    """Training steps."""
    flops: float = 0.0
    """Theirs."""


def times(parts: Sequence[Part]) -> str:
    """Returns a table of the parts of a job, and what they come to.

    Args:
        parts: that were measured here.
    """
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
    title = f"time on {where()}, from two measured steps or blocks of each; without compiling"
    total = in_all(parts)
    left_out = f", and what is not known: {', '.join(total.unknown)}" if total.unknown else ""
    most = "at most " if total.is_most else ""
    return f"{Sheet(title, columns)}\nin all {most}{spoken(total.seconds)}{left_out}"


def where() -> str:
    """Returns the devices that are measured on."""
    devices = jax.local_devices()
    return f"{len(devices)} x {devices[0].device_kind}"


class Total(NamedTuple):
    """What parts come to."""

    seconds: float
    """Of those that are known."""
    is_most: bool
    """Whether any of them may end earlier."""
    unknown: tuple[str, ...]
    """The names of the others."""


def in_all(parts: Sequence[Part]) -> Total:
    """Returns what parts come to."""
    known = [part for part in parts if part.seconds is not None]
    return Total(
        sum(part.seconds or 0.0 for part in known),
        any(part.is_most for part in known),
        tuple(part.name for part in parts if part.seconds is None),
    )


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
