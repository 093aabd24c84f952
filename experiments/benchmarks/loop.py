"""Is one compiled loop as fast as a host loop over compiled gradient steps?

    python -m experiments.benchmarks.loop [--repeats=5] [--torch-python=PATH]

For a CNN (28x28x1, batch 256) and ResNet-18 (32x32x3, batch 32), each in Flax and as a plain
function on `lax.conv_general_dilated`: l-inf PGD and gradient descent on the weights, as

    host       a Python loop over one plain jitted step
    naive      one jit around a loop of plain steps (with --naive)
    loop_safe  one jit around a loop of the same steps with `rbjax.convolution.loop_safe`

in turn, medians over the repeats, compilation apart. Ratios are time per step over that of host.
With a Python that has PyTorch, the same loops by hand in PyTorch stand beside them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.benchmarks import machine, plain
from rbjax import console, models, prng
from rbjax.convolution import loop_safe
from rbjax.typing import Array

Apply = Callable[[Any, Array], Array]
Step = Callable[[Any, Array, Array, Any], Any]


class Case(NamedTuple):
    """One network and how many steps a timed loop of it takes."""

    name: str
    apply: Apply
    variables: Any
    images: Array
    num_steps: int


def make_cases() -> list[Case]:
    """Returns both networks, each in Flax and as a plain function."""
    key = prng.key(0)
    digits, photos = (prng.uniform(key, s) for s in ((256, 28, 28, 1), (32, 32, 32, 3)))
    common: dict[str, Any] = {"num_classes": 10}
    cnn = models.create(
        "simple_cnn", image_shape=(28, 28, 1), mean=[0.13], std=[0.31], widths=(32, 32), **common
    )
    resnet = models.create(
        "resnet18", image_shape=(32, 32, 3), mean=[0.5] * 3, std=[0.25] * 3, **common
    )
    return [
        Case("CNN, Flax", cnn.apply, cnn.init(key, digits), digits, 10),
        Case("CNN, plain", plain.cnn, plain.init_cnn(key), digits, 10),
        Case("ResNet-18, Flax", resnet.apply, resnet.init(key, photos), photos, 5),
        Case("ResNet-18, plain", plain.resnet18, plain.init_resnet18(key), photos, 5),
    ]


def _loss(logits: Array, labels: Array) -> Array:
    return -jnp.sum(jax.nn.log_softmax(logits)[jnp.arange(labels.size), labels])


def attack_step(apply: Apply) -> Step:
    """Returns a step of PGD: (images, clean images, labels, variables) -> images."""

    def step(x: Array, clean: Array, labels: Array, variables: Any) -> Array:
        gradient = jax.grad(lambda x: _loss(apply(variables, x), labels))(x)
        x = x + 2 / 255 * jnp.sign(gradient)
        return jnp.clip(clean + jnp.clip(x - clean, -8 / 255, 8 / 255), 0, 1)

    return step


def training_step(apply: Apply) -> Step:
    """Returns a step of gradient descent: (variables, images, labels, None) -> variables."""

    def step(variables: Any, images: Array, labels: Array, _: Any) -> Any:
        gradient = jax.grad(lambda v: _loss(apply(v, images), labels) / labels.size)(variables)
        return jax.tree.map(lambda v, g: v - 1e-3 * g, variables, gradient)

    return step


def _compiled(function: Callable, *args: Any) -> tuple[Callable, float]:
    """Compiles a function; returns it with the seconds that took."""
    start = time.perf_counter()
    compiled = jax.jit(function).lower(*args).compile()
    return compiled, time.perf_counter() - start


def _timed(function: Callable, *args: Any) -> float:
    start = time.perf_counter()
    jax.block_until_ready(function(*args))
    return time.perf_counter() - start


def _loops(
    case: Case, make_step: Callable[[Apply], Step], args: tuple, *, naive: bool
) -> dict[str, tuple[Callable, float, int]]:
    """Returns each way to loop: its function, the seconds to compile it, its number of steps."""
    one, seconds = _compiled(make_step(case.apply), *args)

    def host(carry: Any, *rest: Any) -> Any:
        for _ in range(case.num_steps):
            carry = one(carry, *rest)
        return carry

    def loop(apply: Apply, num_steps: int) -> tuple[Callable, float, int]:
        step = make_step(apply)

        def run(carry: Any, *rest: Any) -> Any:
            return jax.lax.fori_loop(0, num_steps, lambda _, c: step(c, *rest), carry)

        return *_compiled(run, *args), num_steps

    loops = {
        "host": (host, seconds, case.num_steps),
        "loop_safe": loop(loop_safe(case.apply), case.num_steps),
    }
    return {**loops, "naive": loop(case.apply, 2)} if naive else loops


def measure(
    case: Case, make_step: Callable[[Apply], Step], args: tuple, *, repeats: int, naive: bool
) -> dict[str, tuple[float, float]]:
    """Returns seconds per step and seconds of compilation of the ways to loop.

    Args:
        case: the network.
        make_step: from apply to a step.
        args: what the steps carry, then the step's other arguments.
        repeats: how often each way is timed, in turn with the others; the naive one once.
        naive: whether to time the naive loop too.

    Returns:
        {"host" | "loop_safe" | "naive": (median seconds per step, seconds to compile)}.
    """
    loops = _loops(case, make_step, args, naive=naive)
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for repeat in range(repeats + 1):
        for name, (run, _, num_steps) in loops.items():
            if name == "naive" and repeat != 1:
                continue
            duration = _timed(run, *args) / num_steps
            if repeat:  # the first warms up
                seconds[name].append(duration)
    return {name: (statistics.median(seconds[name]), loops[name][1]) for name in loops}


def torch_version(python: str | None) -> str:
    """Returns the version of a Python's PyTorch, or why PyTorch is skipped."""
    if python is None:
        return "skipped: no --torch-python given"
    command = [python, "-c", "import torch; print(torch.__version__)"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def torch_rate(python: str | None, network: str, task: str, repeats: int) -> float | None:
    """Returns images per second of the hand-written PyTorch loop; None without a Python for it."""
    if python is None:
        return None
    script = Path(__file__).with_name("torch_loop.py")
    command = [python, str(script), network, task, str(repeats)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["images_per_second"]


def _print_row(case: str, task: str, batch: int, measured: dict, torch_rate: float | None) -> None:
    ways = ("host", "naive", "loop_safe")
    rates = [batch / measured[way][0] if way in measured else None for way in ways]
    columns = "".join(f"{rate:10.1f}" if rate else f"{'-':>10}" for rate in [*rates, torch_rate])
    ratio = measured["loop_safe"][0] / measured["host"][0]
    compiled = " ".join(f"{measured[way][1]:5.1f}" if way in measured else "    -" for way in ways)
    print(f"{case:18}{task:8}{columns}{ratio:8.2f}   {compiled}", flush=True)


@console.steady()
def main() -> None:
    """Measures and prints everything."""
    parser = argparse.ArgumentParser(description="Loops of gradients, compiled and not.")
    parser.add_argument("--repeats", type=int, default=5, help="timings of each loop")
    parser.add_argument("--torch-python", help="a Python with PyTorch, for the hand-written loop")
    parser.add_argument("--naive", action="store_true", help="time naive loops too: 15 minutes")
    parser.add_argument("--only", default="", help="part of a network's name")
    arguments = parser.parse_args()
    print(machine.describe())
    print(f"PyTorch   {torch_version(arguments.torch_python)}\n")
    print("images per second; ratio = time per step of loop_safe / of host; seconds to compile")
    print(
        f"{'':26}{'host':>10}{'naive':>10}{'loop_safe':>10}{'PyTorch':>10}{'ratio':>8}   the three"
    )
    for case in make_cases():
        if arguments.only not in case.name:
            continue
        labels = jnp.arange(case.images.shape[0]) % 10
        tasks: dict[str, tuple[Callable, tuple]] = {
            "attack": (attack_step, (case.images, case.images, labels, case.variables)),
            "train": (training_step, (case.variables, case.images, labels, None)),
        }
        for task, (make_step, args) in tasks.items():
            measured = measure(
                case, make_step, args, repeats=arguments.repeats, naive=arguments.naive
            )
            network = case.name.split(",")[0]
            rate = torch_rate(arguments.torch_python, network, task, arguments.repeats)
            _print_row(case.name, task, case.images.shape[0], measured, rate)


if __name__ == "__main__":
    main()
